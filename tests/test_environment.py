"""The ground floor: which code is at work, and how contents are hashed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from bench.environment import commit_of
from bench.hashing import short_hash


def test_only_changed_code_makes_a_commit_dirty(tmp_path: Path) -> None:
    code, results = tmp_path / "code", tmp_path / "results"

    def git(*arguments: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", "-C", tmp_path, *author, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    for folder in (code, results):
        folder.mkdir()
        (folder / "file").write_text("1")
    assert commit_of(code) is None
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    commit = git("rev-parse", "HEAD")[:12]
    assert commit_of(code) == commit
    (results / "file").write_text("2")
    (results / "another").write_text("")
    assert commit_of(code) == commit
    (code / "another").write_text("")
    assert commit_of(code) == f"{commit}-dirty"
    (code / "another").unlink()
    (code / "file").write_text("2")
    assert commit_of(code) == f"{commit}-dirty"
    ignored = tmp_path / "ignored"
    ignored.mkdir()
    (ignored / "file").write_text("")
    assert commit_of(ignored) is None


def test_a_short_hash_is_the_beginning_of_a_sha256() -> None:
    # The value for "abc" that FIPS 180-2 publishes begins like this.
    assert short_hash("abc") == "ba7816bf8f01cfea" and short_hash("abc", digits=8) == "ba7816bf"
    assert short_hash("ä", digits=64) == hashlib.sha256("ä".encode()).hexdigest()


def test_parts_are_hashed_one_after_another() -> None:
    assert short_hash("ab", b"c") == short_hash("abc")
    assert short_hash() == hashlib.sha256().hexdigest()[:16]
