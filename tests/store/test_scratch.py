"""Temporary folders of processes that end and of processes that are killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.store.scratch import ScratchFolder, remove_leftovers

PROCESS = """
import os, signal, sys
from bench.store.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "context").write_text("x")
print(folder.path, flush=True)
sys.stdin.readline()
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder of temporary files, during a test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.parametrize("end", ["killed", "at its end"])
def test_a_folder_is_removed_at_the_end_or_by_the_next_process(temporary: Path, end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, end], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    assert path.parent == temporary and path.is_dir()
    with ScratchFolder():
        assert (path / "context").is_file()  # its process lives
    process.communicate("\n")
    assert path.is_dir() == (end == "killed")
    with ScratchFolder() as folder:
        assert {entry.name for entry in temporary.iterdir()} == {folder.path.name, f"{folder.path.name}.lock"}
    assert list(temporary.iterdir()) == []


def test_folders_of_others_stay(temporary: Path) -> None:
    """One without a lock beside it, a link to a folder, and a file."""
    (temporary / "bench-old").mkdir()
    (temporary / "elsewhere").mkdir()
    (temporary / "bench-link").symlink_to(temporary / "elsewhere")
    (temporary / "bench-link.lock").touch()
    (temporary / "bench-file").touch()
    (temporary / "bench-file.lock").touch()
    before = {entry.name for entry in temporary.iterdir()}
    remove_leftovers()
    assert {entry.name for entry in temporary.iterdir()} == before


def test_a_folder_is_for_its_user_alone(temporary: Path) -> None:
    with ScratchFolder("kind-") as folder:
        assert folder.path.name.startswith("bench-kind-")
        assert folder.path.stat().st_mode & 0o077 == 0
    folder.cleanup()  # a second time, nothing
