"""The papers' own sweeps, planned without their data, their weights and their device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from helpers.paths import CONFIGS
from helpers.sweeps import bench

from bench.data import hub
from bench.data.prepare import prepare_data
from bench.errors import OutOfReach
from bench.planning.build import make_plan
from bench.planning.display import format_plan, list_plan
from bench.planning.estimate import validation_share
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.schema import Sweep

A100 = 312.0
"""TFLOP/s in half precision, dense (data sheet)."""


def planned(name: str, tmp_path: Path) -> tuple[list[dict], list[str]]:
    plan = make_plan(load_sweep(CONFIGS / f"{name}.yaml"), use_placeholders=True, elsewhere=True)
    listing = list_plan(plan, Results(tmp_path / name), A100)
    return [asdict(cell) for cell in listing.cells], format_plan(plan, listing)


@pytest.mark.slow
def test_the_rank_sweep_is_the_paper_s(tmp_path: Path) -> None:
    """Parameters: the exact shares of LLaMA-7B and adapter together, of which DoRA's Table 15 prints two digits."""
    cells, said = planned("rank_llama_7b", tmp_path)
    base, *trained = cells
    assert base["method"] == "base" and len(trained) == 30 and {cell["samples"] for cell in trained} == {170_420}
    exact = {"lora": (0.104, 0.208, 0.415, 0.826, 1.638), "dora": (0.117, 0.221, 0.427, 0.838, 1.650)}
    for method, shares in exact.items():
        for rank, share in zip((4, 8, 16, 32, 64), shares, strict=True):
            cell = next(cell for cell in trained if (cell["method"], cell["rank"]) == (method, rank))
            assert 100 * cell["trainable"] / (6_738_415_616 + cell["trainable"]) == pytest.approx(share, abs=6e-4)
            assert cell["lr"] == {"lora": 3e-4, "dora": 1e-4 if rank == 32 else 2e-4}[method]
    # Six operations a weight and token would be full fine-tuning; LoRA does without the weights' gradients: four.
    tokens = trained[0]["training_flops"] / (4 * 6.7e9)
    assert 60 < tokens / (3 * 170_300) < 250
    assert 2 * 3600 < trained[0]["seconds"] < 24 * 3600
    assert all(cell["id"] is None for cell in trained)
    text = "\n".join(said)
    assert (
        "hours of a device of 312 TFLOP/s, of which 30% are used" in text
        and "are estimates, and ids are not known" in text
    )
    assert "hellaswag 10042" in text


def test_the_alpaca_sweep_is_the_paper_s(tmp_path: Path) -> None:
    cells, said = planned("alpaca_samples_llama2_7b", tmp_path)
    sizes = {cell["method"]: cell["trainable"] for cell in cells[1:]}
    total = 6_738_415_616
    shares = {name: 100 * size / (total + size) for name, size in sizes.items()}
    assert shares == pytest.approx({"lora": 2.318, "dora": 2.337, "vera": 0.0236, "dvora": 0.0437}, abs=6e-4)
    assert len(cells) == 17 and "to be answered in words: mt_bench 80" in "\n".join(said)


def test_a_users_questions_take_no_placeholders(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["Why?"]}) + "\n")
    sweep = {"name": "t", "base_model": "b", "methods": ["lora"], "samples": 1, "data": {"train": "alpaca"}}
    from_file = {"questions": "mt_bench", "sets": {"mt_bench": {"questions": str(path)}}}
    sets = {}
    for name, answers in (("hub", {"questions": "mt_bench"}), ("own", from_file)):
        data = prepare_data(Sweep.model_validate({**sweep, "answers": answers}), use_placeholders=True)
        sets[name] = data.placeholders, len(data.open_questions["mt_bench"])
    assert sets == {"hub": (("alpaca", "mt_bench"), 80), "own": (("alpaca",), 1)}


def test_another_device_is_not_calibrated(tmp_path: Path) -> None:
    done = bench("plan", CONFIGS / "quickstart.yaml", "--results", tmp_path, "--calibrate", "--tflops", 312)
    assert done.exit_code == 2 and "--calibrate measures this device" in done.output


def test_validation_takes_time(tmp_path: Path) -> None:
    """Half of the samples held out and looked at after each step: a third of an epoch's work each time."""
    seconds = []
    for override in ((), ("training.validation={examples: 500, steps: 1}",)):
        sweep = load_sweep(CONFIGS / "rank_smollm2.yaml", ("methods=[lora]", "tune=null", "seeds=[0]", *override))
        plan = make_plan(sweep, use_placeholders=True, elsewhere=True)
        seconds.append(list_plan(plan, Results(tmp_path / "x"), A100).cells[1].training_flops)
        cell = plan.cells[1].cell
        assert validation_share(cell) == (0 if not override else (32 + 1) * 500 / (3 * 500))
    assert seconds[1] == pytest.approx(seconds[0] / 2, rel=0.02)


def test_a_plan_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OutOfReach("cannot load the data set x: no network")

    monkeypatch.setattr(hub, "hub_rows", unreachable)
    given = ["plan", CONFIGS / "rank_smollm2.yaml", "--results", tmp_path]
    done = bench(*given, "--json")
    assert done.exit_code == 0 and "planned with placeholders" in done.stderr
    printed = json.loads(done.stdout)
    assert (
        printed["placeholders"] == ["arc_challenge", "arc_easy", "boolq_closed", "openbookqa"]
        and printed["tflops"] is None
    )
    assert not list(tmp_path.rglob("*.json"))
    refused = bench(*given, "--calibrate")
    assert refused.exit_code == 2 and "no network" in refused.output
    run = bench("run", *given[1:])
    assert run.exit_code == 2 and "no network" in run.output and not list(tmp_path.rglob("*.json"))
