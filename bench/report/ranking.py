"""The ranked table: every setting with its score, how surely it is known, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.analysis.comparison import PairedDifference, difference_rows, rates_text
from bench.analysis.levels import with_intervals
from bench.analysis.result_tables import ResultTables, averaged_scores, majority_average, trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.cost import setting_costs

COLUMNS = (
    "kind",
    "series",
    "rank",
    "samples",
    "seeds",
    "lr",
    "average",
    "low",
    "high",
    "interval",
    "average_all",
    "probability",
    "development",
    "development_n",
)
MEANS = ("average_all", "probability", "development", "development_n")
"""Columns of cells that a setting has the mean of."""
COSTS = ("trainable", "memory", "seconds", "latency")
TASK = "task: "
"""The prefix of a task's column: a task may have any name."""


def rank_settings(results: ResultTables, differences: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """One row a setting, the best average first; the untuned base and the majority class stand where their averages put
    them.

    `kind`: trained, untuned or majority. `lr`: learning rates, with how many seeds have each where they differ. Scores
    in points; `low` and `high` are the 95 % of `levels.with_intervals`, over what `interval` says. `average_all`: over
    all tasks, those near chance too. `probability`: of the right choice. `development`: the mean share of right answers
    to a few development questions. `verdict`: against the baseline, as in the paired differences. A column a task of
    the averages' protocol, then `memory` (peak of training, MB), `seconds` (of training) and `latency` (s, one prompt,
    64 tokens), each a mean over seeds."""
    scores = averaged_scores(results.scores)
    tasks = list(dict.fromkeys(scores["task"]))
    by_cell = scores.pivot(index="folder", columns="task", values="score") if tasks else pd.DataFrame()
    with_bars = with_intervals(results.cells, results.answers)
    trained = trained_cells(with_bars)
    untuned = with_bars[(with_bars["status"] == "done") & (with_bars["method"] == "base")]
    labelled = pd.concat(
        [trained.assign(label=setting_labels(trained)), untuned.assign(label="untuned " + untuned["base"])]
    )
    labelled = labelled[labelled["average"].notna()]
    costs = setting_costs(results.cells).set_index("label")
    verdicts = _Verdicts.of(differences, baseline)
    rows = []
    for label, cells in labelled.groupby("label", sort=False):
        row = {**_scores(cells), **_by_task(by_cell.loc[cells["folder"]].mean())}
        first = cells.iloc[0]
        if first["method"] == "base":
            row |= {"kind": "untuned", "series": "untuned" + first["series"].removeprefix("base"), "verdict": ""}
        else:
            row |= {"kind": "trained", "series": first["series"], "rank": first["rank"], "samples": first["samples"]}
            verdict = verdicts.text(first["method"], first["series"], first["rank"], first["samples"])
            row |= {
                "lr": rates_text(cells["lr"]),
                "seeds": len(cells),
                "verdict": verdict,
                **costs.loc[label, list(COSTS)].to_dict(),
            }
        rows.append(row)
    majority = scores.drop_duplicates("task").set_index("task")["majority"]
    if rows and len(majority) and majority.notna().all():
        averages = {"average": majority_average(scores), "average_all": majority.mean()}
        rows.append({"kind": "majority", "series": "majority class", **averages, **_by_task(majority)})
    columns = [*COLUMNS, *(TASK + task for task in tasks), *COSTS, "verdict"]
    return pd.DataFrame(rows, columns=columns).sort_values("average", ascending=False, kind="stable", ignore_index=True)


@dataclass(frozen=True)
class _Verdicts:
    """The verdicts on each setting, in words."""

    texts: dict[tuple[str, float | None, int], list[str]]
    """By series, rank and samples."""
    at_own_ranks: bool
    """The settings were compared at their own ranks, so that ranks do not identify a comparison."""
    baseline: str | None

    @classmethod
    def of(cls, differences: pd.DataFrame, baseline: str | None) -> _Verdicts:
        rows = difference_rows(differences)
        texts: dict[tuple[str, float | None, int], list[str]] = {}
        for row in rows:
            texts.setdefault((row.series, row.rank, row.samples), []).append(_verdict_text(row))
        return cls(texts, bool(rows) and all(row.rank is None for row in rows), baseline)

    def text(self, method: str, series: str, rank: float | None, samples: int) -> str:
        place = series, None if self.at_own_ranks or pd.isna(rank) else rank, samples
        return "; ".join(self.texts.get(place, ["baseline" if method == self.baseline else ""]))


def _by_task(scores: pd.Series) -> dict[str, object]:
    return {f"{TASK}{task}": score for task, score in scores.items()}


def _scores(cells: pd.DataFrame) -> dict[str, object]:
    """The averages of the cells of a setting, with the 95 % interval of the first, and what it is over."""
    first, average = cells.iloc[0], cells["average"].mean()
    means = {name: pd.to_numeric(cells[name]).mean() for name in MEANS}
    interval = {"low": average - first["half_width"], "high": average + first["half_width"]}
    return {"average": average, **interval, "interval": first["interval"], **means}


def _verdict_text(row: PairedDifference) -> str:
    """A verdict in the words of a cell of the table."""
    words = {"better": "better than", "worse": "worse than", "tie": "tie with"}
    if row.verdict == "unresolved":
        return f"at most {row.bound:.1f} from {row.baseline_label}"
    if row.verdict not in words:
        runs = "one run" if row.seeds == 1 else f"{row.seeds} runs"
        return f"{row.difference:+.1f} to {row.baseline_label} in {runs} each"
    return f"{words[row.verdict]} {row.baseline_label}"
