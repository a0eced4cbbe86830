"""Looks of a sweep with `decide`: what is told, which cells follow, and that it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.recorded import record_cells
from helpers.sweeps import sweep_file

from bench.analysis.judged_sweep import judge_sweep
from bench.deciding.expectation import expect_cells
from bench.deciding.look import take_look
from bench.deciding.look_text import look_text
from bench.deciding.planned_contrasts import planned_contrasts
from bench.errors import UserError
from bench.planning.build import make_plan
from bench.planning.later_seeds import with_recorded
from bench.planning.plan import Plan, PlannedCell
from bench.planning.tuning import settle
from bench.report import write_report
from bench.store.folder import Results
from bench.store.look_records import LookRecord
from bench.sweep.load import load_sweep

METHODS = "methods=[{method: lora, rank: 2}, {method: dora, rank: 2}, {method: vera, rank: 2}]"
ONE_TASK = ("evaluation.tasks=[world_two]", "report.tie_share=null")
NOISE = (0.0, 0.006, -0.005, 0.003, -0.002, 0.004, -0.004, 0.001, -0.003, 0.005)
Accuracy = Callable[[PlannedCell], float | None]


@pytest.fixture
def plan_of(tmp_path: Path, tiny_model: Path) -> Callable[..., Plan]:
    path = sweep_file(tmp_path, tiny_model)

    def make(*overrides: str, methods: str = METHODS) -> Plan:
        return make_plan(load_sweep(path, (methods, *ONE_TASK, *overrides)))

    return make


def lead(**leads: float | None) -> Accuracy:
    """Every method's lead over 0.6, with noise of its own at each seed; None for one that diverges."""

    def accuracy(planned: PlannedCell) -> float | None:
        name, seed = planned.cell.method, planned.cell.seed
        value = leads.get(name, 0.0)
        if name == "base":
            return 0.5
        place = (seed + 3 * ["lora", "dora", "vera"].index(name)) % len(NOISE)
        return None if value is None else 0.6 + value + (6 * NOISE[place] if name == "vera" else NOISE[place])

    return accuracy


def run(plan: Plan, results: Results, accuracy: Accuracy, most: int = 10) -> list[LookRecord]:
    """As `run_looks`, but that cells are recorded instead of being run; all looks, or so many."""
    looks = []
    results.path.mkdir(exist_ok=True)
    for _ in range(most):
        plan = with_recorded(plan, results)
        results.write_plan(plan.sweep.resolved(), plan.record())
        record_cells(plan.cells, results, accuracy)
        plan = settle(plan, results)
        results.write_plan(plan.sweep.resolved(), plan.record())
        record_cells(plan.cells, results, accuracy)  # with learning rates that trials have chosen
        decision = take_look(plan, results)
        assert decision is not None
        looks.append(decision.look)
        if decision.plan is None:
            break
        plan = decision.plan
        results.write_plan(plan.sweep.resolved(), plan.record())
    return looks


LOOKS = "decide={looks: [5, 7, 10]}"
APART_AND_OPEN = lead(dora=0.08, vera=0.01)
"""DoRA's contrast is told at the first look, VeRA's never."""


def test_seeds_are_added_where_a_contrast_is_open(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    plan, results = plan_of(LOOKS), Results(tmp_path / "tiny")
    assert len(plan.cells) == 1 + 3 * 5 and len(plan.later) == 3 * 5
    looks = run(plan, results, APART_AND_OPEN)
    first, second, third = looks
    assert [(one.contrast, one.verdict) for one in first.contrasts] == [
        ("dora - lora", "better"),
        ("vera - lora", "unresolved"),
    ]
    assert first.added_seeds == 2 and {name.split("-")[0] for name in first.added} == {"lora", "vera"}
    assert len(first.added) == 4 and len(second.added) == 6 and third.ended == "looks"
    assert second.contrasts[0].told_before and second.contrasts[0].seeds == 5 and third.contrasts[1].seeds == 10
    # What was told stands with its interval; the open one has the repeated one of its look.
    assert second.contrasts[0].low == first.contrasts[0].low
    text = look_text(second)
    assert text.startswith("Look 2 (7 seeds): vera - lora open:") and "; 1 told before; 3 more seeds" in text
    record = results.looks()
    assert record.looks == looks and record.boundaries.seed == 20240 and record.boundaries.looks == [5, 7, 10]
    plan = results.plan_record()
    assert plan.looks == [] and len(plan.cells) == 1 + 5 + 10 + 10
    report = write_report(results).with_name("report.md").read_text()
    assert text.replace("[", "\\[") in report or text in report
    assert "repeated ones, which hold at all looks together" in report
    assert "there is no p" in report and "adjusted p" not in report.split("## Contrasts")[1].split("##")[0]


def test_a_sweep_ends_when_all_is_told(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    (only,) = run(plan_of(LOOKS), Results(tmp_path / "tiny"), lead(dora=0.08, vera=0.3))
    assert only.ended == "told" and not only.added and "all contrasts are told" in look_text(only)


@pytest.mark.parametrize("lost", ["nothing", "looks.json"])
def test_a_run_that_was_stopped_decides_alike(tmp_path: Path, plan_of: Callable[..., Plan], lost: str) -> None:
    whole = run(plan_of(LOOKS), Results(tmp_path / "whole"), APART_AND_OPEN)
    results = Results(tmp_path / "tiny")
    run(plan_of(LOOKS), results, APART_AND_OPEN, most=2)
    if lost != "nothing":
        (results.path / lost).write_text("{")
    again = run(plan_of(LOOKS), results, APART_AND_OPEN)
    assert again[-1].contrasts == whole[-1].contrasts and again[-1].ended == "looks"
    assert [look.added for look in results.looks().looks] == [look.added for look in whole]
    assert len(results.plan_record().cells) == 1 + 5 + 10 + 10


@pytest.mark.slow
def test_a_plan_that_was_lost_is_planned_late(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    """Nothing shows any more that the looks were planned before the first score, as with contrasts."""
    results = Results(tmp_path / "tiny")
    run(plan_of(LOOKS), results, APART_AND_OPEN, most=2)
    (results.path / "plan.json").write_text("{")
    again = run(plan_of(LOOKS), results, APART_AND_OPEN)
    assert results.plan_record().decide.late and again[-1].ended == "looks"
    assert len(results.plan_record().cells) == 1 + 5 + 10 + 10


@pytest.mark.parametrize(
    ("budget", "looks", "cells"),
    [
        ("18 cells", 1, 15),
        ("19 cells", 2, 19),
        pytest.param("25 cells", 3, 25, marks=pytest.mark.slow),
        ("0.3h", 1, 15),
        pytest.param("19m", 2, 19, marks=pytest.mark.slow),
    ],
)
def test_the_budget_is_not_exceeded(
    tmp_path: Path, plan_of: Callable[..., Plan], budget: str, looks: int, cells: int
) -> None:
    """Each cell takes a minute."""
    results = Results(tmp_path / "tiny")
    taken = run(plan_of(f"decide={{looks: [5, 7, 10], budget: {budget}}}"), results, APART_AND_OPEN)
    assert len(taken) == looks and len(results.plan_record().cells) == 1 + cells
    if looks < 3:
        assert taken[-1].ended == "budget" and f"would exceed the budget of {budget}" in look_text(taken[-1])
        raised = run(plan_of("decide={looks: [5, 7, 10], budget: 99h}"), results, APART_AND_OPEN)
        assert raised[-1].ended == "looks"  # a budget may change: the boundaries hold whatever ends a sweep


def test_a_missing_seed_is_no_look_gained(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    """One of DoRA's cells diverges: with four seeds it waits, with six it is judged by five."""
    results = Results(tmp_path / "tiny")
    sound = lead(dora=0.08, vera=0.01)

    def accuracy(planned: PlannedCell) -> float | None:
        return None if (planned.cell.method, planned.cell.seed) == ("dora", 1) else sound(planned)

    first, second, *_ = run(plan_of(LOOKS), results, accuracy)
    assert first.contrasts[1].contrast == "dora - lora" and first.contrasts[1].verdict is None
    assert "dora - lora not judged yet, with 4 seeds" in look_text(first)
    assert "without scores: dora-r2-n32-s1 (diverged)" in look_text(first)
    # VeRA keeps to its part of the level: two comparisons, though one is judged.
    assert {name.split("-")[0] for name in first.added} == {"lora", "dora", "vera"}
    dora = next(contrast for contrast in second.contrasts if contrast.contrast == "dora - lora")
    assert dora.verdict == "better" and dora.seeds == 5 and "by 5 seeds" in look_text(second)


def test_a_look_is_taken_when_all_cells_have_ended(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    results = Results(tmp_path / "tiny")
    run(plan_of(LOOKS), results, APART_AND_OPEN, most=1)
    plan = with_recorded(plan_of(LOOKS), results)
    before = judge_sweep(results).comparisons
    record_cells(plan.cells[:-1], results, APART_AND_OPEN)
    assert take_look(plan, results) is None
    now = judge_sweep(results).comparisons
    assert now.judged == before.judged and now.differences.equals(before.differences)  # nobody looks in between
    partly = Results(tmp_path / "partly")
    partly.path.mkdir()
    plan = plan_of(LOOKS)
    partly.write_plan(plan.sweep.resolved(), plan.record())
    record_cells([one for one in plan.cells if one.cell.seed < 4], partly, APART_AND_OPEN)
    comparisons = judge_sweep(partly).comparisons
    assert not comparisons.contrasts and set(comparisons.differences["verdict"]) == {"these two runs"}
    assert comparisons.problems[0].startswith(
        "dora and lora are not judged yet: all of their cells are done at 4 seeds"
    )
    assert "not judged yet" in write_report(partly).with_name("report.md").read_text()


def test_seeds_that_come_after_the_looks_count_at_the_next_one(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    results = Results(tmp_path / "tiny")
    looks = run(plan_of("decide={looks: [5, 7]}"), results, APART_AND_OPEN)
    more = plan_of("seeds=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    results.write_plan(more.sweep.resolved(), more.record())
    record_cells(more.cells, results, APART_AND_OPEN)
    sweep = judge_sweep(results)
    assert sweep.plan.decide.looks == (5, 7) and sweep.plan.looks == [[0, 1, 2, 3, 4, 5, 6]]
    assert "3 seeds were added after the first score" in sweep.comparisons.look
    assert "the first 10 seeds, a look" in sweep.comparisons.look and "a quarter of the level" in sweep.comparisons.look
    told, still_open = sweep.comparisons.primary
    assert (told.judged.estimate.seeds, still_open.judged.estimate.seeds) == (5, 10)
    assert told.judged.result.interval.low == looks[0].contrasts[0].low
    assert "3 seeds were added" in write_report(results).with_name("report.md").read_text()


def test_looks_that_come_after_the_first_score_share_a_quarter_of_the_level(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    results = Results(tmp_path / "tiny")
    fixed = plan_of("seeds=[0, 1, 2]")
    results.path.mkdir()
    results.write_plan(fixed.sweep.resolved(), fixed.record())
    record_cells(fixed.cells, results, APART_AND_OPEN)
    run(plan_of("decide={looks: [5, 7]}"), results, APART_AND_OPEN)
    sweep = judge_sweep(results)
    assert sweep.plan.decide.late and sweep.plan.looks == [[0, 1, 2]]
    assert [stage.stage.share for stage in (*sweep.comparisons.earlier, sweep.comparisons)] == [1, 4, 4]
    assert "share a quarter of the level" in write_report(results).with_name("report.md").read_text()


def test_rows_that_have_changed_since_a_look_are_said(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    results = Results(tmp_path / "tiny")
    run(plan_of(LOOKS), results, lead(dora=0.08, vera=0.3))
    record = results.looks()
    record.looks[0].contrasts[0].verdict = "worse"
    results.write_looks(record)
    text = write_report(results).with_name("report.md").read_text()
    assert "Look 1 was decided on other rows than are here now: dora - lora was worse, and is better" in text


def test_a_sweep_without_a_contrast_has_nothing_to_decide(plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(UserError, match="this sweep has none: lora is compared with nothing"):
        planned_contrasts(plan_of(LOOKS, methods="methods=[{method: lora, rank: [2, 4]}]"))


def test_named_contrasts_say_what_is_extended(tmp_path: Path, plan_of: Callable[..., Plan]) -> None:
    """VeRA is in no contrast, and LoRA at rank 4 in none that is between methods."""
    methods = "methods=[{method: lora, rank: [2, 4]}, {method: dora, rank: 2}, {method: vera, rank: 2}]"
    sides = "{of: {method: dora, rank: 2}, against: {method: lora, rank: 2}}"
    results = Results(tmp_path / "tiny")
    first, *_ = run(plan_of(LOOKS, f"contrasts=[{sides}]", methods=methods), results, lead(dora=0.004))
    assert {name.rsplit("-", 1)[0] for name in first.added} == {"lora-r2-n32", "dora-r2-n32"}


def test_learning_rates_that_trials_chose_are_those_of_added_seeds(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    methods = "methods=[{method: lora, rank: 2}, {method: dora, rank: 2}]"
    tune = "tune={design: pilot, trials: 2, limit: 2, lr: {lora: [1e-3, 1e-2], dora: [1e-3, 1e-2]}}"
    results = Results(tmp_path / "tiny")
    plan = plan_of(LOOKS, tune, "data.development=20", methods=methods)
    assert expect_cells(plan, results).largest.cells == 4 + 2 * 10
    first, *_, last = run(plan, results, lead(dora=0.002))
    assert len(first.added) == 4 and last.ended == "looks"
    cells = results.plan_record().cells
    assert len(cells) == 1 + 2 * 10 and len({cell.lr for cell in cells if cell.method == "lora"}) == 1


def test_the_expected_number_of_cells_lies_between_the_least_and_the_largest(
    tmp_path: Path, plan_of: Callable[..., Plan]
) -> None:
    results = Results(tmp_path / "tiny")
    before = expect_cells(plan_of(LOOKS), results)
    assert (before.least.cells, before.largest.cells, before.fixed) == (15, 30, 30)
    assert 15 < before.expected.cells < 30 and "the usual spread of methods_smollm2" in before.source
    limited = expect_cells(plan_of("decide={looks: [5, 7, 10], budget: 21 cells}"), results)
    assert limited.largest.cells == 21 and limited.expected.cells <= 21
    run(plan_of(LOOKS), results, APART_AND_OPEN, most=1)
    after = expect_cells(plan_of(LOOKS), results)
    assert after.source == "the spread of this sweep's own cells"
    assert after.least.cells == 19 and after.largest.cells == 25 and 19 <= after.expected.cells <= 25
    assert expect_cells(plan_of("seeds=[0, 1]"), results) is None
