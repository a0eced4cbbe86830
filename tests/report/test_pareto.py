"""Quality against cost: the fronts, against the definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
from cells import cells_of

from bench.report import pareto


def test_a_front_is_what_nothing_beats() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        rows = pd.DataFrame({"average": random.integers(0, 8, 12), "seconds": random.integers(0, 8, 12)}, dtype=float)
        found = pareto.front(rows, "seconds")

        def beaten(row: pd.Series, rows: pd.DataFrame = rows) -> bool:
            no_worse = (rows["average"] >= row["average"]) & (rows["seconds"] <= row["seconds"])
            better = (rows["average"] > row["average"]) | (rows["seconds"] < row["seconds"])
            return bool((no_worse & better).any())

        expected = rows[[not beaten(row) for _, row in rows.iterrows()]].drop_duplicates()
        places = ["average", "seconds"]
        assert sorted(found[places].itertuples(index=False)) == sorted(expected[places].itertuples(index=False))
        assert found["seconds"].is_monotonic_increasing


def test_what_was_measured_beside_other_work_or_not_at_all_is_in_no_front() -> None:
    costs = ("trainable", "training_peak_bytes", "training_seconds", "latency_merged_1", "latency_unmerged_1")
    rows = [
        {"method": "lora", "rank": 8, "average": 50.0, **dict.fromkeys(costs, 10.0), "shared": False},
        {"method": "dora", "rank": 8, "average": 52.0, **dict.fromkeys(costs, 20.0), "shared": False},
        {"method": "vera", "rank": 8, "average": 60.0, **dict.fromkeys(costs, 5.0), "shared": True},
        {"method": "ia3", "rank": None, "average": 61.0, **dict.fromkeys(costs), "shared": None},
    ]
    said = pareto.sentences(cells_of(rows))
    assert said[0] == "On the front of quality against trainable parameters, the cheapest first: vera r8."
    assert said[1:] == [
        "On the front of quality against peak memory of training, the cheapest first: lora r8, dora r8.",
        "On the front of quality against training time, the cheapest first: lora r8, dora r8.",
        "On the front of quality against time to answer, the cheapest first: lora r8, dora r8.",
    ]
    (figure,) = pareto.draw(cells_of(rows))
    assert "$" not in figure.svg
