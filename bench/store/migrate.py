"""Brings the files of an older results folder up to date, as they are read. The files themselves stay as they are."""

from __future__ import annotations

from pydantic import JsonValue

from bench.sweep.baseline import choose_baseline

Content = dict[str, JsonValue]
"""A JSON file whose keys have not been checked yet."""


def migrated(content: Content) -> Content:
    """The content of a record's file of any earlier schema, as the current one has it.

    Schema 2 added its own number to every file and the baseline to plan.json. It took away what is said twice: the
    learning rate of a trial is among its options.
    """
    current = {key: value for key, value in content.items() if key != "schema"}
    trials = current.get("trials")
    if isinstance(trials, list):
        current["trials"] = [
            {key: value for key, value in trial.items() if key != "lr"} if isinstance(trial, dict) else trial
            for trial in trials
        ]
    cells = current.get("cells")
    if isinstance(cells, list) and "baseline" not in current:
        current["baseline"] = choose_baseline(_trained(cells), _chosen(current.get("report")))
    return current


def _trained(cells: list[JsonValue]) -> list[tuple[str, int | None]]:
    """(method, rank) of the trained cells of a plan."""
    found: list[tuple[str, int | None]] = []
    for cell in cells:
        if isinstance(cell, dict) and isinstance(cell.get("method"), str) and cell["method"] != "base":
            rank = cell.get("rank")
            found.append((str(cell["method"]), rank if isinstance(rank, int) else None))
    return found


def _chosen(report: JsonValue) -> str | None:
    chosen = report.get("baseline") if isinstance(report, dict) else None
    return chosen if isinstance(chosen, str) else None
