"""Which processes use the plan of a results folder: many with the same plan, or one that changes it.

plan.json and sweep.yaml say which cells and scores the folder is to have. A process with another plan would write its
own in their place, and the report of the process before would lack scores. So each holds a lock, named after its plan
and itself, from before it reads the plan until it has written its last report.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.store.folder import Results
from bench.store.locks import PACK, holding, locked_names

PLAN = "plan"
"""The lock of whoever looks which processes use the plan."""
ALONE = "alone"
"""In place of a plan's hash: of a process that reads the plan in order to change it."""
WAIT_SECONDS = 1.0
"""Between two looks whether the others have ended."""


@dataclass(frozen=True)
class PlanUser:
    """A process that uses a plan."""

    plan: str
    """The plan's hash, or ALONE."""
    process: int
    since: int
    """Seconds since 1970."""
    host: str
    token: str
    """Distinguishes the users within a process."""

    @classmethod
    def this(cls, plan: str) -> PlanUser:
        host = re.sub(r"[^\w.-]", "_", platform.node())
        return cls(plan, os.getpid(), int(time.time()), host, secrets.token_hex(4))

    @classmethod
    def of(cls, lock: str) -> PlanUser | None:
        """Who holds a lock of this name; None for the lock of another kind."""
        match = re.fullmatch(rf"{PLAN}@(\w+)@(\d+)@(\d+)@([\w.-]*)@(\w+)", lock)
        return match and cls(match[1], int(match[2]), int(match[3]), match[4], match[5])

    @property
    def lock(self) -> str:
        return f"{PLAN}@{self.plan}@{self.process}@{self.since}@{self.host}@{self.token}"

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).isoformat(" ", "minutes")
        return f"process {self.process} on {self.host}, since {since}"


@contextmanager
def using_plan(results: Results, plan: str | None, say: Callable[[str], object]) -> Iterator[None]:
    """Use the plan of a folder together with processes of the same plan (its hash), or alone (None).

    Waits until no process with another plan uses the folder, and prints by `say` for whom. Raises UserError where the
    folder cannot be written to, or knows no locks.
    """
    user, announced = PlanUser.this(plan or ALONE), ""
    created = [path for path in (results.path, *results.path.parents) if not path.exists()]
    with ExitStack() as held:
        while (other := _enter(results, user, held)) is not None:
            if other and other != announced:
                say(f"{results.path} is used by {other}; waiting until that has ended (Ctrl-C to give up)")
                announced = other
            time.sleep(WAIT_SECONDS if other else WAIT_SECONDS / 10)
        try:
            yield
        finally:
            _lock_file(results, user).unlink(missing_ok=True)
            if created:
                _remove_empty(results, created)


def plan_users(results: Results) -> list[PlanUser]:
    """The processes that use the plan now; files that ended ones have left are removed."""
    users = []
    for user in map(PlanUser.of, locked_names(results)):
        if user is not None:
            with holding(results, user.lock) as ended:
                if ended:
                    _lock_file(results, user).unlink(missing_ok=True)
                else:
                    users.append(user)
    return users


def _enter(results: Results, user: PlanUser, held: ExitStack) -> str | None:
    """Become a user of the plan: None if that is so, else who is in the way (empty for one that only looks)."""
    with holding(results, PLAN) as looking:
        if not looking:
            return ""
        for other in plan_users(results):
            if ALONE in (user.plan, other.plan) or user.plan != other.plan:
                return str(other)
        with ExitStack() as entered:
            entered.enter_context(holding(results, user.lock))
            # Packing looks at all other locks while it holds its own, so never do both go on.
            with holding(results, PACK) as free:
                if free:
                    held.enter_context(entered.pop_all())
                    return None
        _lock_file(results, user).unlink(missing_ok=True)
        return "`bench pack` or `bench unpack`"


def _remove_empty(results: Results, created: Sequence[Path]) -> None:
    """Remove the folders that were created for a lock, the innermost first, as far as nothing was written into them."""
    locks = results.path / "locks"
    with holding(results, PLAN) as alone:
        if not alone or any(path != locks for path in results.path.iterdir()) or plan_users(results):
            return
        for name in (PLAN, PACK):
            (locks / f"{name}.lock").unlink(missing_ok=True)
        for folder in (locks, *created):
            try:
                folder.rmdir()
            except OSError:
                return


def _lock_file(results: Results, user: PlanUser) -> Path:
    return results.path / "locks" / f"{user.lock}.lock"
