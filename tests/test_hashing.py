"""The short content hashes."""

from __future__ import annotations

import hashlib

from bench.hashing import short_hash


def test_a_short_hash_is_the_beginning_of_a_sha256() -> None:
    # The value for "abc" that FIPS 180-2 publishes begins like this.
    assert short_hash("abc") == "ba7816bf8f01cfea" and short_hash("abc", digits=8) == "ba7816bf"
    assert short_hash("ä", digits=64) == hashlib.sha256("ä".encode()).hexdigest()


def test_parts_are_hashed_one_after_another() -> None:
    assert short_hash("ab", b"c") == short_hash("abc")
    assert short_hash() == hashlib.sha256().hexdigest()[:16]
