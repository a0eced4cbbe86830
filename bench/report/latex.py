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
        mark = "$^q$" if row.interval == "questions" else ""
        half = "" if pd.isna(row.low) else rf" $\pm$ {(row.high - row.low) / 2:.1f}{mark}"
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
    note = r"\multicolumn{7}{l}{\footnotesize $\pm$: 95\,\% over seeds; $^q$: over questions alone.} \\"
    return "\n".join([f"% {_comment(name)}", *lines, r"\bottomrule", note, r"\end{tabular}"]) + "\n"


def _comment(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(one, one) for one in text)


def _number(value: float, form: str) -> str:
    return "--" if pd.isna(value) else format(value, form)
