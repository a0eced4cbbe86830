"""Brings the files of an older results folder up to date, as they are read. The files themselves stay as they are."""

from __future__ import annotations

from pydantic import JsonValue

from bench.store.records import PlanRecord, Record
from bench.sweep.baseline import choose_baseline

Content = dict[str, JsonValue]
"""A JSON file whose keys have not been checked yet."""


def migrated(content: Content, kind: type[Record]) -> Content:
    """The content of a record's file of any earlier schema, as the current schema has it.

    Schema 2 added its own number to every file. In plan.json it added the baseline, and removed a trial's learning
    rate, which is among the trial's options. The first plans name neither the format nor the protocol: there was one.
    Plans from before a trial could be a final cell, too, have a trial's development questions as its evaluations.
    """
    current = {key: value for key, value in content.items() if key != "schema"}
    if kind is PlanRecord:
        _bring_plan_up_to_2(current)
    return current


def _bring_plan_up_to_2(plan: Content) -> None:
    """Changes nothing in a plan of schema 2."""
    plan.setdefault("format", "question")
    plan.setdefault("protocols", ["loglikelihood"])
    trials, cells = plan.get("trials"), plan.get("cells")
    if isinstance(trials, list):
        plan["trials"] = [
            _with_development({key: value for key, value in trial.items() if key != "lr"})
            if isinstance(trial, dict)
            else trial
            for trial in trials
        ]
    if isinstance(cells, list) and "baseline" not in plan:
        plan["baseline"] = choose_baseline(_trained(cells), _chosen(plan.get("report")))


def _with_development(trial: Content) -> Content:
    if "development" in trial:
        return trial
    return {**trial, "development": trial.get("evaluations", []), "evaluations": []}


def _trained(cells: list[JsonValue]) -> list[tuple[str, int | None]]:
    """(method, rank) of the trained cells of a plan."""
    methods: list[tuple[str, int | None]] = []
    for cell in cells:
        if isinstance(cell, dict) and isinstance(cell.get("method"), str) and cell["method"] != "base":
            rank = cell.get("rank")
            methods.append((str(cell["method"]), rank if isinstance(rank, int) else None))
    return methods


def _chosen(report: JsonValue) -> str | None:
    chosen = report.get("baseline") if isinstance(report, dict) else None
    return chosen if isinstance(chosen, str) else None
