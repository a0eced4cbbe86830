"""Comparisons in pairs: who wins, relative to whom."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.tables import baseline_of, cells_of

from bench.analysis.judgments import PAIRS, JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.report.pairwise_table import pairwise_tables
from bench.store.records import JudgeRecord


@pytest.fixture
def cells() -> pd.DataFrame:
    """Full fine-tuning, DoRA and VeRA, in this order."""
    rows = [{"method": "full", "rank": None, "average": 1.0}]
    return cells_of(rows + [{"method": method, "rank": 8, "average": 1.0} for method in ("dora", "vera")])


def judged(games: list[tuple[str, str, str]]) -> JudgmentTables:
    """Two games of each (model_1, model_2, winner of both), in both orders."""
    other = {"A": "B", "B": "A", "tie": "tie"}
    rows = [
        ("j", "held_out", question, 1, game, *models, result)
        for question, (first, second, winner) in enumerate(games)
        for game, models, result in ((1, (first, second), winner), (2, (second, first), other[winner]))
    ]
    judge = JudgeRecord(kind="openai", name="judge", scale=(1.0, 10.0), settings={})
    return JudgmentTables({"j": judge}, pd.DataFrame(), pd.DataFrame(rows, columns=PAIRS), {}, {}, {}, ())


def test_strengths_are_relative_to_the_plan_s_baseline(cells: pd.DataFrame) -> None:
    """The same that accuracies are compared with: of these methods DoRA, the first with a rank."""
    tables = ResultTables(cells, pd.DataFrame(), (), 0, pd.DataFrame(), ())
    games = [("c0", "c1", "A"), ("c1", "c2", "A"), ("c0", "c2", "tie")]
    (table,) = pairwise_tables(tables, judged(games), baseline_of(cells))
    assert table.title == "Compared in pairs: held_out, by judge" and "on Elo's scale, dora r8 at 0" in table.note
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["dora r8"][4] == "+0" and rows["full"][:4] == ["75.0", "1", "1", "0"]
    assert rows["vera r8"][:4] == ["25.0", "0", "1", "1"]


def test_without_a_game_of_the_baseline_the_first_series_takes_its_place(cells: pd.DataFrame) -> None:
    tables = ResultTables(cells, pd.DataFrame(), (), 0, pd.DataFrame(), ())
    (table,) = pairwise_tables(tables, judged([("c0", "c2", "A")]), "dora")
    assert "full at 0" in table.note
    assert pairwise_tables(tables, judged([]), "dora") == []
