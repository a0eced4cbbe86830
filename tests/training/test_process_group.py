"""Processes of a group: the error that reaches the launching process."""

from __future__ import annotations

import pytest
import torch
from torch.multiprocessing import ProcessExitedException

from bench.errors import Diverged, out_of_memory
from bench.training.process_group import ProcessFailure, Send, error_of, launch


def failing(rank: int, send: Send) -> None:
    if rank == 1:
        raise Diverged("loss is nan")
    torch.distributed.barrier()  # until the other process has gone


@pytest.mark.slow
def test_the_error_of_a_process_is_that_of_the_training() -> None:
    with pytest.raises(Diverged, match="loss is nan"):
        launch(failing, 2, lambda *message: None)


def test_the_first_failure_is_the_error() -> None:
    first = ProcessFailure(1, "MemoryError", "no room")
    later = ProcessFailure(0, "RuntimeError", " at x.py:3: connection closed")
    assert out_of_memory(error_of([first, later], Exception()))
    assert "process 0 at x.py:3" in str(error_of([later], Exception()))
    killed = ProcessExitedException("process 0 terminated", 0, 1, -9, "SIGKILL")
    assert out_of_memory(error_of([], killed))
