"""The committed sweeps can be run again anywhere: their files plan the cells that results/ holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.paths import CONFIGS, RESULTS, SHARED, committed
from helpers.sweeps import bench

from bench.planning.build import make_plan
from bench.planning.display import format_plan, list_plan
from bench.store.folder import Results
from bench.sweep.load import load_sweep

QUICKSTART = CONFIGS / "quickstart.yaml"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_names_its_dtype(path: Path) -> None:
    """With `auto`, the cells would depend on the machine."""
    assert all(base.dtype != "auto" for base in load_sweep(path).base_model)


@pytest.mark.parametrize("results", committed(), ids=lambda results: results.path.name)
def test_recorded_cells_have_the_dtype_of_their_sweep(results: Results) -> None:
    sweep = load_sweep(results.path / "sweep.yaml")
    assert {folder.cell().base.dtype for folder in results.folders()} == {base.dtype for base in sweep.base_model}


@pytest.mark.parametrize("results", committed(), ids=lambda results: results.path.name)
def test_no_committed_sweep_names_a_folder_of_its_machine(results: Results) -> None:
    """A file may be named relative to the folder in which the sweep is run; a folder above it or a root may not."""
    sweep = load_sweep(results.path / "sweep.yaml")
    named = [base.id for base in sweep.base_model]
    named += [path for path in (sweep.data.dir, sweep.data.alpaca) if path is not None]
    named += [path for entry in sweep.data.sets.values() for path in (entry.train, entry.test) if path is not None]
    if sweep.answers is not None:
        for entry in sweep.answers.sets.values():
            named += [path for path in (entry.questions, entry.references) if path is not None]
    assert [path for path in named if Path(path).is_absolute() or ".." in Path(path).parts] == []


@pytest.mark.parametrize("native", [True, False], ids=["native bfloat16", "emulated bfloat16"])
def test_the_quickstart_finds_its_nine_cells_on_any_processor(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    for path in (QUICKSTART, RESULTS / "quickstart" / "sweep.yaml"):
        plan = make_plan(load_sweep(path))
        listing = list_plan(plan, Results(RESULTS / "quickstart"))
        assert listing.total.states == {"done": 9}
        costs = [Results(RESULTS / "quickstart").folder(planned.cell).record().costs for planned in plan.cells]
        took = [(of.wall_seconds or 0.0, of.training_flops or 0.0) for of in costs if of is not None]
        shown = [(cell.seconds, cell.training_flops) for cell in listing.cells]
        assert shown == [(round(seconds, 1), flops) for seconds, flops in took]
        told = [line for line in format_plan(plan, listing) if "emulates bfloat16" in line]
        assert all("set dtype: float32" in line for line in told) and bool(told) != native


def test_the_plan_says_that_auto_passes_recorded_cells_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    plan = make_plan(load_sweep(QUICKSTART, ("base_model.dtype=auto",)))
    listing = list_plan(plan, Results(RESULTS / "quickstart"))
    assert listing.total.states == {"todo": 9}
    assert "9 of these cells are recorded in bfloat16" in " ".join(format_plan(plan, listing))
    assert "--set base_model.dtype=bfloat16" in " ".join(listing.other_dtypes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all_methods", "more_steps"])
def test_sweeps_on_built_in_data_find_all_their_cells(name: str) -> None:
    done = bench("plan", CONFIGS / f"{name}.yaml", "--results", RESULTS)
    assert done.exit_code == 0 and "to run" not in done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank_smollm2", "samples_smollm2", "methods_smollm2", "rank_real_small"])
def test_sweeps_on_real_tasks_find_all_their_cells(name: str, shared: Path) -> None:
    data = ("--set", f"data.dir={shared / 'data' / 'commonsense'}")
    for path in (CONFIGS / f"{name}.yaml", RESULTS / name / "sweep.yaml"):
        done = bench("plan", path, "--results", RESULTS, *data)
        assert done.exit_code == 0 and "to run" not in done.output


@pytest.mark.slow
@pytest.mark.parametrize("results", committed(), ids=lambda results: results.path.name)
def test_every_committed_sweep_finds_all_of_its_cells(results: Results) -> None:
    """A default that moves would train them again. The sweeps on real data need it beside the checkout."""
    path = CONFIGS / f"{results.path.name}.yaml"
    data = load_sweep(path).data
    if data.alpaca is not None or "alpaca" in data.train:
        pytest.skip("its rows are named relative to the folder in which it was run")
    real = data.train not in (("world",), ("world", "world_talk"))
    if real and not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not here")
    overrides = (f"data.dir={SHARED / 'data' / 'commonsense'}",) if real else ()
    plan = make_plan(load_sweep(path, overrides), strict=True)
    recorded = {folder.path.name for folder in results.folders()}
    assert [planned.cell.name for planned in plan.cells if planned.cell.folder not in recorded] == []
