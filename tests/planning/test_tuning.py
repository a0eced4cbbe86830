"""Learning rates are tuned equally, on development questions, and the final cells run at the best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.paths import matching
from helpers.sweeps import bench, sweep_file

from bench import methods
from bench.analysis.result_tables import read_results
from bench.methods.learning_rate_grid import learning_rates_to_try, with_learning_rate
from bench.planning.build import make_plan
from bench.planning.tuning import settle
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.run_sections import TuneConfig
from bench.sweep.schema import Sweep


@pytest.mark.parametrize(
    ("method", "trials", "expected"),
    [
        ("lora", 3, (1e-4, 3e-4, 1e-3)),
        ("dora", 3, (1e-4, 3e-4, 1e-3)),
        ("lora_plus", 3, (1e-4, 3e-4, 1e-3)),
        ("qdora", 4, (1e-4, 3e-4, 1e-3, 3e-3)),
        ("full", 2, (1e-5, 3e-5)),
        ("lora", 5, (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
        ("vera", 3, (1e-3, 3e-3, 1e-2)),  # published: 4e-3
        ("dvora", 3, (1e-3, 3e-3, 1e-2)),
    ],
)
def test_a_family_has_the_same_rates_around_its_published_one(
    method: str, trials: int, expected: tuple[float, ...]
) -> None:
    assert learning_rates_to_try(methods.get(method), TuneConfig(trials=trials)) == expected


def test_every_registered_method_has_a_grid() -> None:
    for name, method in methods.METHODS.items():
        if name not in ("base", "peft"):
            assert len(set(learning_rates_to_try(method, TuneConfig(trials=5)))) == 5, name


def test_a_rate_of_a_stacked_method_is_that_of_its_parts() -> None:
    options = {"lr": 1e-3, "rank": 4, "lora": {"lr": 1e-3, "rank": 4}, "loreft": {"lr": 3e-3, "rank": 4}}
    same = {"lr": 1e-4, "rank": 4, "lora": {"lr": 1e-4, "rank": 4}}
    assert with_learning_rate(same, 1e-4) == same  # to the last bit: it is part of the identity
    changed = with_learning_rate(options, 1e-4)
    assert (changed["lr"], changed["lora"]["lr"], changed["loreft"]["lr"]) == pytest.approx((1e-4, 1e-4, 3e-4))


def test_a_stacked_method_with_rates_of_its_own_is_tuned(tmp_path: Path, tiny_model: Path) -> None:
    entry = "{method: loreft+lora, loreft: {rank: 2, lr: 4e-3}, lora: {rank: 2, lr: 2e-3}}"
    tune = "tune={trials: 2, lr: {loreft+lora: [1e-3, 3e-3]}}"
    plan = make_plan(load_sweep(sweep_file(tmp_path, tiny_model), (f"methods=[{entry}]", tune)))
    rates = [(one["lr"], one["lora"]["lr"], one["loreft"]["lr"]) for one in (c.cell.options for c in plan.cells[1:])]
    assert rates == [pytest.approx((1e-3, 1e-3, 2e-3)), pytest.approx((3e-3, 3e-3, 6e-3))]
    assert len({one.cell.id for one in plan.pending[0].trials}) == 2


BASE: dict[str, Any] = {"name": "x", "base_model": "b", "methods": ["lora", "dora"], "samples": 8}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"methods": [{"method": "lora", "lr": 1e-3}], "tune": {}}, "leave out lr of lora"),
        ({"seeds": [0, 7919], "tune": {}}, "tune.seed 7919 is one of the seeds"),
        ({"tune": {"lr": {"vera": [1e-3, 2e-3, 3e-3]}}}, "names methods that are not in the sweep: vera"),
        ({"tune": {"trials": 1}}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_tuned_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Sweep.model_validate({**BASE, **change})


ENTRIES = ("--set", "methods=[{method: lora, rank: [2, 4]}, {method: dora, rank: 2}]", "--set", "seeds=[0, 1]")
TUNE = "tune={trials: 3, limit: 3, lr: {lora: [1e-4, 1e-2, 3e-2], dora: [1e-4, 1e-2, 3e-2]}}"
FINALS = {f"{name}-n32-s{seed}" for name in ("lora-r2", "lora-r4", "dora-r2") for seed in (0, 1)}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[tuple[Any, ...], Path, str]:
    """(the arguments of the command, the results folder, what the run said) of a tuned sweep."""
    folder = tmp_path_factory.mktemp("tuned")
    path = sweep_file(folder, tiny_model)
    arguments = (path, "--results", folder, *ENTRIES, "--set", TUNE)
    before = bench("plan", *arguments, "--json")
    states = [one["state"] for one in json.loads(before.stdout)["cells"]]
    assert sorted(states) == ["pending tune"] * 6 + ["todo"] * 10
    done = bench("run", *arguments)
    assert done.exit_code == 0, done.output
    return arguments, folder / "tiny", done.output


@pytest.mark.slow
def test_final_cells_run_at_the_rate_of_the_best_trial(tuned: tuple[tuple[Any, ...], Path, str]) -> None:
    arguments, folder, said = tuned
    assert "10 to run, 6 pending" in said and "learning rates chosen" in said
    cells = [json.loads(path.read_text()) for path in folder.glob("cells/*/cell.json")]
    trials: dict[tuple[str, int], dict[float, tuple[float, float]]] = {}
    for path in matching(folder, "cells/*-s7919-*"):
        cell, metrics = (json.loads((path / f"{name}.json").read_text()) for name in ("cell", "metrics"))
        scores = [one["score"] for one in metrics["evaluations"].values()]
        key = (cell["method"], cell["options"]["rank"])
        loss = metrics["costs"]["final_loss"]
        trials.setdefault(key, {})[cell["options"]["lr"]] = (sum(scores) / len(scores), -loss)
        assert cell["samples"] == 32 and cell["tuned_by"] == []
    assert {key: set(found) for key, found in trials.items()} == {
        key: {1e-4, 1e-2, 3e-2} for key in (("lora", 2), ("lora", 4), ("dora", 2))
    }
    finals = [one for one in cells if one["method"] != "base" and one["seed"] != 7919]
    assert len(finals) == 6
    for one in finals:
        tried = trials[one["method"], one["options"]["rank"]]
        assert one["options"]["lr"] == max(tried, key=tried.__getitem__)
        assert len(one["tuned_by"]) == 3 and all((folder / "cells" / name).is_dir() for name in one["tuned_by"])
    again = bench("run", *arguments)
    assert "16 recorded already, 0 to run" in again.output, again.output


@pytest.mark.slow
def test_trials_see_no_test_question_and_finals_no_development_question(
    tuned: tuple[tuple[Any, ...], Path, str],
) -> None:
    _, folder, _ = tuned
    asked: dict[bool, set[str]] = {True: set(), False: set()}
    for path in matching(folder, "cells/*/items/*.parquet"):
        asked["-s7919-" in path.parts[-3]] |= set(pd.read_parquet(path)["question_id"])
    assert asked[True] and asked[False] and not asked[True] & asked[False]


@pytest.mark.slow
def test_the_report_shows_the_trials_apart(tuned: tuple[tuple[Any, ...], Path, str]) -> None:
    _, folder, _ = tuned
    read = read_results(Results(folder))
    assert set(read.cells["name"]) == {"base", *FINALS} and read.unplanned == 0
    assert set(read.cells["series"]) == {"base", "lora", "dora"}  # whatever rates were chosen
    page = (folder / "report" / "report.md").read_text()
    assert "7 cells planned, 7 done." in page
    table = page.split("## Learning rates tried")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith(("| lora", "| dora"))]
    assert len(rows) == 3 and all(row.count(": ") == 3 for row in rows)
    finals = {one.name: one.options["lr"] for one in read.cells.itertuples() if one.method != "base"}
    for row in rows:
        method, rank, _, chosen, edge = (part.strip() for part in row.strip("|").split("|"))
        assert float(chosen) == finals[f"{method}-r{rank}-n32-s0"]
        assert edge == ("no" if float(chosen) == 1e-2 else "yes")
    assert (folder / "report" / "figures" / "learning_rates.png").is_file()


def test_trials_of_fewer_samples_say_so(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    tune = "tune={trials: 2, limit: 2, budget: 0.5, lr: {lora: [1e-3, 1e-2]}}"
    done = bench("run", path, "--results", tmp_path, "--set", "methods=[{method: lora, rank: 2}]", "--set", tune)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "The trials saw 16 samples, and the final cells up to 32: short runs favour high rates." in page


@pytest.mark.slow
def test_a_setting_whose_trials_all_fail_stays_pending(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    arguments = ("--set", "methods=[{method: full}, {method: lora, rank: 2}]", "--set", "training.weight_decay=100")
    tune = "tune={trials: 2, limit: 2, lr: {full: [900, 1000], lora: [1e-3, 1e-2]}}"
    done = bench("run", path, "--results", tmp_path, *arguments, "--set", tune)
    assert done.exit_code == 1 and "full-n32-s0 stays pending: none of its trials" in done.output, done.output
    page = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "1 cells are pending" in page and "(diverged)" in page
    read = read_results(Results(tmp_path / "tiny"))
    assert dict(zip(read.cells["name"], read.cells["status"], strict=True))["lora-r2-n32-s0"] == "done"


@pytest.mark.slow
def test_no_rate_is_chosen_while_a_failed_trial_waits_to_be_tried_again(
    tuned: tuple[tuple[Any, ...], Path, str], tmp_path: Path
) -> None:
    arguments, folder, _ = tuned
    plan = make_plan(load_sweep(arguments[0], tuple(one for one in arguments if "=" in str(one))))
    results = Results(Path(shutil.copytree(folder, tmp_path / "tiny", ignore=shutil.ignore_patterns("adapter"))))
    trial = plan.pending[0].trials[1].cell
    path = results.folder(trial).path / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "oom"}))
    assert not settle(plan, results).pending  # by the other two
    waiting = settle(plan, results, {trial.id}).pending
    assert {one.name for one in waiting} == {one.name for one in plan.pending if plan.pending[0].trials == one.trials}
