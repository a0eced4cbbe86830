"""The ranked table of settings, and the published numbers beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers.tables import cells_of, compared
from scipy import stats

from bench.analysis.rescoring import QUESTIONS
from bench.analysis.result_tables import ResultTables
from bench.report import latex, published
from bench.report.ranking import rank_settings
from bench.report.score_tables import ranked_table

TASK = {"majority": 41.0, "counted": True, "near_chance": False}
AVERAGES = {"lora": [50.0, 52.0, 54.0], "dora": [53.0, 55.0, 57.1], "full": [60.0, 61.0, 62.0]}


@pytest.fixture
def read() -> ResultTables:
    """Three seeds of three methods, the untuned base, on two tasks."""
    rows = [{"method": "base", "rank": None, "samples": 0, "average": 40.0, "development": 35.0}]
    rows += [
        {
            "method": method,
            "rank": None if method == "full" else 8,
            "seed": seed,
            "average": average,
            "development": 70.0 if method == "dora" else 65.0,
            "development_n": 60,
            "trainable": 100 + len(method),
            "training_seconds": 10.0 * (seed + 1),
            "training_peak_bytes": 2e6,
            "latency_merged_1": 0.5,
            "latency_unmerged_1": 0.7,
            "shared": method == "full",
        }
        for method, own in AVERAGES.items()
        for seed, average in enumerate(own)
    ]
    missing = {
        "development": None,
        "development_n": None,
        "trainable": None,
        "training_seconds": None,
        "training_peak_bytes": None,
    }
    missing |= {"latency_merged_1": None, "latency_unmerged_1": None, "shared": None}
    cells = cells_of([{**missing, **row} for row in rows])
    scores = pd.DataFrame(
        [
            {
                "folder": row.folder,
                "task": task,
                "protocol": "p",
                "score": row.average + shift,
                "majority": 41.0,
                **TASK,
            }
            for row in cells.itertuples()
            for task, shift in (("first", -1.0), ("second", 1.0))
        ]
    )
    return ResultTables(cells, scores, (), 0, pd.DataFrame(columns=list(QUESTIONS)), ())


@pytest.fixture
def ranked(read: ResultTables) -> pd.DataFrame:
    return rank_settings(read, compared(read.cells), "lora")


def test_every_setting_stands_where_its_average_puts_it(ranked: pd.DataFrame) -> None:
    assert list(ranked["series"]) == ["full", "dora", "lora", "majority class", "untuned"]
    assert list(ranked["kind"]) == ["trained", "trained", "trained", "majority", "untuned"]
    lora = ranked.set_index("series").loc["lora"]
    assert (lora["average"], lora["task: first"], lora["task: second"], lora["seeds"]) == (52.0, 51.0, 53.0, 3)
    expected = stats.t.interval(0.95, 2, loc=52.0, scale=2.0 / 3**0.5)
    assert (lora["low"], lora["high"]) == pytest.approx(expected) and lora["interval"] == "seeds"
    assert (lora["seconds"], lora["memory"], lora["latency"], lora["verdict"]) == (20.0, 2.0, 0.5, "baseline")
    assert ranked.set_index("series").loc["dora", "verdict"] == "better than lora"
    untuned = ranked.set_index("series").loc["untuned"]
    assert (untuned["low"], untuned["high"], untuned["interval"]) == (38.0, 42.0, "questions")


def test_costs_beside_other_work_are_left_out(ranked: pd.DataFrame) -> None:
    full = ranked.set_index("series").loc["full"]
    assert full["trainable"] == 104 and full[["memory", "seconds", "latency"]].isna().all()


def test_the_table_says_what_an_interval_is_over(read: ResultTables, ranked: pd.DataFrame) -> None:
    (table,) = ranked_table(ranked, read.scores)
    rows = {row[0]: dict(zip(table.heads, row, strict=True)) for row in table.rows}
    assert rows["untuned"]["95 %"] == "[38.0, 42.0] q" and not rows["lora"]["95 %"].endswith("q")
    assert rows["dora"]["against the baseline"] == "better than lora" and rows["full"]["training s"] == "-"
    assert [task for task in table.tasks if task] == ["first", "second"]
    assert table.keys[1] == {"method": "dora", "rank": "8"} and table.keys[0] == {"method": "full", "rank": ""}


def test_latex_has_every_row_and_escapes_names(ranked: pd.DataFrame) -> None:
    text = latex.settings_table(ranked.assign(series="my_method & co {50 %}\\x"), "a\nname")
    lines = text.splitlines()
    assert lines[0] == "% a name"
    rows = [line for line in lines if line.startswith("my")]
    assert len(rows) == 5
    assert rows[0].startswith(r"my\_method \& co \{50 \%\}\textbackslash x & ")
    assert all(len(row.replace(r"\&", "").split(" & ")) == 7 and row.endswith(r" \\") for row in rows)
    assert "40.0 $\\pm$ 2.0$^q$" in text and "over questions alone" in text
    assert r"55.0 $\pm$ 5.1" in text and "& -- &" in text


def test_published_files_are_the_shared_ones(shared: Path) -> None:
    for name in published.SOURCES:
        assert (published.FOLDER / f"{name}.csv").read_bytes() == (shared / "published" / f"{name}.csv").read_bytes()
