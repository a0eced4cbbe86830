"""Workers as processes, apart from what they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.runner.workers import Local, Slot


def opened(gate: Path, padding: bytes) -> str:
    """Waits for a file; more than a pipe holds comes with it."""
    for _ in range(200):
        if gate.exists():
            return "read"
        time.sleep(0.1)
    raise TimeoutError


class Slow:
    """What takes its time to be read in a new process, as a task does where the libraries must be loaded for it."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def __reduce__(self) -> Any:
        return opened, (self.gate, b" " * 1_000_000)


def test_no_worker_waits_until_the_one_before_has_loaded(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    crew = Local(Slow(gate), [Slot("one"), Slot("two")])
    try:
        assert [worker.died() for worker in crew.workers] == [None, None]
        gate.touch()  # only now can either read its task
        assert [worker.died() for worker in crew.workers] == [None, None]
    finally:
        crew.stop()
