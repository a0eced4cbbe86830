"""Who wins where a judge compared the answers of two cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.analysis.interval_text import interval_text
from bench.analysis.judgments import JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.analysis.series import setting_labels
from bench.judging.measures import Match, Standing, standings
from bench.report.table import ReportTable


def pairwise_tables(results: ResultTables, judgments: JudgmentTables, baseline: str | None) -> list[ReportTable]:
    """A table for each judge and set of questions with comparisons. Strengths are relative to the series of the
    baseline method."""
    tables = []
    series = dict(zip(results.cells["folder"], setting_labels(results.cells), strict=True))
    methods = dict(zip(series.values(), results.cells["method"], strict=True))
    for (label, name), rows in judgments.pairs.groupby(["judge", "set"], sort=False):
        matches, missing = _matches(rows[rows["model_1"].isin(series) & rows["model_2"].isin(series)], series)
        players = list(dict.fromkeys(player for match in matches for player in (match.first, match.second)))
        if not matches:
            continue
        anchor = next((player for player in players if methods[player] == baseline), players[0])
        linked = _linked(anchor, matches)
        table = standings(
            [player for player in players if player in linked],
            [match for match in matches if match.first in linked],
            anchor,
        )
        failed = any(check.failed for check in judgments.checks.get(label, ()))
        note = (
            f"{'This judge failed its check: its verdicts say nothing. ' if failed else ''}"
            f"{judgments.judges[label].name} was shown each two answers in both orders; a win is one in both, anything "
            "else a tie (FastChat). Win rate: ties count half. Strength: Bradley and Terry's on Elo's scale, "
            f"{anchor} at 0, with the interval over questions; seeds are pooled. {missing} matches lack a verdict."
        )
        if len(linked) < len(players):
            note += f" {len(players) - len(linked)} series have no link to {anchor} and are left out."
        heads = ["series", "win rate %", "wins", "ties", "losses", "strength", "95 % over questions"]
        title = f"Compared in pairs: {name}, by {judgments.judges[label].name}"
        tables.append(ReportTable(title, heads, [_standing_row(standing) for standing in table], note))
    return tables


def _standing_row(standing: Standing) -> list[str]:
    interval = standing.interval
    return [
        standing.player,
        f"{100 * standing.win_rate:.1f}",
        f"{standing.wins:g}",
        f"{standing.ties:g}",
        f"{standing.losses:g}",
        f"{standing.elo:+.0f}",
        interval_text(interval.low, interval.high, "+.0f") if interval else "-",
    ]


def _linked(anchor: str, matches: Sequence[Match]) -> set[str]:
    """The players that are connected to the anchor by matches: only their strengths are relative to its."""
    linked: set[str] = set()
    added = {anchor}
    while added:
        linked |= added
        pairs = [(match.first, match.second) for match in matches if {match.first, match.second} & added]
        added = {player for pair in pairs for player in pair} - linked
    return linked


def _matches(rows: pd.DataFrame, series: Mapping[str, str]) -> tuple[list[Match], int]:
    """Both games of two cells on a turn as one match, and the number of matches that lack a verdict."""
    games: dict[tuple[str, str, int | str, int], dict[str, float]] = {}
    expected: set[tuple[str, str, int | str, int]] = set()
    for row in rows.itertuples():
        low, high = sorted((row.model_1, row.model_2))
        key = (low, high, row.question_id, row.turn)
        if series[low] != series[high]:
            expected.add(key)
        if isinstance(row.winner, str):
            first = {"A": 1.0, "B": 0.0, "tie": 0.5}[row.winner]
            games.setdefault(key, {})[row.model_1] = first if row.model_1 == low else 1 - first
    matches = []
    for (low, high, question, _), won in games.items():
        if len(won) == 2 and series[low] != series[high]:
            outcomes = set(won.values())
            matches.append(Match(series[low], series[high], question, outcomes.pop() if len(outcomes) == 1 else 0.5))
    return matches, len(expected) - len(matches)
