"""Every rate with every seed: the others choose that of a seed, and grids grow until the best lies inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.questions import HELD_OUT, alpaca_file, data_of
from helpers.sweeps import bench, sweep_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.analysis.result_tables import read_results
from bench.data.encoding import encode_pair
from bench.evaluation.development import development_loss
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.methods.learning_rate_grid import rate_beyond
from bench.planning.build import make_plan
from bench.planning.later_seeds import with_later, with_recorded
from bench.planning.plan import Plan, PlannedCell
from bench.planning.tuning import settle
from bench.store.folder import Results
from bench.store.records import CellRecord, EvaluationRecord, Scores, ScoringCosts, Status
from bench.sweep.load import load_sweep

SEEDS = "seeds=[0, 1, 2]"
ENTRIES = "methods=[{method: lora, rank: 2}, {method: dora, rank: 2}, {method: loreft, rank: 2}]"
Score = Callable[[str, float, int], float]
"""Development accuracy of a method at a rate with a seed."""


def plan_of(tmp_path: Path, model: Path, tune: str, *further: str) -> Plan:
    return make_plan(load_sweep(sweep_file(tmp_path, model), (ENTRIES, SEEDS, tune, *further)))


def record(planned: PlannedCell, results: Results, score: float | None) -> None:
    """Record a trial as done with this development accuracy; as diverged without one."""
    folder = results.folder(planned.cell)
    if folder.exists():
        return
    folder.write_cell(planned.cell)
    if score is None:
        folder.write_record(CellRecord(status=Status.DIVERGED))
        return
    shares = Scores(n=100, acc=score, primary="acc", score=score, majority=0.5, chance=0.25, gold_loss=1.0)
    evaluations = {
        wanted.id: EvaluationRecord(
            **wanted.model_dump(), **shares.model_dump(), **ScoringCosts().model_dump(), file=wanted.file
        )
        for wanted in planned.every_evaluation
    }
    folder.write_record(CellRecord(status=Status.DONE, evaluations=evaluations))


def run(plan: Plan, results: Results, score: Score | Callable[[str, float, int], float | None]) -> Plan:
    """Record all trials, also those that the plan gets by their scores, and settle it."""
    while True:
        for planned in plan.cells:
            if planned.development:
                cell = planned.cell
                record(planned, results, score(cell.method, cell.lr or 0.0, cell.seed))
        settled = settle(plan, results)
        if settled is plan:
            return plan
        plan = settled


def peak(best: float) -> Callable[[float], float]:
    """A score that falls with the distance from the best rate, in decades."""
    return lambda rate: 0.7 - 0.1 * abs(math.log10(rate / best))


def final_rates(plan: Plan, method: str) -> dict[int, float | None]:
    return {one.cell.seed: one.cell.lr for one in plan.cells if one.final and one.cell.method == method}


def trials_by_method(plan: Plan) -> Counter[str]:
    return Counter(one.cell.method for one in plan.cells if one.development)


def test_three_seeds_are_crossed_and_fewer_are_a_pilot(tmp_path: Path, tiny_model: Path) -> None:
    plan = plan_of(tmp_path, tiny_model, "tune={trials: 3}")
    assert plan.sweep.tune is not None and plan.sweep.tune.design == "crossed"
    assert len(plan.cells) == 1 + 3 * 3 * 3 and not plan.further
    trial = plan.cells[1]
    assert trial.evaluations and trial.development and not {*trial.evaluations} & {*trial.development}
    for further in (("seeds=[0, 1]",), ("tune.budget=0.5",)):
        other = plan_of(tmp_path, tiny_model, "tune={trials: 3}", *further)
        assert other.sweep.tune is not None and other.sweep.tune.design == "pilot"
        assert len(other.cells) == 1 + 3 * 3 and all(not one.evaluations for one in other.cells if one.development)


def test_the_rate_of_a_seed_is_chosen_by_the_other_seeds(tmp_path: Path, tiny_model: Path) -> None:
    def score(method: str, rate: float, seed: int) -> float:
        """Seed 0 alone finds the highest rate the best, by far."""
        if seed == 0:
            return 0.9 if rate == 1e-3 else 0.1
        return {1e-4: 0.5, 3e-4: 0.6, 1e-3: 0.3}.get(rate, 0.55)

    plan = plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 3}")
    plan = run(plan, Results(tmp_path / "tiny"), score)
    assert final_rates(plan, "lora") == final_rates(plan, "dora") == {0: 3e-4, 1: 1e-3, 2: 1e-3}
    assert not plan.pending
    record_of = plan.record()
    assert len(record_of.trials) == 27 and len(record_of.cells) == 10
    assert {one.folder for one in record_of.cells if one.method != "base"} <= {one.folder for one in record_of.trials}
    assert all(one.tuned for one in record_of.cells if one.method != "base")


def test_grids_grow_for_all_alike_until_the_best_of_each_is_inside(tmp_path: Path, tiny_model: Path) -> None:
    bests = {"lora": 1e-3, "dora": 3e-3, "loreft": 1e-3}

    def score(method: str, rate: float, seed: int) -> float:
        return peak(bests[method])(rate) + 0.01 * seed

    plan = run(plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 6}"), Results(tmp_path / "tiny"), score)
    for method, best in bests.items():
        assert set(final_rates(plan, method).values()) == {best}
    assert trials_by_method(plan) == {"lora": 15, "dora": 15, "loreft": 15}
    rates = {m: {one.cell.lr for one in plan.cells if one.development and one.cell.method == m} for m in bests}
    assert rates["lora"] == rates["dora"] == {1e-4, 3e-4, 1e-3, 3e-3, 1e-2}
    assert len(rates["loreft"]) == 5


def test_a_grid_stops_at_its_limit_and_at_a_rate_that_diverges(tmp_path: Path, tiny_model: Path) -> None:
    def rising(method: str, rate: float, seed: int) -> float:
        return peak(10.0)(rate)

    plan = run(plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 4}"), Results(tmp_path / "tiny"), rising)
    assert set(final_rates(plan, "lora").values()) == {3e-3} and trials_by_method(plan)["lora"] == 12

    def breaking(method: str, rate: float, seed: int) -> float | None:
        return None if rate > 2e-3 else peak(10.0)(rate)

    other = tmp_path / "other"
    other.mkdir()
    plan = run(plan_of(other, tiny_model, "tune={trials: 3, limit: 9}"), Results(other / "tiny"), breaking)
    # The rate above the best was tried: it diverged.
    assert set(final_rates(plan, "lora").values()) == {1e-3} and trials_by_method(plan)["lora"] == 12


def test_a_plan_that_is_made_again_has_the_same_grids(tmp_path: Path, tiny_model: Path) -> None:
    results = Results(tmp_path / "tiny")

    def score(method: str, rate: float, seed: int) -> float:
        return peak(3e-3)(rate)

    first = run(plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 6}"), results, score)
    again = settle(plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 6}"), results)
    assert [one.cell.id for one in again.cells] == [one.cell.id for one in first.cells] and not again.pending


def test_later_seeds_run_at_the_rate_that_the_first_seeds_choose(tmp_path: Path, tiny_model: Path) -> None:
    results = Results(tmp_path / "tiny")
    decide = ("decide={looks: [3, 5]}", "report.baseline=lora")

    def score(method: str, rate: float, seed: int) -> float:
        return peak(3e-3)(rate) - 0.001 * seed

    plan = plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 6}", *decide)
    assert trials_by_method(plan)["lora"] == 9 and len(plan.later) == 6
    plan = with_later(run(plan, results, score), lambda entry: True)
    plan = settle(plan, results)
    assert not plan.pending and not plan.later
    rates = {one.cell.lr for one in plan.cells if one.final and one.cell.seed in (3, 4)}
    assert rates == {3e-3} and all(not one.development for one in plan.cells if one.cell.seed in (3, 4))
    results.write_plan(plan.sweep.resolved(), plan.record())
    again = with_recorded(plan_of(tmp_path, tiny_model, "tune={trials: 3, limit: 6}", *decide), results)
    assert not again.later
    assert {one.cell.id for one in settle(again, results).cells} == {one.cell.id for one in plan.cells}


@pytest.mark.parametrize(
    ("rates", "above", "expected"),
    [
        ((1e-4, 3e-4, 1e-3), True, 3e-3),
        ((1e-4, 3e-4, 1e-3), False, 3e-5),
        ((1e-3, 4e-3, 1.6e-2), True, 6.4e-2),
        ((5e-5, 1.5e-4), False, 1.67e-5),
    ],
)
def test_the_next_rate_is_of_the_lattice_or_a_step_further(
    rates: tuple[float, ...], above: bool, expected: float
) -> None:
    assert rate_beyond(rates, above) == expected


@pytest.mark.parametrize(
    ("tune", "problem"),
    [
        ("tune={design: crossed, budget: 0.5}", "tune.budget is of a pilot"),
        ("tune={trials: 3, limit: 2}", "tune.limit 2 is below tune.trials 3"),
    ],
)
def test_contradictory_designs_are_refused(tune: str, problem: str, tmp_path: Path, tiny_model: Path) -> None:
    done = bench("plan", sweep_file(tmp_path, tiny_model), "--set", ENTRIES, "--set", SEEDS, "--set", tune)
    assert done.exit_code == 2 and problem in done.output
    single = ("--set", "seeds=[0]", "--set", "tune={design: crossed}")
    done = bench("plan", sweep_file(tmp_path, tiny_model), "--set", ENTRIES, *single)
    assert done.exit_code == 2 and "this sweep has one" in done.output


@pytest.mark.slow
def test_a_crossed_sweep_runs_from_its_file_to_its_report(tmp_path: Path, tiny_model: Path) -> None:
    arguments = (sweep_file(tmp_path, tiny_model), "--results", tmp_path, "--set", SEEDS)
    arguments += ("--set", "methods=[{method: lora, rank: 2}]", "--set", "tune={trials: 2, limit: 3}")
    done = bench("run", *arguments)
    assert done.exit_code == 0, done.output
    assert "every setting gets one more" in done.output and "learning rates chosen" in done.output
    read = read_results(Results(tmp_path / "tiny"))
    assert len(read.cells) == 4 and set(read.cells["status"]) == {"done"} and read.unplanned == 0
    assert read.trials is not None
    averages = read.trials.cells.set_index(["lr", "seed"])["average"]
    tuned = read.cells[read.cells["method"] == "lora"]
    assert set(read.choice_changes) == set(tuned["folder"])
    for cell in tuned.itertuples():
        changes = {round(averages[rate, cell.seed] - cell.average, 6) for rate in set(read.trials.cells["lr"])}
        assert 0.0 in changes and {*np.round(read.choice_changes[cell.folder], 6)} <= changes
    again = bench("run", *arguments)
    assert "10 recorded already, 0 to run" in again.output, again.output


INSTRUCTIONS = (
    *("--set", "seeds=[0, 1]", "--set", "methods=[{method: lora, rank: 2}]", "--set", "costs.inference=false"),
    *("--set", "tune={trials: 2, limit: 2, lr: {lora: [1e-3, 3e-2]}}", "--set", "samples=16"),
    *("--set", "answers={questions: held_out, max_new_tokens: 4}", "--set", "evaluation.tasks=null"),
)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["crossed", "pilot"])
def test_instructions_are_tuned_by_the_loss_of_answers_that_are_held_back(
    design: str, tmp_path: Path, tiny_model: Path
) -> None:
    data = f"data={{train: alpaca, alpaca: {alpaca_file(tmp_path)}, held_out: 3, development: 6, template: alpaca}}"
    arguments = (sweep_file(tmp_path, tiny_model), "--results", tmp_path, "--set", data, *INSTRUCTIONS)
    done = bench("run", *arguments, "--set", f"tune.design={design}")
    assert done.exit_code == 0, done.output
    results = Results(tmp_path / "tiny")
    plan = results.plan_record()
    losses: dict[tuple[float | None, int | None], float] = {}
    for trial in plan.trials:
        loss = results.folder_named(trial.folder).record().development_loss
        assert loss is not None and loss.n == 6 and loss.rows == trial.development_rows
        losses[trial.lr, trial.seed] = loss.loss
    finals = [cell for cell in plan.cells if cell.method == "lora"]
    assert len(finals) == 2 and len(losses) == (4 if design == "crossed" else 2)
    for cell in finals:
        judges = [1 - (cell.seed or 0)] if design == "crossed" else [None]
        assert cell.lr == min((1e-3, 3e-2), key=lambda rate: sum(losses[rate, seed] for seed in judges))
    page = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "nats a token" in page.split("## Learning rates tried")[1]


def test_the_loss_of_held_back_answers_is_that_of_the_model(tmp_path: Path, tiny_model: Path) -> None:
    """Beside a plain forward pass of transformers."""
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "template": "alpaca"}, HELD_OUT)
    rows = {"alpaca": data.pools["alpaca"][:4]}
    data = replace(data, development_answers=rows)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    measured = development_loss(LanguageModel(model, tokenizer, None, "any", "float32"), data, tokenizer)
    total, tokens = 0.0, 0
    for example in data.rendered_development_answers(tokenizer):
        prompt, answer = encode_pair(tokenizer, example.prompt, example.answer)
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss
        total, tokens = total + float(loss) * len(answer), tokens + len(answer)
    assert (measured.n, measured.tokens) == (4, tokens)
    assert measured.loss == pytest.approx(total / tokens, abs=1e-5)
