"""Writes docs/models.md: which methods work on which model families, as the family matrix finds it.

    python docs/generate_models_page.py [--processes 2] [--keep FOLDER]

`tests/helpers/family_matrix.py` runs the matrix; a family takes a core some ten seconds. With --keep the outcomes are
kept in a folder, and a family that is in it is not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # whose helpers make the families

from helpers.family_matrix import FAMILIES, METHODS, Outcome, begin_process, run_family  # noqa: E402

Outcomes = Mapping[str, Mapping[str, Outcome]]
"""By family and method."""

PAGE = Path(__file__).with_name("models.md")
HEAD = """\
# Model families

Every decoder family of the installed transformers, and what each method does on it. A family is tried as a tiny model
of its architecture: few layers, at least one of each kind, small widths, random weights in float32. `yes` means that
the plan accepts the method on the family, and that

- two steps of training change the model, and what is saved of it is loaded again with the same logits,
- log-likelihoods are those of lm-eval's HFLM (within 0.001 nats),
- prompts of unlike length get the same texts in a batch as one by one,
- the merged model has the logits of the unmerged one, where the method merges (LoReFT and prefix tuning do not).

A number stands for the sentence below the table with which the plan refuses the method on this family. The methods have
their default settings, but for a rank of 2, which the small widths allow. `base` is the untuned model.

The size, the tokenizer and the trained weights of a real base are not tried here. `bench plan` tries each setting on a
tiny copy of the base itself.

This page is made by a command: `python docs/generate_models_page.py`. The slow tests compare it with what they find.
"""


def page(outcomes: Outcomes) -> str:
    """The whole page (Markdown). Raises ValueError for a cell that fails without the plan's having refused it."""
    broken = [
        f"{method} on {family}: {outcome.broken}"
        for family, row in outcomes.items()
        for method, outcome in row.items()
        if outcome.broken
    ]
    if broken:
        raise ValueError("These cells fail, and no plan refuses them:\n" + "\n".join(broken))
    counts = Counter(outcome.refused for row in outcomes.values() for outcome in row.values() if outcome.refused)
    numbers = {sentence: number for number, (sentence, _) in enumerate(counts.most_common(), start=1)}
    parts = [HEAD, f"## Summary\n\n{_summary(outcomes)}\n", "## Families\n"]
    parts[-1] += f"\n| family | {' | '.join(METHODS)} |\n|---|{'---|' * len(METHODS)}\n"
    for family, row in outcomes.items():
        cells = [str(numbers[row[method].refused]) if row[method].refused else "yes" for method in METHODS]
        parts[-1] += f"| {family} | {' | '.join(cells)} |\n"
    sentences = "\n".join(f"{number}. {sentence}" for sentence, number in numbers.items())
    return "\n".join([*parts, f"## Why the plan refuses a method\n\n{sentences}\n"])


def _summary(outcomes: Outcomes) -> str:
    rows = [f"{len(outcomes)} families.\n", "| method | works | refused by the plan |", "|---|---|---|"]
    for method in METHODS:
        refused = sum(bool(row[method].refused) for row in outcomes.values())
        rows.append(f"| {method} | {len(outcomes) - refused} | {refused} |")
    return "\n".join(rows)


def read_page(text: str) -> dict[str, dict[str, str]]:
    """By family and method, the sentence with which the plan refuses the method; empty if the method works."""
    lines = text.splitlines()
    numbered = (line.partition(". ") for line in lines if line.split(".")[0].isdigit())
    sentences = {number: sentence for number, _, sentence in numbered} | {"yes": ""}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    table = [row for row in rows if len(row) == len(METHODS) + 1 and row[0] != "family"]
    return {row[0]: dict(zip(METHODS, (sentences[cell] for cell in row[1:]), strict=True)) for row in table}


def _outcome_of(family: str, keep: Path) -> dict[str, Outcome]:
    """The outcomes of a family, from the folder if they are in it."""
    kept = keep / f"{family}.json"
    if kept.is_file():
        return {method: Outcome(**outcome) for method, outcome in json.loads(kept.read_text()).items()}
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_family(family, Path(folder))
    kept.write_text(json.dumps({method: asdict(outcome) for method, outcome in outcomes.items()}))
    print(family, {method: asdict(outcome) for method, outcome in outcomes.items() if outcome != Outcome()}, flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep or Path(temporary)
        keep.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.processes, mp_context=spawn, initializer=begin_process) as pool:
            rows = list(pool.map(_outcome_of, FAMILIES, [keep] * len(FAMILIES)))
    PAGE.write_text(page(dict(zip(FAMILIES, rows, strict=True))), encoding="utf-8")


if __name__ == "__main__":
    main()
