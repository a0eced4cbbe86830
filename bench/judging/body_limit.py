"""A limit on the body of a response, as it is sent and as it is decompressed, whatever its status.

This module imports the HTTP client of the package openai: import it where that package is needed.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx2

LARGEST_BODY = 4 * 2**20
"""Bytes. A reply of 100,000 tokens has about half a megabyte."""
ACCEPTED = {"Accept-Encoding": "gzip, deflate"}
"""The compressions that are read here; a request asks for no other."""
ONE_REQUEST = httpx2.Limits(max_keepalive_connections=0)
"""Each request has a connection of its own. What a server sends beyond a reply would be read as the reply to the next
request, and a connection that the server has closed meanwhile would lose a request that may be charged."""


class UnreadableBody(Exception):
    """The body is too large, or its compression cannot be read. The same request would meet this again."""


async def limit_body(response: httpx2.Response) -> None:
    """A response hook: the body is read as UTF-8, up to `LARGEST_BODY`, and then raises UnreadableBody."""
    coding = response.headers.pop("content-encoding", "identity").strip().lower()
    # A server could name any of Python's codecs as its character set.
    response.headers["content-type"] = "application/json"
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise TypeError("the response was not sent by an asynchronous client")
    response.stream = _LimitedStream(response.stream, coding)


class _LimitedStream(httpx2.AsyncByteStream):
    """A stream of bytes, decompressed."""

    def __init__(self, stream: httpx2.AsyncByteStream, coding: str) -> None:
        self.stream, self.coding = stream, coding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.coding not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise UnreadableBody(f"the reply is compressed by {self.coding}, which was not asked for")
        compressed = self.coding not in ("identity", "")
        decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip and zlib
        received = size = 0
        async for chunk in self.stream:
            received += len(chunk)
            content = self._decompressed(decompressor, chunk, LARGEST_BODY - size + 1) if compressed else chunk
            size += len(content)
            if max(received, size) > LARGEST_BODY:
                raise UnreadableBody(f"the reply is larger than {LARGEST_BODY // 2**20} MiB")
            yield content

    def _decompressed(self, decompressor: zlib._Decompress, chunk: bytes, most: int) -> bytes:
        try:
            return decompressor.decompress(chunk, most)
        except zlib.error as error:
            raise UnreadableBody(f"the reply is not compressed by {self.coding}, as it says ({error})") from None

    async def aclose(self) -> None:
        await self.stream.aclose()
