"""The report of a sweep: `report.html` (one file, no outside request), `report.md`, figures and tables.

Everything in it is made from the recorded cells; writing it again from the same cells changes nothing.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jinja2
import pandas as pd

from bench.report import latex
from bench.report.compare_sweeps import comparison_report
from bench.report.content import ReportContent
from bench.report.escaping import code_span, fenced_block, markdown_cell, markdown_line, plain, spreadsheet_text
from bench.report.sweep_report import FIGURES, TABLES, sweep_report
from bench.store.files import remove, write_bytes, write_text
from bench.store.folder import Results
from bench.store.pack import pack_files
from bench.store.pack_format.stamp import Stamp, stamp

RELOAD = 15
"""Seconds after which a watched page loads itself anew."""


def write_report(results: Results) -> Path:
    """Write the report of a results folder and return the path of `report.html`.

    Raises UserError for a folder that holds no sweep or a corrupt record.
    """
    return _write(sweep_report(results), results.report)


def write_comparison(first: Results, second: Results) -> Path:
    """Write what changed from the first results folder to the second, into the second's report; returns the page's
    path. Raises UserError as `write_report` does."""
    content = comparison_report(first, second)
    return _write(content, second.report / f"against_{content.name.rpartition(' against ')[2].replace('/', '_')}")


def watch(results: Results, written: Callable[[Path], None], seconds: float = RELOAD) -> None:
    """Write `live.html`, a page that loads itself anew, whenever a record of the sweep has changed, until
    KeyboardInterrupt; `written` is called with its path each time. It is a file of its own, because a run writes
    `report.html` meanwhile, and is removed at the end."""
    seen: dict[Path, Stamp | None] | None = None
    live = results.report / "live.html"
    try:
        while True:
            records = results.path / "plan.json", *results.path.glob("cells/*/metrics.json"), *pack_files(results)
            now = {path: stamp(path) for path in records}
            if now != seen:
                content = sweep_report(results)
                write_text(live, _page(content, _files(content), RELOAD))
                written(live)
                seen = now
            time.sleep(seconds)
    finally:
        with suppress(OSError):  # a folder that cannot be written to has been said
            live.unlink(missing_ok=True)


def _write(content: ReportContent, folder: Path) -> Path:
    """Write a report, remove what an earlier one with other cells had more, and return the page's path."""
    for figure in content.figures:
        write_text(folder / "figures" / f"{figure.name}.svg", figure.svg)
        write_bytes(folder / "figures" / f"{figure.name}.png", figure.png)
    for name in set(FIGURES) - {figure.name for figure in content.figures}:
        for suffix in ("svg", "png"):
            remove(folder / "figures" / f"{name}.{suffix}")
    files = _files(content)
    for name in TABLES:
        if f"{name}.csv" not in files:
            remove(folder / "tables" / f"{name}.csv")
    for name, text in files.items():
        write_text(folder / "tables" / name, text)
    latex_table = folder / "tables" / "settings.tex"
    if "settings" in content.tables:
        write_text(latex_table, latex.settings_table(content.tables["settings"], content.name))
    else:
        remove(latex_table)
    markdown = _environment(escape=False).get_template("page.md").render(report=content)
    write_text(folder / "report.md", re.sub("\n{3,}", "\n\n", markdown))
    write_text(folder / "report.html", _page(content, files))
    return folder / "report.html"


def _files(content: ReportContent) -> dict[str, str]:
    """The CSV files by name."""
    return {f"{name}.csv": _csv(table) for name, table in content.tables.items()}


def _page(content: ReportContent, files: dict[str, str], refresh: int | None = None) -> str:
    """The HTML page; with `refresh` it reloads itself after so many seconds."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return _environment(escape=True).get_template("page.html").render(report=content, data=data, refresh=refresh)


def _csv(table: pd.DataFrame) -> str:
    flat = table.drop(columns=["traceback"], errors="ignore")
    flat = flat.assign(**{key: flat[key].map(json.dumps) for key in ("options", "training") if key in flat})
    texts = flat.select_dtypes(exclude=["number", "bool"])
    flat = flat.assign(**{key: texts[key].astype(object).map(spreadsheet_text) for key in texts})
    return str(flat.rename(columns=spreadsheet_text).to_csv(index=False))


def _environment(escape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "line": markdown_line,
        "column": markdown_cell,
        "code": code_span,
        "fenced": fenced_block,
        "plain": plain,
    }
    return environment
