"""Where the numbers come from: devices, versions, commit, base model and data of the cells."""

from __future__ import annotations

from bench.errors import UserError
from bench.report.table import ReportTable
from bench.store.folder import Results
from bench.store.records import EnvironmentRecord, PlanRecord

Facts = tuple[tuple[str, str], ...]
"""What a cell was run with, as (name, value)."""
UNREADABLE: Facts = (("", "its environment.json cannot be read"),)


def environment_table(results: Results, plan: PlanRecord) -> list[ReportTable]:
    """One table, a column a variety of environment. Empty without a cell; a record that cannot be read says so."""
    counts: dict[Facts, int] = {}
    for cell in plan.cells:
        try:
            environment = results.folder_named(cell.folder).environment()
        except UserError:
            facts = UNREADABLE
        else:
            if environment is None:
                continue
            facts = _facts(environment)
        counts[facts] = counts.get(facts, 0) + 1
    if not counts:
        return []
    columns = [dict(facts) for facts in counts]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    heads = ["", *(f"{count} cell{'s' if count != 1 else ''}" for count in counts.values())]
    note = (
        "What every cell was run with."
        if len(counts) == 1
        else "What the cells were run with. Columns differ in base model, data, device, versions or code."
    )
    return [ReportTable("Environment", heads, rows, note, prose=True)]


def machine_warning(results: Results, plan: PlanRecord) -> list[str]:
    """That cells ran on several kinds of machine, where they did: then seconds are not comparable."""
    machines = set()
    for cell in plan.cells:
        try:
            environment = results.folder_named(cell.folder).environment()
        except UserError:  # the table says so
            continue
        if environment is not None:
            machines.add((environment.processor, environment.device, environment.threads))
    if len(machines) < 2:
        return []
    return [
        f"These cells ran on {len(machines)} kinds of machine (the environments below): seconds, tokens/s and memory "
        "are comparable within one of them only."
    ]


def _facts(environment: EnvironmentRecord) -> Facts:
    base = environment.base_model
    # Of a CPU the device says no more than that.
    device = environment.device
    if device == "cpu" and environment.processor:
        device = environment.processor
    facts = {
        "device": f"{device}, {environment.threads} threads",
        "platform": f"{environment.platform}, Python {environment.python}",
        "commit": environment.commit or "unknown",
        "base model": f"{base.id}, {base.revision or 'no revision'}",
        "computes in": environment.dtype_reason,
        "data fingerprint": environment.data_fingerprint,
        "packages": ", ".join(f"{name} {number}" for name, number in environment.packages.items() if number),
    }
    return tuple((name, value) for name, value in facts.items() if value)


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
    note = "Training rows whose question is in a test or development set of this sweep."
    heads = ["training set", "same question", "same question and choices", "removed"]
    return [ReportTable("Duplicates", heads, rows, note)] if rows else []
