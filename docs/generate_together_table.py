"""Writes the table of docs/training.md: which methods are trained together, and how far that is from alone.

    python docs/generate_together_table.py

`tests/helpers/groups.py` trains each method both ways on a tiny llama made on the spot.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # whose helpers make the model and its settings

from helpers.groups import Comparison, compared  # noqa: E402
from helpers.methods import SETTINGS, TRAINED  # noqa: E402
from helpers.sweeps import make_tiny_model  # noqa: E402

PAGE = Path(__file__).with_name("training.md")
BEGIN, END = "<!-- python docs/generate_together_table.py -->\n", "<!-- end -->\n"
HEAD = "| method | trained | loss | weights | why alone |\n|---|---|---|---|---|\n"


def table(comparisons: Mapping[str, Comparison]) -> str:
    """The table (Markdown), a row for each method."""
    rows = []
    for name, comparison in comparisons.items():
        if comparison.alone is None:
            rows.append(f"| {name} | together | {comparison.loss:.0e} | {comparison.weight:.0e} | |\n")
        else:
            rows.append(f"| {name} | alone | | | {comparison.alone} |\n")
    return HEAD + "".join(rows)


def page(text: str, comparisons: Mapping[str, Comparison]) -> str:
    """The page with the table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(comparisons) + END + after


def read_table(text: str) -> dict[str, Comparison]:
    """What the page says of each method."""
    lines = text.partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {
        name: Comparison(None, float(loss), float(weight)) if how == "together" else Comparison(reason)
        for name, how, loss, weight, reason in rows
    }


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of libraries
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_tiny_model(Path(folder))
        comparisons = {}
        for name in TRAINED:
            comparisons[name] = compared(tiny, name, SETTINGS.get(name))
            print(name, comparisons[name], flush=True)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), comparisons), encoding="utf-8")


if __name__ == "__main__":
    main()
