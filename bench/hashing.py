"""The short content hashes that identify cells, questions, prompts and records."""

from __future__ import annotations

import hashlib


def short_hash(*parts: str | bytes, digits: int = 16) -> str:
    """The first hex digits of the sha256 of the parts, one after another without a separator; text is UTF-8.

    A change here renames every cell's folder.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:digits]
