"""The report of a sweep: `report.html` (one file, no outside request), `report.md`, figures and tables.

Everything in it is made from the recorded cells; writing it again from the same cells changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench import frames
from bench.report import figures, published
from bench.statistics import TIE_MARGIN
from bench.store import Results, write_text, writing


@dataclass(frozen=True)
class Table:
    """A table as it is shown: every value a text."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""


def write_report(results: Results) -> Path:
    """Write the report of a results folder and return the path of `report.html`.

    Raises UserError for a folder that holds no sweep or a record that cannot be believed.
    """
    plan = results.plan()
    read = frames.read(results)
    differences = frames.differences(read.cells)
    figure = figures.rank_vs_accuracy(read.cells, read.scores)
    markup = figures.svg(figure) if figure else ""
    failures = read.cells[read.cells["status"] != "done"]
    content = {
        "name": plan["name"],
        "notes": plan["notes"],
        "finding": _finding(read.cells, differences),
        "coverage": _coverage(read),
        "failures": failures[["name", "status", "reason", "traceback"]].to_dict("records"),
        "problems": read.problems,
        "figure": markup,
        "caption": _caption(read.cells),
        "tables": _tables(plan, read, differences),
        "provenance": _provenance(results, plan),
        "sweep": (results.path / "sweep.yaml").read_text(encoding="utf-8"),
    }
    folder = results.report
    if figure:
        write_text(folder / "figures" / "rank_vs_accuracy.svg", markup)
        with writing(folder / "figures" / "rank_vs_accuracy.png") as temporary:
            temporary.write_bytes(figures.png(figure))
    for name, table in (("cells", read.cells), ("scores", read.scores), ("differences", differences)):
        flat = table.drop(columns=["traceback"], errors="ignore")
        flat = flat.assign(**{key: flat[key].map(json.dumps) for key in ("options", "training") if key in flat})
        write_text(folder / "tables" / f"{name}.csv", flat.to_csv(index=False))
    write_text(folder / "report.md", _render("page.md", content, escape=False))
    write_text(folder / "report.html", _render("page.html", content, escape=True))
    return folder / "report.html"


def _render(template: str, content: dict[str, Any], escape: bool) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(content)


def _finding(cells: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """The comparison in sentences; each says how surely."""
    done = cells[cells["status"] == "done"]
    untuned = done[done["method"] == "base"]["average"]
    if done[done["method"] != "base"].empty:
        return ["No trained cell is done yet."]
    sentences = [_difference(row) for row in differences.itertuples()]
    if len(untuned):
        means = done[done["method"] != "base"].groupby("folder")["average"].mean()
        sentences.append(
            f"The untuned base scores {untuned.mean():.1f}; the trained cells {means.min():.1f} to {means.max():.1f}."
        )
    return sentences


def _difference(row: Any) -> str:
    """One row of the differences as a sentence."""
    at = f"rank {row.rank:g}, {row.samples:,} samples" if pd.notna(row.rank) else f"{row.samples:,} samples"
    apart = f"{abs(row.difference):.1f} points {'above' if row.difference >= 0 else 'below'} {row.baseline}"
    if row.verdict == "these two runs":
        seeds, runs = ("one seed", "two") if row.seeds == 1 else (f"{row.seeds} seeds", str(2 * row.seeds))
        return (
            f"At {at}, {row.series} scored {apart}; with {seeds} this speaks of these {runs} runs, not of the methods."
        )
    interval = f"{row.difference:+.1f} [{row.low:.1f}, {row.high:.1f}] over {row.seeds} seeds"
    if row.verdict == "tie":
        return f"At {at}, {row.series} and {row.baseline} tie: {interval}, within {TIE_MARGIN:g} point."
    if row.verdict == "unresolved":
        return f"At {at}, {row.series} against {row.baseline} is unresolved: {interval}."
    return f"At {at}, {row.series} is {apart}: {interval}."


def _coverage(read: frames.Frames) -> str:
    cells, counts = read.cells, read.cells["status"].value_counts()
    other = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "done")
    beside = f" Beside them lie {read.beside} recorded cells of other settings." if read.beside else ""
    return f"{len(cells)} cells planned, {counts.get('done', 0)} done{f', {other}' if other else ''}.{beside}"


def _caption(cells: pd.DataFrame) -> str:
    seeds = cells[cells["method"] != "base"]["seed"].nunique()
    dots = "small dots are seeds, lines their means" if seeds > 1 else "one seed a point"
    return (
        f"Average of the tasks' primary metrics; {dots}. Thin bars: 95 % from the sampling of questions alone, which "
        "knows nothing of seeds. Dashed grey: the untuned base model."
    )


def _tables(plan: dict[str, Any], read: frames.Frames, differences: pd.DataFrame) -> list[Table]:
    tables = [_by_task(read), _costs(read.cells)]
    if not differences.empty:
        heads = ["series", "baseline", "rank", "samples", "seeds", "difference", "95 % over seeds", "verdict"]
        rows = [
            [
                row.series,
                row.baseline,
                _number(row.rank, "g"),
                f"{row.samples:,}",
                str(row.seeds),
                f"{row.difference:+.2f}",
                f"[{row.low:+.2f}, {row.high:+.2f}]" if pd.notna(row.low) else "-",
                row.verdict,
            ]
            for row in differences.itertuples()
        ]
        note = (
            "Points of average accuracy, paired by seed (same examples, same questions). Student's t over seeds; below "
            "three seeds there is none. Methods without a rank are not in it. A tie is an interval within 1 point of "
            "zero; intervals are not adjusted for the number of comparisons."
        )
        tables.append(Table("Paired differences", heads, rows, note))
    overlap = [
        [name, str(one["by_question"]), str(one["by_question_and_choices"]), str(one["removed"])]
        for name, one in plan["overlap"].items()
    ]
    note = "Training rows whose question stands in a test or development set of this sweep."
    heads = ["training set", "same question", "same question and choices", "removed"]
    tables.append(Table("Duplicates", heads, overlap, note))
    if set(read.scores["task"]) & published.COMMONSENSE:
        rows = [
            [row.method, row.base, str(row.rank), f"{row.average:.1f}", row.source]
            for row in published.rank_table().itertuples()
        ]
        same = published.comparable(set(read.cells["base"]), set(read.scores["task"]), set(read.scores["protocol"]))
        note = (
            "Drawn in the figure. "
            if same
            else "Another base model, tasks or protocol: not comparable with the scores above. "
        )
        heads = ["method", "base", "rank", "average", "source"]
        tables.append(Table("Published numbers", heads, rows, note + published.DISAGREEMENTS))
    return tables


def _by_task(read: frames.Frames) -> Table:
    """Accuracy by task, a row a cell, with the majority class and chance beneath."""
    tasks = list(dict.fromkeys(read.scores["task"]))
    by_cell = {key: rows.set_index("task") for key, rows in read.scores.groupby("folder")}
    rows = []
    for cell in read.cells[read.cells["status"] == "done"].itertuples():
        mine = by_cell[cell.folder]["score"]
        label = (
            cell.name
            if cell.series == cell.method
            else f"{cell.name} ({cell.series.removeprefix(cell.method).strip()})"
        )
        rows.append([label, f"{cell.average:.1f}", *(_number(mine.get(task), ".1f") for task in tasks)])
    first = read.scores.drop_duplicates("task").set_index("task")
    for name in ("majority", "chance") if rows else ():
        values = [first.loc[task, name] for task in tasks]
        rows.append([name, f"{sum(values) / len(values):.1f}", *(f"{value:.1f}" for value in values)])
    heads = ["cell", "average", *(f"{task} ({first.loc[task, 'metric']}, n={first.loc[task, 'n']})" for task in tasks)]
    protocols = ", ".join(sorted(set(read.scores["protocol"])))
    merged = "merged before scoring where the method can" if read.scores["merged"].any() else "scored unmerged"
    return Table("Accuracy by task", heads, rows, f"Per cent. Protocol {protocols}; adapters {merged}.")


def _costs(cells: pd.DataFrame) -> Table:
    rows = [
        [
            cell.name,
            _number(cell.trainable, ",.0f"),
            _number(cell.percent, ".3f"),
            _number(cell.training_seconds, ",.0f"),
            _number(cell.tokens_per_second, ",.0f"),
            _number(cell.evaluation_seconds, ",.0f"),
            _number(cell.adapter_bytes / 1e6 if pd.notna(cell.adapter_bytes) else None, ",.1f"),
            _number(cell.final_loss, ".3f"),
        ]
        for cell in cells[cells["status"] == "done"].itertuples()
    ]
    heads = ["cell", "trainable", "% of all", "training s", "tokens/s", "scoring s", "adapter MB", "last loss"]
    note = "Trainable parameters as a share of base and adapter together. Seconds of this machine, one cell at a time."
    return Table("Costs", heads, rows, note)


def _provenance(results: Results, plan: dict[str, Any]) -> str:
    """Versions, commit and device of the cells, each variety once."""
    kinds: dict[str, int] = {}
    for cell in plan["cells"]:
        path = results.path / "cells" / cell["folder"] / "environment.json"
        if path.is_file():
            one = json.loads(path.read_text(encoding="utf-8"))
            packages = ", ".join(f"{name} {number}" for name, number in one["packages"].items() if number)
            text = (
                f"{one['device']}, {one['threads']} threads, {one['platform']}, Python {one['python']}, {packages}, "
                f"commit {one['commit'] or 'unknown'}, base {one['base_model']['id']} "
                f"({one['base_model']['revision']}), data {one['data_fingerprint']}"
            )
            kinds[text] = kinds.get(text, 0) + 1
    return "; ".join(f"{text} ({count} cells)" for text, count in kinds.items()) or "No cell has been run."


def _number(value: Any, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)
