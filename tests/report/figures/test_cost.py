"""Quality against cost: the fronts, against the definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.paths import RESULTS
from helpers.tables import cells_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from bench.analysis.result_tables import read_results
from bench.report.figures import cost as pareto
from bench.store.folder import Results


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
    said = pareto.front_sentences(cells_of(rows))
    assert said[0] == "On the front of quality against trainable parameters, the cheapest first: vera r8."
    assert said[1:] == [
        "On the front of quality against peak memory of training, the cheapest first: lora r8, dora r8.",
        "On the front of quality against training time, the cheapest first: lora r8, dora r8.",
        "On the front of quality against time to answer, the cheapest first: lora r8, dora r8.",
    ]
    (figure,) = pareto.draw(cells_of(rows))
    assert "$" not in figure.svg


# Peak memory (MB) and average of results/methods_smollm2: the best three, and what lies below them.
FRONT = [(1597, 45.58), (2145, 45.83), (2360, 46.42)]
BELOW = [(2807, 45.42), (1840, 45.17), (2401, 45.0), (3670, 44.83), (1921, 44.67), (2297, 44.58), (2061, 44.42)]
BELOW += [(2337, 44.25), (2739, 44.17), (2128, 44.17), (2408, 44.08), (2074, 44.0), (3289, 43.75), (2613, 43.67)]
BELOW += [(2188, 43.67), (3408, 42.33), (2155, 41.33), (2053, 41.08), (2400, 39.67), (2091, 38.0), (3004, 35.25)]


def test_names_on_a_crowded_front_stand_apart() -> None:
    """And what is on no front is pale, another rank of the same method on one or not."""
    rows = pd.DataFrame([*FRONT, *BELOW], columns=["memory", "average"])
    rows["label"] = [f"method{i} r16" for i in rows.index]
    rows["series"] = ["method1", *rows["label"][1:-1], "method1"]
    rows = rows.assign(**{cost.column: rows["memory"] for cost in pareto.COSTS})
    figure = pareto._figure(rows, list(pareto.COSTS))
    renderer = FigureCanvasAgg(figure).get_renderer()
    for panel in figure.axes:
        boxes = {text.get_text(): Text.get_window_extent(text, renderer) for text in panel.texts}
        assert set(boxes) == {f"method{i} r16" for i in range(len(FRONT))}
        for name, box in boxes.items():
            assert box.count_overlaps([other for mine, other in boxes.items() if mine != name]) == 0, name
            assert panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1, name
        shown = [line for line in panel.lines if line.get_marker() == "o" and len(line.get_xdata())]
        alone = sorted(line.get_alpha() for line in shown for _ in line.get_xdata())
        assert alone == [0.35] * len(BELOW) + [1.0] * len(FRONT)


@pytest.mark.slow
@pytest.mark.parametrize("sweep", ["methods_smollm2", "samples_smollm2"])
def test_names_stay_inside_their_panels_in_print(sweep: str) -> None:
    """Where letters are a few percent wider than where their places were looked for; on committed results."""
    rows = pareto.setting_costs(read_results(Results(RESULTS / sweep)).cells)
    figure = pareto._figure(rows, [cost for cost in pareto.COSTS if rows[cost.column].nunique() > 1])
    figure.set_dpi(200)
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for panel in figure.axes:
        for text in panel.texts:
            box = Text.get_window_extent(text, renderer)
            assert panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1, text.get_text()
