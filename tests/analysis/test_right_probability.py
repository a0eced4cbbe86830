"""The probability of the right choice, and which tasks have a fixed set of labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from helpers.tables import right_by_hand

from bench.analysis.right_probability import fixed_labels, right_probability


def rows_of(loglikelihoods: list[list[float]], lengths: list[list[int]], gold: list[int]) -> dict[str, pa.ChunkedArray]:
    columns = {"loglikelihoods": loglikelihoods, "lengths": lengths, "gold": gold}
    return {name: pa.chunked_array([values]) for name, values in columns.items()}


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_it_is_the_softmax_of_what_the_primary_metric_ranks_by(metric: str) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(2, 6, 40)
    scores = [list(-20 * random.random(size) - 500 * (place % 7 == 0)) for place, size in enumerate(sizes)]
    lengths = [list(map(int, random.integers(1, 30, size))) for size in sizes]
    gold = [int(random.integers(size)) for size in sizes]
    expected = [right_by_hand(*row, metric) for row in zip(scores, lengths, gold, strict=True)]
    assert right_probability(rows_of(scores, lengths, gold), metric) == pytest.approx(expected, rel=1e-12)


def test_choices_of_equal_length_have_one_probability_by_both_metrics() -> None:
    rows = rows_of([[-1.0, -2.0], [-3.0, -0.5]], [[7, 7], [4, 4]], [0, 1])
    assert right_probability(rows, "acc") == pytest.approx(right_probability(rows, "acc_norm"))
    assert right_probability(rows, "acc")[0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_rows_without_usable_loglikelihoods_have_none() -> None:
    rows = rows_of([[-1.0, -2.0]], [[3, 4]], [0])
    assert right_probability({"gold": rows["gold"]}, "acc") is None
    assert right_probability({name: rows[name] for name in ("loglikelihoods", "gold")}, "acc_norm") is None
    assert right_probability(rows_of([[-1.0, -2.0]], [[3, 4]], [2]), "acc") is None
    assert right_probability(rows_of([[-1.0, float("nan")]], [[3, 4]], [0]), "acc") is None
    assert right_probability(rows_of([[]], [[]], [0]), "acc") is None


@pytest.mark.parametrize(
    ("lengths", "fixed"),
    [
        ([[4, 5], [4, 5]], True),  # true, false
        ([[7, 7], [7, 7]], False),  # answer1, answer2: each question's own choices
        ([[4, 5], [5, 4]], False),
        ([[4, 5], [4, 5, 6]], False),
        ([[4, 5]], False),
    ],
)
def test_fixed_labels_are_known_by_the_lengths_of_the_choices(lengths: list[list[int]], fixed: bool) -> None:
    rows = rows_of([[-1.0] * len(of_one) for of_one in lengths], lengths, [0] * len(lengths))
    assert fixed_labels(rows) is fixed
