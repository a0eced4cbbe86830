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
from typing import Any

import jinja2
import pandas as pd

from bench.report import compare_sweeps, latex
from bench.report.content import FIGURES, TABLES, Content, content
from bench.store.files import write_text, writing
from bench.store.folder import Results

UNSHOWN = {"Cc", "Cs"}
"""Unicode's categories of control characters and halves of characters."""
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks of direction."""

RELOAD = 15
"""Seconds after which a watched page loads itself anew."""


def write_report(results: Results) -> Path:
    """Write the report of a results folder and return the path of `report.html`.

    Raises UserError for a folder that holds no sweep or a record that cannot be believed.
    """
    return _write(content(results), results.report)


def write_comparison(first: Results, second: Results) -> Path:
    """Write what changed from the first results folder to the second, into the second's report; returns the page's
    path. Raises UserError as `write_report` does."""
    made = compare_sweeps.content(first, second)
    return _write(made, second.report / f"against_{made.name.rpartition(' against ')[2].replace('/', '_')}")


def watch(results: Results, told: Callable[[Path], None], seconds: float = RELOAD) -> None:
    """Write `live.html`, a page that loads itself anew, whenever a record of the sweep has changed, until
    KeyboardInterrupt; `told` is given its path each time. It is a file of its own, for a run writes `report.html`
    meanwhile, and is taken away at the end."""
    seen: dict[Path, int] | None = None
    live = results.report / "live.html"
    try:
        while True:
            now = {
                path: path.stat().st_mtime_ns
                for path in (results.path / "plan.json", *results.path.glob("cells/*/metrics.json"))
                if path.is_file()
            }
            if now != seen:
                made = content(results)
                write_text(live, _page(made, _files(made), RELOAD))
                told(live)
                seen = now
            time.sleep(seconds)
    finally:
        live.unlink(missing_ok=True)


def _write(made: Content, folder: Path) -> Path:
    for one in made.figures:
        write_text(folder / "figures" / f"{one.name}.svg", one.svg)
        with writing(folder / "figures" / f"{one.name}.png") as temporary:
            temporary.write_bytes(one.png)
    for name in set(FIGURES) - {one.name for one in made.figures}:  # of an earlier report on other cells
        for suffix in ("svg", "png"):
            (folder / "figures" / f"{name}.{suffix}").unlink(missing_ok=True)
    files = _files(made)
    for name in TABLES:
        if f"{name}.csv" not in files:
            (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
    if "settings" not in made.written:
        (folder / "tables" / "settings.tex").unlink(missing_ok=True)
    for name, text in files.items():
        write_text(folder / "tables" / name, text)
    if "settings" in made.written:
        write_text(folder / "tables" / "settings.tex", latex.table(made.written["settings"], made.name))
    write_text(folder / "report.md", re.sub("\n{3,}", "\n\n", _render("page.md", made, escape=False)))
    write_text(folder / "report.html", _page(made, files))
    return folder / "report.html"


def _files(made: Content) -> dict[str, str]:
    """The CSV files by name."""
    return {f"{name}.csv": _csv(table) for name, table in made.written.items()}


def _page(made: Content, files: dict[str, str], refresh: int | None = None) -> str:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return _render("page.html", made, escape=True, data=data, refresh=refresh)


def _csv(table: pd.DataFrame) -> str:
    flat = table.drop(columns=["traceback"], errors="ignore")
    flat = flat.assign(**{key: flat[key].map(json.dumps) for key in ("options", "training") if key in flat})
    return flat.to_csv(index=False)


def _render(template: str, made: Content, escape: bool, **more: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"line": _line, "column": lambda text: _line(text).replace("|", "\\|"), "plain": _plain}
    return environment.get_template(template).render(made=made, **more)


def _line(text: str) -> str:
    """A text of models or errors within a line of Markdown: no line breaks, no tags."""
    return " ".join(_plain(text).split()).replace("<", "&lt;")


def _plain(text: str) -> str:
    """A text without what would be no character on a page, or would turn the direction of others: control characters
    and Unicode's marks of direction."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _unshown(one) else one for one in text)


def _unshown(one: str) -> bool:
    return one not in "\n\t" and (one in TURNING or unicodedata.category(one) in UNSHOWN)
