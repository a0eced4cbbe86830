"""Which tasks the averages are over."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from helpers.paths import RESULTS
from scipy import stats

from bench import load_results
from bench.analysis.average_tasks import AverageTasks, ScoredCell, average_tasks
from bench.analysis.rescoring import QuestionRows, RescoredEvaluation
from bench.analysis.result_tables import ResultTables, averaged_scores, majority_average
from bench.report.finding import near_chance_sentences
from bench.store.records import EvaluationRecord
from bench.sweep.sections import Average

QUESTIONS = 200
GOLD = np.repeat([0, 1], [110, 90])
"""55 % have the first label."""


def scored(task: str, share: float, fixed: bool = True) -> RescoredEvaluation:
    """An evaluation that answers so many of the questions of either label."""
    right = np.arange(QUESTIONS) % 100 < round(100 * share)
    record = EvaluationRecord.model_construct(task=task, score=float(right.mean()), n=QUESTIONS)
    ids = pa.chunked_array([[f"q{place}" for place in range(QUESTIONS)]])
    rows = QuestionRows("c", "p", task, ids, ids, right, None, GOLD, fixed)
    return RescoredEvaluation(record, rows)


def chosen(untuned: float, trained: float | None, setting: Average = "auto", fixed: bool = True) -> AverageTasks:
    """Of a task with these accuracies beside one that is far above chance."""
    cells = [ScoredCell("b", "base", [scored("easy", 0.9), scored("labels", untuned, fixed)])]
    if trained is not None:
        cells += [ScoredCell("b", method, [scored("easy", 0.9), scored("labels", trained)]) for method in ("x", "y")]
    return average_tasks(setting, cells)


def test_a_task_whose_untuned_score_is_within_noise_of_its_majority_class_is_left_out() -> None:
    for untuned in (0.40, 0.55, 0.60):
        tasks = chosen(untuned, None)
        assert tasks.counted == {"b": {"easy"}}
        (task,) = tasks.near_chance
        assert (task.base, task.task, task.counted) == ("b", "labels", False) and task.majority == pytest.approx(55)
    assert chosen(0.75, None).counted == {"b": {"easy", "labels"}}


def test_a_task_that_training_lifts_above_its_majority_class_counts() -> None:
    """A classification task of a user's own, say, that no untuned model can answer."""
    assert chosen(0.50, 0.75).counted == {"b": {"easy", "labels"}}
    assert chosen(0.50, 0.58).counted == {"b": {"easy"}}
    assert chosen(0.50, 0.58).near_chance[0].trained == pytest.approx(58)


def test_choices_that_are_other_texts_in_each_question_have_no_majority_class() -> None:
    assert chosen(0.50, None, fixed=False).counted == {"b": {"easy", "labels"}}


def test_without_the_untuned_model_nothing_can_be_said() -> None:
    cells = [ScoredCell("b", "lora", [scored("labels", 0.5), scored("easy", 0.9)])]
    assert average_tasks("auto", cells) == AverageTasks({"b": frozenset({"labels", "easy"})}, (), ())


def test_a_single_task_counts_whatever_it_is() -> None:
    tasks = average_tasks("auto", [ScoredCell("b", "base", [scored("labels", 0.5)])])
    assert tasks.counted == {"b": {"labels"}} and tasks.near_chance[0].counted
    (said,) = near_chance_sentences(tasks.near_chance, several=False)
    assert said.startswith("labels is near chance, but it is in the averages all the same")


def test_the_sweep_file_may_name_the_tasks() -> None:
    assert chosen(0.5, None, "all").counted == {"b": {"easy", "labels"}}
    assert chosen(0.5, None, "all").near_chance[0].counted
    assert chosen(0.5, None, ("labels",)).counted == {"b": {"labels"}}
    tasks = chosen(0.5, None, ("easy", "hard"))
    assert tasks.counted == {"b": {"easy"}} and tasks.missing == ("hard",)


def test_each_base_has_its_own_tasks() -> None:
    cells = [ScoredCell(base, "base", [scored("easy", 0.9), scored("labels", share)]) for base, share in BASES.items()]
    assert average_tasks("auto", cells).counted == {"small": {"easy"}, "large": {"easy", "labels"}}


BASES = {"small": 0.5, "large": 0.8}


@cache
def committed(name: str, average: Average | None = None) -> ResultTables:
    return load_results(RESULTS / name, average)


@pytest.mark.parametrize("name", ["rank_smollm2", "samples_smollm2", "methods_smollm2"])
def test_boolq_without_its_passage_is_near_chance_in_the_committed_sweeps(name: str) -> None:
    tables = committed(name)
    (task,) = tables.near_chance
    assert task.task == "boolq_closed" and not task.counted
    assert set(tables.questions["task"]) == {"arc_challenge", "arc_easy", "openbookqa"}
    rows = tables.scores[tables.scores["folder"].str.startswith("base-") & (tables.scores["task"] == "boolq_closed")]
    assert rows[["score", "majority"]].iloc[0].tolist() == pytest.approx([task.untuned, task.majority])
    wide = tables.scores.pivot(index="folder", columns="task", values="score")
    cells = tables.cells.set_index("folder")
    assert cells["average_all"].to_dict() == pytest.approx(wide.mean(axis=1).to_dict())
    assert cells["average"].to_dict() == pytest.approx(wide.drop(columns="boolq_closed").mean(axis=1).to_dict())
    assert majority_average(averaged_scores(tables.scores)) < majority_average(
        averaged_scores(committed(name, "all").scores)
    )


def test_all_tasks_are_in_the_average_where_a_program_says_so() -> None:
    tables = committed("rank_smollm2", "all")
    assert tables.cells["average"].equals(tables.cells["average_all"]) and tables.near_chance[0].counted
    assert set(tables.questions["task"]) == {"arc_challenge", "arc_easy", "boolq_closed", "openbookqa"}


@pytest.mark.parametrize("name", ["rank_smollm2", "samples_smollm2", "methods_smollm2"])
def test_the_probability_of_the_right_choice_follows_accuracy_and_varies_less(name: str) -> None:
    """Over cells; docs/statistics.md has the numbers."""
    cells = committed(name).cells.query("method != 'base'").astype({"average": float, "probability": float})
    assert stats.pearsonr(cells["average"], cells["probability"]).statistic > 0.92
    of_setting = cells.groupby(["series", "rank", "samples"], dropna=False)[["average", "probability"]]
    within = of_setting.var().mean()
    assert within["probability"] < 0.9 * within["average"]
