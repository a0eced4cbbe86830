"""The ranked table for a paper: a booktabs tabular, every number as in the page."""

from __future__ import annotations

import pandas as pd

from bench.analysis.interval_text import half_width_text
from bench.report.table import column_text

HEADS = ("method", "rank", "samples", "seeds", r"average (\%)", "trainable", "verdict")
NOTE = r"\multicolumn{7}{l}{\footnotesize $\pm$: 95\,\% over seeds; $^q$: over questions alone.} \\"


def settings_table(settings: pd.DataFrame, name: str) -> str:
    """`settings` (`ranking.rank_settings`): method, rank, samples, seeds, average with its half-width, trainable
    parameters and verdict, the best average first. `name` is that of the sweep."""
    averages = [
        f"{row.average:.1f}"
        + ("" if pd.isna(row.low) else rf" $\pm$ {half_width_text((row.high - row.low) / 2, 1)}")
        + ("$^q$" if row.interval == "questions" else "")
        for row in settings.itertuples()
    ]
    columns = (
        settings["series"],
        _numbers(settings["rank"], "g"),
        _numbers(settings["samples"], ",.0f"),
        _numbers(settings["seeds"], ".0f"),
        averages,
        _numbers(settings["trainable"], ",.0f"),
        settings["verdict"].fillna(""),
    )
    table = pd.DataFrame(dict(zip(HEADS, columns, strict=True)))
    styled = table.style.hide(axis="index").format(escape="latex", subset=["method", "verdict"])
    tabular = styled.to_latex(hrules=True, column_format="lrrrrrl")
    body, end = tabular.rstrip("\n").rsplit("\n", 1)
    return "\n".join([f"% {' '.join(name.split())}", r"% Needs \usepackage{booktabs}.", body, NOTE, end]) + "\n"


def _numbers(values: pd.Series, form: str) -> list[str]:
    return ["--" if text == "-" else text for text in column_text(values, form)]
