"""The errors that are not bugs: each is shown as one message, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user must fix. Says what was given, what is allowed, and how to fix it.

    The command line prints it and exits with code 2.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}\n  {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


class OutOfReach(UserError):
    """Data that would have come from a hub."""


class CellProblem(UserError):
    """A user's error that concerns one cell alone: the cell is recorded as failed and the sweep goes on."""


class Diverged(Exception):
    """A training whose loss or gradient is no longer finite. The cell is recorded as `diverged`."""


def out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left, in whatever words the library says it."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def unknown(kind: str, given: object, allowed: Iterable[str]) -> UserError:
    """A UserError for a name that is not among the allowed ones, with the nearest of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {given!r}", f"{hint}Allowed: {', '.join(names)}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
