"""The ranked table: every setting with its score, how surely it is known, and what it cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.analysis import comparison
from bench.analysis.result_tables import ResultTables, averaged_scores, trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.cost import settings
from bench.statistics import SEEDS, mean_interval

COLUMNS = (
    "kind",
    "series",
    "rank",
    "samples",
    "seeds",
    "average",
    "low",
    "high",
    "interval",
    "development",
    "development_n",
)
COSTS = ("trainable", "memory", "seconds", "latency")
TASK = "task: "
"""What the column of a task begins with: a task may have any name."""


def ranking(read: ResultTables, differences: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """One row a setting, the best average first; the untuned base and the majority class stand where their averages put
    them.

    `kind`: trained, untuned or majority. Scores in points; `low` and `high` are 95 % over seeds (t) with three seeds
    or more, else over questions alone, as `interval` says. `development`: the mean share of right answers to a few
    development questions, which may choose a setting where test scores may not. `verdict`: against the baseline, as in
    the paired differences. A column a task of the averages' protocol, then `memory` (peak of training, MB), `seconds`
    (of training) and `latency` (s, one prompt, 64 tokens), each a mean over seeds."""
    scores = averaged_scores(read.scores)
    tasks = list(dict.fromkeys(scores["task"]))
    by_cell = scores.pivot(index="folder", columns="task", values="score") if tasks else pd.DataFrame()
    trained = trained_cells(read.cells)
    untuned = read.cells[(read.cells["status"] == "done") & (read.cells["method"] == "base")]
    labelled = pd.concat(
        [trained.assign(label=setting_labels(trained)), untuned.assign(label="untuned " + untuned["base"])]
    )
    labelled = labelled[labelled["average"].notna()]
    costs = settings(read.cells).set_index("label")
    verdicts: dict[Any, list[str]] = {}
    for difference in comparison.difference_rows(differences):
        place = difference.series, difference.rank, difference.samples
        verdicts.setdefault(place, []).append(_verdict_text(difference))
    own_ranks = len(differences) > 0 and differences["rank"].isna().all()
    rows = []
    for label, own in labelled.groupby("label", sort=False):
        first = own.iloc[0]
        row: dict[str, Any] = {"average": own["average"].mean(), **_interval(own)}
        row["development"] = pd.to_numeric(own["development"]).mean()
        row["development_n"] = pd.to_numeric(own["development_n"]).mean()
        if first["method"] == "base":
            row |= {"kind": "untuned", "series": "untuned" + first["series"].removeprefix("base"), "verdict": ""}
        else:
            row |= {"kind": "trained", "series": first["series"], "rank": first["rank"], "samples": first["samples"]}
            of_baseline = "baseline" if first["method"] == baseline else ""
            place = first["series"], None if own_ranks else _rank(first["rank"]), first["samples"]
            found = verdicts.get(place, [of_baseline])
            row["verdict"] = "; ".join(found)
            row |= {"seeds": len(own), **costs.loc[label, list(COSTS)].to_dict()}
        rows.append(row | _by_task(by_cell.loc[own["folder"]].mean()))
    majority = scores.drop_duplicates("task").set_index("task")["majority"]
    if rows and len(majority) and majority.notna().all():
        rows.append({"kind": "majority", "series": "majority class", "average": majority.mean(), **_by_task(majority)})
    columns = [*COLUMNS, *(TASK + task for task in tasks), *COSTS, "verdict"]
    return pd.DataFrame(rows, columns=columns).sort_values("average", ascending=False, kind="stable", ignore_index=True)


def _rank(rank: float | None) -> float | None:
    return None if pd.isna(rank) else rank


def _by_task(scores: pd.Series) -> dict[str, float]:
    return {f"{TASK}{task}": score for task, score in scores.items()}


def _interval(own: pd.DataFrame) -> dict[str, Any]:
    """95 % of a setting's mean, and over what."""
    found = mean_interval(list(own["average"])) if len(own) >= SEEDS else None
    if found is not None:
        return {"low": found.low, "high": found.high, "interval": "seeds"}
    mean, noise = own["average"].mean(), own["question_noise"].mean()
    return {"low": mean - noise, "high": mean + noise, "interval": "questions"}


def _verdict_text(row: comparison.PairedDifference) -> str:
    """A verdict in the words of a cell of the table."""
    words = {"better": "better than", "worse": "worse than", "tie": "tie with", "unresolved": "unresolved against"}
    against = row.baseline_label
    if row.verdict not in words:
        return f"{row.difference:+.1f} to {against} in {'one run' if row.seeds == 1 else f'{row.seeds} runs'} each"
    return f"{words[row.verdict]} {against}"


def best(table: pd.DataFrame) -> pd.Series | None:
    """The trained row with the most right answers to development questions. Of equals that with the fewest trainable
    parameters, then samples, then by name: test questions have no part in it. None where nothing trained has them."""
    known = table[(table["kind"] == "trained") & table["development"].notna()]
    if known.empty:
        return None
    keys = ["development", "trainable", "samples", "series", "rank"]
    return known.sort_values(keys, ascending=[False, True, True, True, True]).iloc[0]
