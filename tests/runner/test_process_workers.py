"""Workers that are processes, whatever they run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.runner.process_workers import ProcessCrew, Slot


def wait_for(gate: Path, padding: bytes) -> str:
    """Waits for a file; `padding` is more than a pipe holds."""
    for _ in range(200):
        if gate.exists():
            return "read"
        time.sleep(0.1)
    raise TimeoutError


class SlowToLoad:
    """An object that a new process takes long to unpickle, as it does a context, for which it loads the libraries."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def __reduce__(self) -> Any:
        return wait_for, (self.gate, b" " * 1_000_000)


def test_a_worker_does_not_wait_until_the_one_before_has_loaded(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    crew = ProcessCrew(SlowToLoad(gate), [Slot("first"), Slot("second")])
    try:
        assert [worker.death() for worker in crew.workers] == [None, None]
        gate.touch()  # only now can either of them read its context
        assert [worker.death() for worker in crew.workers] == [None, None]
    finally:
        crew.stop()


def test_workers_start_where_the_path_of_temporary_files_is_longer_than_a_socket_may_have(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    code = (
        "from bench.runner.forkserver import worker_context\n"
        "if __name__ == '__main__':\n"
        "    process = worker_context().Process(target=print, args=('started',))\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "started\n", done.stderr
