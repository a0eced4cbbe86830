"""Tables of the plan: what the methods are, and training rows that duplicate test questions."""

from __future__ import annotations

from bench.report.table import ReportTable
from bench.store.records import PlanRecord


def method_table(plan: PlanRecord) -> list[ReportTable]:
    """What the methods of the sweep are; none for a plan of an older version, which did not record it."""
    rows = [
        [name, method.summary, method.rank or "it has none", method.source] for name, method in plan.methods.items()
    ]
    heads = ["method", "what it trains", "its rank is", "source"]
    note = "Equal ranks of two methods are equal numbers, not equal sizes."
    return [ReportTable("What the methods are", heads, rows, note, folded=True, prose=True)] if rows else []


def duplicate_table(plan: PlanRecord) -> list[ReportTable]:
    """Training rows that duplicate test or development questions."""
    rows = [
        [name, str(overlap.by_question), str(overlap.by_question_and_choices), str(overlap.removed)]
        for name, overlap in plan.overlap.items()
    ]
    note = "Training rows whose question stands in a test or development set of this sweep."
    heads = ["training set", "same question", "same question and choices", "removed"]
    return [ReportTable("Duplicates", heads, rows, note)] if rows else []
