"""Texts that follow from a key, this package's code and the libraries alone, kept in the cache folder.

A plan tries settings and counts their work; the next plan of the same settings finds what the last one came to.
"""

from __future__ import annotations

import functools
import json
from contextlib import suppress
from pathlib import Path

from bench.environment import package_versions
from bench.errors import UserError
from bench.hashing import short_hash
from bench.models.packaged import cache_folder
from bench.store.files import write_text


def read_kept(kind: str, key: str) -> str | None:
    """The text that `keep_text` wrote for this key; None if there is none, or code or libraries are others now."""
    try:
        return _path(kind, key).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def keep_text(kind: str, key: str, text: str) -> None:
    """Write a text for a key. Without a writable folder nothing is kept."""
    with suppress(UserError):
        write_text(_path(kind, key), text)


def _path(kind: str, key: str) -> Path:
    return cache_folder() / kind / short_hash(key, _code(), json.dumps(package_versions(), sort_keys=True))


@functools.cache
def _code() -> str:
    """A hash of this package's code."""
    package = Path(__file__).parent.parent
    return short_hash(*(path.read_bytes() for path in sorted(package.rglob("*.py"))))
