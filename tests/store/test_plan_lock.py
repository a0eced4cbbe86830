"""Processes that use the plan of one folder: those of the same plan together, one that changes the plan alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.store.folder import Results
from bench.store.pack import pack
from bench.store.plan_lock import PlanUser, plan_users, using_plan

PROCESS = """
import sys
from pathlib import Path
from bench.store.folder import Results
from bench.store.plan_lock import using_plan
with using_plan(Results(Path(sys.argv[1])), sys.argv[2], print):
    print("entered", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(folder: Path, plan: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the plan until it is killed."""
    arguments = [sys.executable, "-c", PROCESS, str(folder), plan]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "entered\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("plan", ["other", None])
def test_a_process_with_another_plan_waits_and_says_for_whom(tmp_path: Path, plan: str | None) -> None:
    told: list[str] = []
    entered = threading.Event()

    def wait() -> None:
        with using_plan(Results(tmp_path), plan, told.append):
            entered.set()

    with other_process(tmp_path, "plan") as process:
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(1.5)
        assert len(told) == 1 and f"{tmp_path} is used by process {process.pid} on " in told[0], told
        process.kill()  # the lock dies with it
        assert entered.wait(20)
        thread.join()
    assert plan_users(Results(tmp_path)) == [] and not list((tmp_path / "locks").glob("plan@*"))


def test_processes_with_the_same_plan_share_it(tmp_path: Path) -> None:
    with other_process(tmp_path, "plan") as process, using_plan(Results(tmp_path), "plan", pytest.fail):
        assert {user.process for user in plan_users(Results(tmp_path))} >= {process.pid}
        assert len(plan_users(Results(tmp_path))) == 2


def test_a_folder_in_use_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with other_process(tmp_path, "plan") as process, pytest.raises(UserError, match=f"process {process.pid} on "):
        pack(Results(tmp_path))
    with pytest.raises(UserError, match="no cells to pack"):
        pack(Results(tmp_path))


def test_a_users_lock_says_who_it_is() -> None:
    user = PlanUser.this("0123abcd")
    assert PlanUser.of(user.lock) == user
    assert PlanUser.of("lora-r2-n32-s0-5c70971b") is None and PlanUser.of("plan") is None


def test_a_folder_that_nothing_was_written_into_is_not_left(tmp_path: Path) -> None:
    results = Results(tmp_path / "out" / "sweep")
    with pytest.raises(UserError, match="bad"), using_plan(results, "plan", pytest.fail):
        raise UserError("bad")
    assert not (tmp_path / "out").exists()
    with using_plan(results, "plan", pytest.fail):
        (results.path / "plan.json").write_text("{}")
    assert (results.path / "plan.json").is_file()
