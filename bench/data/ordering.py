"""Orders of rows that depend on their content and a seed alone, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Keyed(Protocol):
    """A row with a content hash."""

    @property
    def key(self) -> str: ...


T = TypeVar("T")
K = TypeVar("K", bound=Keyed)


def canonical_order(rows: Iterable[K]) -> list[K]:
    """Sorted by content hash: two origins that hold the same rows in another order give the same subsets."""
    return sorted(rows, key=lambda row: row.key)


def seeded_shuffle(rows: Iterable[T], seed: str) -> list[T]:
    """The rows in the order that this seed gives.

    The seed is a text, because Python hashes a text to seed from it: the same on every machine and version since 3.2.
    """
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return shuffled
