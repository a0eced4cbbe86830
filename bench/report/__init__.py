"""The report of a sweep: `report.html` (one file, no outside request), `report.md`, figures and tables.

Everything in it is made from the recorded cells; writing it again from the same cells changes nothing.
"""

from __future__ import annotations

import base64
import json
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import jinja2
import pandas as pd

from bench.report import latex
from bench.report.compare_sweeps import comparison_report
from bench.report.content import ReportContent
from bench.report.sweep_report import FIGURES, TABLES, sweep_report
from bench.store.files import write_bytes, write_text
from bench.store.folder import Results
from bench.store.pack import pack_files

CONTROL = {"Cc", "Cs"}
"""Unicode's categories of control characters and halves of characters."""
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks of direction."""

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
    seen: dict[Path, int] | None = None
    live = results.report / "live.html"
    try:
        while True:
            now = {
                path: path.stat().st_mtime_ns
                for path in (
                    results.path / "plan.json",
                    *results.path.glob("cells/*/metrics.json"),
                    *pack_files(results),
                )
                if path.is_file()
            }
            if now != seen:
                content = sweep_report(results)
                write_text(live, _page(content, _files(content), RELOAD))
                written(live)
                seen = now
            time.sleep(seconds)
    finally:
        live.unlink(missing_ok=True)


def _write(content: ReportContent, folder: Path) -> Path:
    """Write a report, remove what an earlier one with other cells had more, and return the page's path."""
    for figure in content.figures:
        write_text(folder / "figures" / f"{figure.name}.svg", figure.svg)
        write_bytes(folder / "figures" / f"{figure.name}.png", figure.png)
    for name in set(FIGURES) - {figure.name for figure in content.figures}:
        for suffix in ("svg", "png"):
            (folder / "figures" / f"{name}.{suffix}").unlink(missing_ok=True)
    files = _files(content)
    for name in TABLES:
        if f"{name}.csv" not in files:
            (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
    for name, text in files.items():
        write_text(folder / "tables" / name, text)
    latex_table = folder / "tables" / "settings.tex"
    if "settings" in content.tables:
        write_text(latex_table, latex.settings_table(content.tables["settings"], content.name))
    else:
        latex_table.unlink(missing_ok=True)
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
    return str(flat.to_csv(index=False))


def _environment(escape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": _line, "column": lambda text: _line(text).replace("|", "\\|"), "plain": _plain}
    return environment


def _line(text: str) -> str:
    """A text of models or errors within a line of Markdown: no line breaks, no tags."""
    return " ".join(_plain(text).split()).replace("<", "&lt;")


def _plain(text: str) -> str:
    """A text without characters that a page cannot show, or that would turn the direction of others: control characters
    and Unicode's marks of direction."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _unprintable(character) else character for character in text)


def _unprintable(character: str) -> bool:
    return character not in "\n\t" and (character in TURNING or unicodedata.category(character) in CONTROL)
