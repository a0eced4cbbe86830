"""What learning rates change: the difference of two methods at each rate, and what is lost when the rate is off."""

from __future__ import annotations

from bench.analysis.interval_text import interval_text
from bench.analysis.rate_contrasts import RateStudy
from bench.report.table import ReportTable


def rate_tables(study: RateStudy | None) -> list[ReportTable]:
    """No tables where rates were not run with every seed."""
    if study is None:
        return []
    tables = []
    if study.differences:
        rows = []
        for difference in study.differences:
            interval = difference.estimate.interval()
            rows.append(
                [
                    difference.series,
                    difference.baseline,
                    f"{difference.rate:g}",
                    str(difference.estimate.seeds),
                    f"{difference.estimate.mean:+.2f}",
                    interval_text(interval.low, interval.high, "+.2f") if interval else "-",
                ]
            )
        note = (
            "Points, the mean over all places at which both were run at that rate; intervals over seeds and questions, "
            "not adjusted for their number, so that none of them is a verdict."
        )
        heads = ["series", "baseline", "learning rate", "seeds", "difference", "95 % (unadjusted)"]
        tables.append(ReportTable("Difference at each learning rate", heads, rows, note))
    if study.lost:
        note = (
            "Points by which the score is lower at the rates next to the chosen one, the mean over settings and seeds. "
            "A negative number: the choice on development questions was not the best for the test."
        )
        lost = [[series, f"{points:.2f}"] for series, points in sorted(study.lost.items(), key=lambda pair: pair[1])]
        tables.append(ReportTable("Lost when the learning rate is off by a step", ["series", "points"], lost, note))
    return tables
