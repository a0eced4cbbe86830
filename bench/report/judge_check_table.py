"""The results of the judges' checks."""

from __future__ import annotations

from bench.analysis.interval_text import interval_text
from bench.analysis.judgments import JudgmentTables
from bench.judging.judge_check import INFERIOR
from bench.report.table import ReportTable


def check_table(judgments: JudgmentTables) -> list[ReportTable]:
    """The result of each judge's check, a row a set and kind of answers; none where no judge was checked."""
    rows = []
    for label, checks in judgments.checks.items():
        judge = judgments.judges[label]
        for check in checks:
            noise = "-" if check.noise is None else f"{check.noise:.2f}"
            rated = f"{check.rated} of {check.wanted}"
            if not check.wanted:
                why = "no second reference answer" if judge.kind == "reference" else "no gold answer"
                rows.append([judge.name, check.set, f"not checkable: {why}", "-", "-", "-", "-", "-"])
            elif not check.separations:
                rows.append([judge.name, check.set, "no judgment that could be read", "-", "-", rated, noise, "no"])
            for kind, separation in check.separations.items():
                auc = f"{separation.auc:.2f}"
                interval = interval_text(separation.interval.low, separation.interval.high, ".2f")
                verdict = "no: below 0.8" if separation.insufficient else "yes" if check.complete else "not whole"
                rows.append([judge.name, check.set, INFERIOR[kind], auc, interval, rated, noise, verdict])
    if not rows:
        return []
    heads = ["judge", "set", "gold answers against", "AUC", "95 %", "judgments", "noise (s.d.)", "tells them apart"]
    note = (
        "The chance that a gold answer scores above another one (0.5: by luck). The gold answer is the reference, "
        "which the judge is not shown; for the judge named reference, which measures likeness to it, a second one "
        "written independently. Noise: the s.d. of one judgment, from the same answers judged twice."
    )
    return [ReportTable("Can the judges judge?", heads, rows, note)]
