"""Removes secrets from texts of a server.

Servers are known to repeat the key in error messages, and a hostile one can put it into any field of a reply, reversed
or encoded. Such a text would end in the files of judgments and in the report.
"""

from __future__ import annotations

import base64
import codecs
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

SHORTEST_SECRET = 6
"""Characters. A shorter key (`EMPTY`, of a local server) is no secret, and occurs in ordinary text."""

_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_GAP = rf"[\s{_INVISIBLE}]*"
"""What may stand between the characters of a secret that was spelled out or wrapped."""


class Redactor:
    """Replaces secrets, and their usual encodings, by `***`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        # The longest first: a form that holds another is replaced as a whole.
        self._patterns = {
            _squeezed(form): _GAP.join(map(re.escape, form)) for form in sorted(forms, key=len, reverse=True)
        }

    def __call__(self, text: str) -> str:
        # A search for all forms at once takes seconds on a text of megabytes, in which no other request proceeds.
        squeezed = _squeezed(text) if self._patterns else ""
        present = [pattern for form, pattern in self._patterns.items() if form in squeezed]
        return re.sub("|".join(present), "***", text, flags=re.IGNORECASE) if present else text


def _squeezed(text: str) -> str:
    """A text without what may stand between the characters of a secret, and without its case."""
    text = "".join(text.split())
    for character in _INVISIBLE:
        text = text.replace(character, "")
    return text.casefold()


def _forms(secret: str) -> Iterator[str]:
    """A secret as a text may hold it: as it is, reversed, and each of both encoded; what was encoded, reversed too."""
    for text in (secret, secret[::-1]):
        encoded = text.encode()
        yield text
        yield codecs.encode(text, "rot13")
        yield html.escape(text)
        yield quote(text, safe="")
        yield json.dumps(text)[1:-1]
        yield "".join(f"\\u{ord(letter):04x}" for letter in text)
        for unit in ("%", "\\x", "0x", "&#x", ""):
            yield "".join(f"{unit}{byte:02x}{';' * unit.startswith('&')}" for byte in encoded)
        yield "".join(f"&#{byte};" for byte in encoded)
        yield base64.b32encode(encoded).decode().rstrip("=")[:-1]
        for form in _base64_forms(encoded):
            yield form
            yield form[::-1]


def _base64_forms(secret: bytes) -> Iterator[str]:
    """The characters of base64 that depend on nothing but the secret, wherever it begins in what was encoded."""
    for offset in range(3):
        # A character holds six bits: those at both ends may hold bits of the neighbours.
        first, last = -(-8 * offset // 6), 8 * (offset + len(secret)) // 6
        characters = base64.b64encode(bytes(offset) + secret).decode()[first:last]
        yield characters
        yield characters.translate(str.maketrans("+/", "-_"))
