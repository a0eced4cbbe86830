"""Compressed texts of a pack, up to a size: a file of kilobytes can stand for more than the memory holds."""

from __future__ import annotations

import gzip
import io
import zlib

ALWAYS = 2**28
"""Bytes (256 MiB) that any text may have."""
LARGEST_RATIO = 100
"""Times the compressed size that a larger text may have. Records of cells shrink 6 to 12 times, and zlib reaches 1,000
on a text that repeats one character."""


def gunzip(data: bytes) -> bytes:
    """The text of a gzip file. Raises ValueError for one that is too large, and OSError, EOFError or zlib.error for one
    that is corrupt."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return _checked(file.read(_largest(data) + 1), data)


def inflate(data: bytes) -> bytes:
    """The text of zlib's format. Raises as `gunzip` does."""
    decompressor = zlib.decompressobj()
    text = _checked(decompressor.decompress(data, _largest(data) + 1), data)
    if not decompressor.eof:
        raise EOFError("it is cut off")
    return text


def _largest(data: bytes) -> int:
    return max(ALWAYS, LARGEST_RATIO * len(data))


def _checked(text: bytes, data: bytes) -> bytes:
    if len(text) > _largest(data):
        raise ValueError(
            f"its {len(data):,} bytes decompress to more than {_largest(data):,}, which no records of cells do"
        )
    return text
