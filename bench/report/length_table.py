"""How long the training examples were, and how many of them `training.max_length` cut."""

from __future__ import annotations

from bench.data.example_lengths import length_sentences
from bench.errors import UserError
from bench.report.content import ReportSection
from bench.report.table import ReportTable
from bench.store.folder import Results
from bench.store.records import PlanRecord, SetLengths

Limits = dict[tuple[str, int], dict[str, SetLengths]]
"""By base model and `training.max_length`, the lengths of each training set."""


def length_section(results: Results, plan: PlanRecord) -> ReportSection:
    """The lengths of each training set; empty for cells of an older version, which did not record them."""
    limits = _limits(results, plan)
    bases = {base for base, _ in limits}
    notes = [
        f"{base}: {sentence}." if len(bases) > 1 else f"{sentence}."
        for (base, max_length), sets in limits.items()
        for sentence in length_sentences(sets, max_length)
    ]
    rows = [
        [base, name, str(max_length), *(f"{value:,}" for value in record.model_dump().values())]
        for (base, max_length), sets in limits.items()
        for name, record in sets.items()
    ]
    heads = ["base model", "training set", "max_length", "rows", "cut", "answers cut", "99 % have at most", "longest"]
    note = "Tokens of the training examples, in the cells with the most of them."
    tables = [ReportTable("Lengths of training examples", heads, rows, note)] if rows else []
    return ReportSection("lengths", "Lengths of training examples", notes=notes, tables=tables)


def _limits(results: Results, plan: PlanRecord) -> Limits:
    """Of the cells with one base model and one limit, the lengths in the cell with the most examples of a set."""
    limits: Limits = {}
    for planned in plan.cells:
        max_length = (planned.training or {}).get("max_length")
        try:
            costs = results.folder_named(planned.folder).record().costs
        except UserError:  # other sections say so
            continue
        if costs is None or costs.set_lengths is None or not isinstance(max_length, int):
            continue
        sets = limits.setdefault((planned.base, max_length), {})
        for name, record in costs.set_lengths.items():
            if name not in sets or record.rows > sets[name].rows:
                sets[name] = record
    return limits
