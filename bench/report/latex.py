"""The ranked table for a paper: a booktabs tabular, every number as in the page."""

from __future__ import annotations

import pandas as pd

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{one: rf"\{one}" for one in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def table(settings: pd.DataFrame, name: str) -> str:
    """`settings` (`ranking.ranking`): method, rank, samples, seeds, average with its half-width, trainable parameters
    and verdict, the best average first."""
    lines = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{tabular}{lrrrrrl}",
        r"\toprule",
        r"method & rank & samples & seeds & average (\%) & trainable & verdict \\",
        r"\midrule",
    ]
    for row in settings.itertuples():
        half = "" if pd.isna(row.low) else rf" $\pm$ {(row.high - row.low) / 2:.1f}"
        cells = [
            _escaped(row.series),
            _number(row.rank, "g"),
            _number(row.samples, ",.0f"),
            _number(row.seeds, ".0f"),
            f"{row.average:.1f}{half}",
            _number(row.trainable, ",.0f"),
            _escaped(row.verdict) if isinstance(row.verdict, str) else "",
        ]
        lines.append(" & ".join(cells) + r" \\")
    over = sorted(settings["interval"].dropna().unique())
    note = f"% {_comment(name)}; half-widths: 95 % over {' or '.join(over) or 'nothing'}."
    return "\n".join([note, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _comment(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(one, one) for one in text)


def _number(value: float, form: str) -> str:
    return "--" if pd.isna(value) else format(value, form)
