"""The question bootstrap, against its naive definition, scipy, and a known truth."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from helpers.tables import within
from scipy import stats

from bench.statistics import TaskAnswers, bootstrap, percentile_interval, resampled_averages


def naive_bootstrap(task: str, answers: TaskAnswers, resamples: int) -> list[list[float]]:
    """The same draws, spelled out: a cluster drawn twice has its questions twice."""
    labels = sorted(set(answers.clusters))
    random = np.random.default_rng(zlib.crc32(task.encode()))
    found = []
    for _ in range(resamples):
        times = random.multinomial(len(labels), [1 / len(labels)] * len(labels))
        drawn = [
            place
            for label, count in zip(labels, times, strict=True)
            for _ in range(count)
            for place, its in enumerate(answers.clusters)
            if its == label
        ]
        found.append([sum(row[place] for place in drawn) / len(drawn) for row in answers.correct])
    return found


def some_answers(random: np.random.Generator, rows: int, questions: int, clusters: int) -> TaskAnswers:
    labels = np.array([f"c{at}" for at in random.integers(clusters, size=questions)])
    return TaskAnswers((random.random((rows, questions)) < 0.6).astype(float), labels)


def test_the_bootstrap_is_its_naive_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    tasks = {"a": some_answers(random, 3, 40, 12), "b": some_answers(random, 3, 25, 25)}
    ours = resampled_averages(tasks, 50)
    theirs = np.mean([naive_bootstrap(name, one, 50) for name, one in tasks.items()], axis=0)
    assert np.abs(ours - theirs).max() < 1e-12
    # Neither the order of the questions nor that of the runs, nor the memory it is given, changes a draw.
    order, runs = random.permutation(40), [2, 0, 1]
    shuffled = TaskAnswers(tasks["a"].correct[runs][:, order], tasks["a"].clusters[order])
    other = {"a": shuffled, "b": TaskAnswers(tasks["b"].correct[runs], tasks["b"].clusters)}
    assert np.abs(resampled_averages(other, 50) - ours[:, runs]).max() < 1e-12
    monkeypatch.setattr(bootstrap, "WEIGHTS", 60)
    assert np.array_equal(resampled_averages(tasks, 50), ours)


def test_the_bootstrap_is_scipy_s() -> None:
    random = np.random.default_rng(1)
    questions = np.arange(400).astype(str)
    correct = (random.random((2, 400)) < [[0.6], [0.5]]).astype(float)
    found = resampled_averages({"task": TaskAnswers(correct, questions)}, 4000)
    ours = percentile_interval(found[:, 0] - found[:, 1])
    theirs = stats.bootstrap(
        (correct[0] - correct[1],), np.mean, n_resamples=4000, method="percentile", rng=random
    ).confidence_interval
    # Of two sets of 4,000 draws: an end has an s.d. of about 0.04 of the difference's, 0.035.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_clusters_are_resampled_whole() -> None:
    """Questions of one passage fall together: taken one by one their interval is too narrow, by clusters it covers."""
    runs, clusters, size = 500, 120, 8
    random = np.random.default_rng(0)
    passages = random.normal(0, 0.25, (runs, clusters, 1))
    correct = (random.random((runs, clusters, size)) < 0.5 + passages.clip(-0.5, 0.5)).reshape(runs, -1).astype(float)
    labels = np.repeat(np.arange(clusters), size).astype(str)
    alone = np.arange(clusters * size).astype(str)

    def covered(groups: np.ndarray) -> float:
        low, high = np.quantile(resampled_averages({"t": TaskAnswers(correct, groups)}, 500), [0.025, 0.975], axis=0)
        return float(((low <= 0.5) & (high >= 0.5)).mean())

    assert abs(covered(labels) - 0.95) < within(0.95, runs) + 0.01
    assert covered(alone) < 0.86
