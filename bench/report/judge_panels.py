"""Each judge's scores of each set of open questions, on a scale of their own. Judges and sets never share a column."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.analysis import comparison
from bench.analysis.judgments import JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.judging.measures import noise_of_mean
from bench.sweep.sections import ReportConfig

COMPARABLE_SHARE = 0.8
"""The share of its judgments that a cell needs to be compared with others."""


@dataclass(frozen=True)
class JudgePanel:
    """One judge's scores of the answers to one set of questions: a scale and an axis of its own."""

    judge: str
    """Its label."""
    name: str
    """Its name, with its label's end where another judge has the same name."""
    kind: str
    set: str
    low: float
    high: float
    cells: pd.DataFrame
    """Cells as in `ResultTables`; their `average` is the mean score over the judgments that all of them have, missing
    for a cell that lacks too many to be compared."""
    scores: pd.DataFrame
    """Rows of `JudgmentTables.scores`, each over all of its cell's own judgments."""
    questions: pd.DataFrame
    """Those judgments as `ResultTables.questions` has answers."""
    differences: pd.DataFrame
    noise: float | None
    """Half-width of the 95 % interval that the judge's own noise gives a mean; None where it is not known."""
    failed_check: bool
    """It does not rate gold answers above others."""
    left_out: int
    """Judgments that some compared cell lacks, and that are excluded for all of them."""
    partial: tuple[str, ...]
    """Names of the cells that lack too many judgments to be compared."""

    @property
    def title(self) -> str:
        return f"{self.set}, judged by {self.name}"

    @property
    def scale(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @property
    def hundredth(self) -> float:
        """A hundredth of the scale: the margin of a tie where it is a point of 100."""
        return (self.high - self.low) / 100

    @property
    def doubt(self) -> str:
        """The warning that goes with everything that this judge says; empty where it passed its check."""
        return "This judge failed its check: its scores say nothing. " if self.failed_check else ""


def judge_panels(
    tables: ResultTables, judgments: JudgmentTables, baseline: str | None, rules: ReportConfig
) -> list[JudgePanel]:
    """Every judge's scores of every set of questions."""
    return [
        _panel(tables, judgments, label, name, scores, baseline, rules)
        for (label, name), scores in judgments.scores().groupby(["judge", "set"], sort=False)
    ]


def _panel(
    tables: ResultTables,
    judgments: JudgmentTables,
    label: str,
    name: str,
    scores: pd.DataFrame,
    baseline: str | None,
    rules: ReportConfig,
) -> JudgePanel:
    """One judge's scores of one set of questions, with the paired differences from the baseline."""
    judge = judgments.judges[label]
    low, high = judge.scale
    comparable = set(scores[scores["n"] - scores["missing"] >= COMPARABLE_SHARE * scores["n"]]["folder"])
    ratings = judgments.ratings
    ratings = ratings[(ratings["judge"] == label) & (ratings["set"] == name) & ratings["folder"].isin(comparable)]
    common, left_out = _common_to_all(ratings)
    cells = tables.cells.assign(average=tables.cells["folder"].map(common.groupby("folder")["score"].mean()))
    checks = judgments.checks.get(label, [])
    noise = next((check.noise for check in checks if check.set == name and check.complete), None)
    each = int(common.groupby("folder").size().max()) if len(common) else 0
    questions = _questions(common)
    scaled = rules.model_copy(update={"tie_margin": rules.tie_margin * (high - low) / 100})
    differences = comparison.differences(cells, baseline, questions, scaled)
    namesakes = [other for other, record in judgments.judges.items() if record.name == judge.name]
    names = dict(zip(tables.cells["folder"], tables.cells["name"], strict=True))
    return JudgePanel(
        judge=label,
        name=judge.name if len(namesakes) == 1 else f"{judge.name} ({label[-8:]})",
        kind=judge.kind,
        set=name,
        low=low,
        high=high,
        cells=cells,
        scores=scores,
        questions=questions,
        differences=differences.assign(mcnemar_p=None, mcnemar_p_adjusted=None),
        noise=noise_of_mean(noise, each) if noise is not None and each else None,
        failed_check=any(check.failed for check in checks),
        left_out=left_out,
        partial=tuple(names[folder] for folder in scores["folder"] if folder not in comparable),
    )


def _common_to_all(ratings: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The judgments that every cell has, and how many judgments some cell lacks."""
    keys = ["question_id", "turn", "repeat"]
    cells = ratings["folder"].nunique()
    rated = ratings[ratings["score"].notna()].groupby(keys)["folder"].nunique()
    common = rated[rated == cells].index
    indexed = ratings.set_index(keys)
    return indexed[indexed.index.isin(common)].reset_index(), ratings.groupby(keys).ngroups - len(common)


def _questions(ratings: pd.DataFrame) -> pd.DataFrame:
    """Judgments as `ResultTables.questions` has answers: a row a question and turn, its question being its cluster."""
    question = ratings["question_id"].astype(str)
    judgment = question + ":" + ratings["turn"].astype(str) + ":" + ratings["repeat"].astype(str)
    return pd.DataFrame(
        {
            "folder": pd.Categorical(ratings["folder"]),
            "protocol": pd.Categorical(ratings["judge"]),
            "task": pd.Categorical(ratings["set"]),
            "question_id": pd.Categorical(judgment),
            "cluster": pd.Categorical(question),
            "correct": ratings["score"] / 100,  # an average over it comes out in points of 100
        }
    )
