"""Faults of a run, done for real: processes that are killed, crash or hang, and two runs of a sweep at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import matching
from helpers.sweeps import bench, sweep_file

from bench.analysis.result_tables import read_results
from bench.store.folder import Results

FAULTY = """
import os, signal, time
from pathlib import Path
from bench.methods.lora import Lora

class Faulty(Lora):
    name = "faulty"

    def after_step(self, model, cell, step):
        marks = Path(os.environ["MARKS"])
        (marks / f"{time.monotonic_ns()}.step").write_text(f"{cell.name} {step}")
        fault = os.environ.get("FAULT")
        if step == 3 and fault == "killed once" and not (marks / "killed").exists():
            (marks / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 3 and fault == "killed always":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 3 and fault == "crashed":
            os.abort()
        if step == 3 and fault == "hangs":
            print("about to hang", flush=True)
            time.sleep(1000)
"""
RATES = (1e-2, 2e-2)


@pytest.fixture
def faulty(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a sweep of two faulty cells and the base under a fault; returns the run and the cells by name."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "marks").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MARKS", str(tmp_path / "marks"))
    path = sweep_file(tmp_path, tiny_model)

    def run(fault: str, *more: str) -> tuple[Any, dict[str, Any]]:
        monkeypatch.setenv("FAULT", fault)
        entry = "methods=[{method: 'faulty:Faulty', rank: [2, 4], lr: 1e-2}]"
        only = ("--set", "evaluation.tasks=[world_two]", "--set", "training.checkpoint_minutes=null")
        done = bench("run", path, "--results", tmp_path / "r", "--set", entry, *only, *more)
        read = read_results(Results(tmp_path / "r" / "tiny")).cells
        return done, {cell.name: cell for cell in read.itertuples()}

    run.marks = tmp_path / "marks"
    return run


def test_a_killed_worker_is_replaced_and_its_cell_begun_again(faulty: Any) -> None:
    done, cells = faulty("killed once")
    assert done.exit_code == 0, done.output
    assert "its process was ended by signal SIGKILL; it will be started again" in done.output
    assert [cell.status for cell in cells.values()] == ["done"] * 3
    again, _ = faulty("")
    assert "3 recorded already, 0 to run" in again.output


@pytest.mark.slow
def test_a_cell_that_is_always_killed_is_recorded_and_the_same_command_tries_again(faulty: Any) -> None:
    done, cells = faulty("killed always")
    assert done.exit_code == 1 and "2 of 3 cells failed" in done.output, done.output
    assert {cell.status for name, cell in cells.items() if name != "base"} == {"killed"}
    assert all("SIGKILL" in cell.reason for name, cell in cells.items() if name != "base")
    assert cells["base"].status == "done"
    done, cells = faulty("")
    assert done.exit_code == 0 and {cell.status for cell in cells.values()} == {"done"}, done.output


@pytest.mark.slow
def test_a_crash_leaves_the_last_lines_of_its_log(faulty: Any, tmp_path: Path) -> None:
    done, cells = faulty("crashed", "--fail-fast")
    assert done.exit_code == 1
    crashed = [cell for cell in cells.values() if cell.status == "killed"]
    assert len(crashed) >= 1 and "SIGABRT" in crashed[0].reason
    assert any("after_step" in line for line in crashed[0].traceback), crashed[0].traceback
    assert not any(str(tmp_path) in line for line in crashed[0].traceback)


@pytest.mark.slow
def test_a_cell_that_hangs_is_stopped_and_says_where(faulty: Any) -> None:
    done, cells = faulty("hangs", "--set", "run.silence_timeout=0.08", "--only", "*-r2-*")
    assert done.exit_code == 1 and "hung (no progress for" in done.output, done.output
    hung = next(cell for name, cell in cells.items() if "-r2-" in name)
    assert hung.status == "hung" and any("after_step" in line for line in hung.traceback), hung.traceback
    # It hangs by itself, so it is run again only where that is asked for.
    _, cells = faulty("", "--only", "*-r2-*")
    assert next(cell for name, cell in cells.items() if "-r2-" in name).status == "hung"
    done, cells = faulty("", "--retry-failed")
    assert done.exit_code == 0 and {cell.status for cell in cells.values()} == {"done"}, done.output


@pytest.mark.slow
def test_a_time_limit_for_one_cell(faulty: Any) -> None:
    done, cells = faulty("hangs", "--set", "run.cell_timeout=0.08", "--only", "*-r2-*")
    assert done.exit_code == 1 and "run.cell_timeout" in done.output
    assert next(cell for name, cell in cells.items() if "-r2-" in name).status == "hung"


def command(path: Path, results: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "bench.cli", "run", str(path), "--results", str(results), *more]


@pytest.mark.slow
def test_two_parents_share_the_work_and_do_no_cell_twice(
    finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path
) -> None:
    path = sweep_file(tmp_path, tiny_model)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command(path, tmp_path), **pipes) for _ in range(2)]
    said = [one.communicate(timeout=300)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    from helpers.sweeps import outcome

    assert outcome(tmp_path / "tiny") == outcome(finished[1])
    # Each cell was trained by one of the two: an average is told by whoever ran it.
    told = [line for text in said for line in text.splitlines() if ": done, average" in line]
    assert len(told) == 6, said


@pytest.mark.slow
def test_tasks_that_are_added_during_a_run_are_scored_after_it(tmp_path: Path, tiny_model: Path) -> None:
    path, folder = sweep_file(tmp_path, tiny_model), tmp_path / "tiny"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    run = subprocess.Popen(command(path, tmp_path, "--set", "samples=400"), **pipes)
    deadline = time.monotonic() + 240
    while not list(folder.glob("cells/*/training.jsonl")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    evaluate = [sys.executable, "-m", "bench.cli", "evaluate", str(folder), "--tasks", "world_three"]
    added = subprocess.Popen(evaluate, **pipes)
    said = [process.communicate(timeout=300)[0] for process in (run, added)]
    assert run.returncode == added.returncode == 0, said
    assert f"{folder} is used by process {run.pid} on " in said[1], said[1]
    scores = read_results(Results(folder)).scores
    assert (scores[scores["task"] == "world_three"]["folder"].nunique(), len(scores)) == (6, 6 * 5)


@pytest.mark.slow
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path, tiny_model: Path) -> None:
    import psutil

    path = sweep_file(tmp_path, tiny_model)
    running = subprocess.Popen(
        command(path, tmp_path, "--set", "samples=1600", "--set", "training.logging_steps=1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "tiny").glob("cells/*/training.jsonl")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    descendants = psutil.Process(running.pid).children(recursive=True)
    assert len(descendants) >= 2  # the server and a worker
    running.send_signal(signal.SIGKILL)
    running.wait()
    _gone, alive = psutil.wait_procs(descendants, timeout=20)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], alive
    lines = {log: len(log.read_text().splitlines()) for log in (tmp_path / "tiny").glob("cells/*/training.jsonl")}
    time.sleep(1)
    assert lines == {log: len(log.read_text().splitlines()) for log in lines}


@pytest.mark.slow
def test_the_order_of_cells_changes_nothing(finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path) -> None:
    """Weights bit for bit, and all rows: no state passes from one cell to the next in a worker."""
    import pandas as pd
    from safetensors.torch import load_file

    path = sweep_file(tmp_path, tiny_model)
    turned = "methods=[{method: full, lr: 1e-3}, {method: dora, rank: [4, 2], lr: 1e-2}, "
    turned += "{method: lora, rank: [4, 2], lr: 1e-2}]"
    done = bench("run", path, "--results", tmp_path, "--set", turned)
    assert done.exit_code == 0, done.output
    for cell in matching(finished[1], "cells/*"):
        twin = tmp_path / "tiny" / "cells" / cell.name
        for file in (cell / "adapter").glob("*.safetensors"):
            ours, theirs = load_file(file), load_file(twin / "adapter" / file.name)
            assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours), cell.name
        for file in (cell / "items").iterdir():
            pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(twin / "items" / file.name))
        losses = [
            [json.loads(line)["loss"] for line in (one / "training.jsonl").read_text().splitlines()]
            for one in (cell, twin)
            if (one / "training.jsonl").is_file()
        ]
        assert not losses or losses[0] == losses[1]


def test_only_some_cells(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    done = bench("run", path, "--results", tmp_path, "--only", "lora-r2*")
    assert done.exit_code == 0 and "5 of 6 cells are left" in done.output, done.output
    assert [folder.path.name[:7] for folder in Results(tmp_path / "tiny").folders()] == ["lora-r2"]
    done = bench("run", path, "--results", tmp_path, "--only", "nothing*")
    assert done.exit_code == 2 and "matches no cell" in done.output


def test_a_cell_that_cannot_be_done_in_time_is_not_begun(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """The pace is that of the recorded cells: 10,000 epochs are minutes of it."""
    import shutil

    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    for file in matching(tmp_path / "tiny", "cells/*/metrics.json"):  # whatever ran beside them
        metrics = json.loads(file.read_text())
        metrics["costs"]["shared"] = False
        file.write_text(json.dumps(metrics))
    entry = ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]", "--set", "training.epochs=[1, 10000]")
    done = bench("run", path, "--results", tmp_path, *entry, "--max-hours", "0.01")
    assert done.exit_code == 0 and "is not started: it takes about" in done.output, done.output
    assert "1 of 3 cells are left" in done.output


@pytest.mark.slow
def test_a_run_is_told_to_a_url(faulty: Any) -> None:
    import http.server
    import threading

    heard: list[dict[str, Any]] = []

    class Hearer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hearer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done, _ = faulty("killed always", "--notify", f"http://127.0.0.1:{server.server_port}/sweep")
        server.shutdown()
    assert done.exit_code == 1
    assert [one["event"] for one in heard] == ["failed", "failed", "ended"]
    assert heard[-1] == {"event": "ended", "sweep": "tiny", "done": 1, "failed": 2, "left": 0}
    assert bench("run", "none.yaml", "--notify", "nowhere").exit_code == 2
    # A URL that nobody answers at does not end the sweep.
    done, _ = faulty("", "--notify", "http://127.0.0.1:9/")
    assert done.exit_code == 0 and "POST failed" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["merge", "save"])
def test_a_worker_killed_in_scoring_or_while_writing(
    verb: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No incomplete file is used, and no complete one is made again."""
    (tmp_path / "fatal_verb.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from bench.methods.lora import Lora\n"
        "class Fatal(Lora):\n"
        "    name = 'fatal'\n"
        "    def merge(self, model):\n"
        "        self._kill('merge', model)\n"
        "        return super().merge(model)\n"
        "    def save(self, model, folder):\n"
        "        super().save(model, folder)\n"
        "        self._kill('save', model)\n"
        "    def _kill(self, verb, model):\n"
        "        mark = Path(os.environ['MARK'])\n"
        "        in_plan = 'bench-dry-run' in model.name_or_path\n"
        "        if verb == os.environ['VERB'] and not mark.exists() and not in_plan:\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VERB", verb)
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    settings = (
        "--set",
        "methods=[{method: 'fatal_verb:Fatal', rank: 2, lr: 1e-2}]",
        "--set",
        "evaluation.merge=always",
    )
    done = bench("run", sweep_file(tmp_path, tiny_model), "--results", tmp_path, *settings)
    assert done.exit_code == 0 and "it will be started again" in done.output, done.output
    cell = next((tmp_path / "tiny").glob("cells/fatal_verb*"))
    metrics = json.loads((cell / "metrics.json").read_text())
    assert metrics["status"] == "done" and metrics["reason"] == ""
    assert not list(cell.glob("*.part")) and not list(cell.rglob("*.tmp"))


@pytest.mark.slow
def test_ctrl_c_twice(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    running = subprocess.Popen(
        command(path, tmp_path, "--set", "samples=1600"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "tiny").glob("cells/*/training.jsonl")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[0]
    assert running.returncode in (130, -signal.SIGINT), said
    for file in matching(tmp_path / "tiny", "cells/*/*.json"):
        json.loads(file.read_text())
    done = bench("run", path, "--results", tmp_path, "--set", "samples=1600", "--only", "lora-r2*")
    assert done.exit_code == 0 and ": done, average" in done.output, done.output


@pytest.mark.slow
def test_a_clock_that_is_set_back(
    finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day at every look, and a limit of time besides: durations are of a clock that never is."""
    now = [time.time()]

    def back() -> float:
        now[0] -= 86_400
        return now[0]

    monkeypatch.setattr(time, "time", back)
    path = sweep_file(tmp_path, tiny_model)
    only = ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]", "--max-hours", "0.5", "--workers", "0")
    done = bench("run", path, "--results", tmp_path, *only)
    assert done.exit_code == 0 and "2 to run" in done.output, done.output
    metrics = json.loads(next((tmp_path / "tiny").glob("cells/lora-r2-*/metrics.json")).read_text())
    assert 0 < metrics["costs"]["training_seconds"] < 600 and 0 < metrics["costs"]["wall_seconds"] < 600
    from helpers.sweeps import outcome

    whole = outcome(finished[1])
    assert all(whole[name] == one for name, one in outcome(tmp_path / "tiny").items())
