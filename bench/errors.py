"""Errors that are no bugs of the harness: each is shown as one message, without a traceback."""

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


class SettingsError(UserError):
    """Settings that are wrong whatever the base model: the sweep file must be changed."""


class OutOfReach(UserError):
    """Data that the hub does not give: no network, or no access."""


class CellProblem(UserError):
    """A user's error that concerns one cell only: the cell is recorded as failed, and the sweep continues."""


class Diverged(Exception):
    """The loss or a gradient of a training is not finite. The cell is recorded as `diverged`."""


def out_of_memory(error: BaseException) -> bool:
    """True if the device or the machine ran out of memory, whatever error the library raises for it."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def unknown(kind: str, given: object, allowed: Iterable[str]) -> UserError:
    """A UserError for a name that is not allowed, with the allowed names and the nearest of them."""
    names = sorted(allowed)
    nearest = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(f"unknown {kind} {shortened(given)}", f"{hint}Allowed: {', '.join(names)}.")


def shortened(value: object, characters: int = 80) -> str:
    """A value as a message shows it, without the end of a long one."""
    text = repr(value)
    return text if len(text) <= characters else f"{text[:characters]}..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
