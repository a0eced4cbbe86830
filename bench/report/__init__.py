"""The report of a sweep: `report.html` (one file, no outside request), `report.md`, figures and tables.

Everything in it is made from the recorded cells; writing it again from the same cells changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench import frames
from bench.judging import frames as judgments
from bench.report import figures, judged, samples, tuning
from bench.report.finding import finding
from bench.report.tables import tables
from bench.store import Results, write_text, writing
from bench.sweep import ReportConfig


def write_report(results: Results) -> Path:
    """Write the report of a results folder and return the path of `report.html`.

    Raises UserError for a folder that holds no sweep or a record that cannot be believed.
    """
    plan = results.plan()
    read = frames.read(results)
    rules = ReportConfig.model_validate(plan.get("report", {}))
    differences = frames.differences(read.cells, read.questions, rules)
    trials = tuning.trials(results, plan)
    said = judgments.read(results, plan)
    panels = judged.panels(read, said, rules)
    drawn = [
        *figures.draw(read.cells, read.scores),
        *samples.draw(read.cells, panels, plan),
        *tuning.figure(trials),
    ]
    failures = read.cells[read.cells["status"] != "done"]
    content = {
        "name": plan["name"],
        "notes": plan["notes"],
        "finding": [*finding(read.cells, differences, rules, bool(panels)), *judged.finding(panels, rules)],
        "coverage": _coverage(read, len(plan.get("pending", ()))),
        "failures": failures[["name", "status", "reason", "traceback"]].to_dict("records"),
        "problems": [*read.problems, *judged.warnings(panels, said)],
        "warnings": read.warnings,
        "figures": drawn,
        "tables": [
            *tables(plan, read, differences, rules.tie_margin, judged.tables(read, panels, said, plan, rules)),
            *tuning.table(trials, max(read.cells["samples"])),
        ],
        "provenance": _provenance(results, plan),
        "sweep": (results.path / "sweep.yaml").read_text(encoding="utf-8"),
    }
    folder = results.report
    for one in drawn:
        write_text(folder / "figures" / f"{one.name}.svg", one.svg)
        with writing(folder / "figures" / f"{one.name}.png") as temporary:
            temporary.write_bytes(one.png)
    for name in {*figures.NAMES, *samples.NAMES, tuning.NAME} - {
        one.name for one in drawn
    }:  # of an earlier report on other cells
        for suffix in ("svg", "png"):
            (folder / "figures" / f"{name}.{suffix}").unlink(missing_ok=True)
    written = {"cells": read.cells, "scores": read.scores, "differences": differences}
    if panels:
        written["judged"] = said.scores()
        written["judged_differences"] = pd.concat(
            [one.differences.assign(judge=one.judge, set=one.set) for one in panels if len(one.differences)]
            or [differences.iloc[:0]]
        )
    for name, table in written.items():
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
    environment.filters |= {"line": _line, "column": lambda text: _line(text).replace("|", "\\|")}
    return environment.get_template(template).render(content)


def _line(text: str) -> str:
    """A text of models or errors within a line of Markdown: no line breaks, no tags."""
    return " ".join(text.split()).replace("<", "&lt;")


def _coverage(read: frames.Frames, pending: int) -> str:
    cells, counts = read.cells, read.cells["status"].value_counts()
    other = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "done")
    beside = f" Beside them lie {read.beside} recorded cells of other settings." if read.beside else ""
    waiting = f" {pending} cells are pending until their learning rates are tuned." if pending else ""
    return f"{len(cells)} cells planned, {counts.get('done', 0)} done{f', {other}' if other else ''}.{waiting}{beside}"


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
