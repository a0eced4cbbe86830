"""What a cell's record says of the harness's own code."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.environment import commit_of


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
