"""Who else is on the device, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.costs import Occupancy

ANOTHER = """
import sys, pathlib
from bench.costs import Occupancy
with Occupancy(pathlib.Path(sys.argv[1])) as occupancy:
    print("there", flush=True)
    sys.stdin.readline()
    print(occupancy.marker.read_text() == "shared", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another(folder: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", ANOTHER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        yield process


def test_two_cells_on_one_device_both_know_it_and_a_killed_one_disturbs_nobody(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        with Occupancy(tmp_path) as occupancy:
            assert occupancy.marker.read_text() == "shared" and occupancy.shared
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"  # though it was alone when it began
        with Occupancy(tmp_path) as occupancy:
            assert occupancy.marker.read_text() == "shared"
        process.kill()
        process.wait()
        assert (tmp_path / str(process.pid)).exists()
        with Occupancy(tmp_path) as occupancy:
            assert occupancy.marker.read_text() == ""
        assert list(tmp_path.iterdir()) == []


def test_the_load_of_others_is_seen(tmp_path: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy,
        Occupancy(tmp_path) as occupancy,
    ):
        time.sleep(1)
        assert 0.1 < occupancy.others_cpu <= 1 and occupancy.shared
        busy.kill()


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Occupancy(tmp_path / "file" / "folder") as occupancy:
        assert occupancy.others_cpu >= 0
