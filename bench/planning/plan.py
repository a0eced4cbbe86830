"""A plan: the cells of a sweep, those whose learning rate is yet to be chosen, and what is recorded of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from bench import methods
from bench.data.open_questions import references_hash
from bench.data.sweep_data import SweepData
from bench.methods.learning_rates import with_learning_rate
from bench.models.dtype import DtypeChoice
from bench.store.folder import SCHEMA, Results
from bench.sweep.cell import BaseIdentity, Cell
from bench.sweep.identity import AnswersIdentity, EvaluationIdentity
from bench.sweep.schema import Sweep
from bench.sweep.sections import BaseModelConfig, TrainingConfig


@dataclass(frozen=True)
class PlannedCell:
    """A cell with what the runner needs to know besides."""

    cell: Cell
    base: BaseModelConfig
    training: TrainingConfig
    """With the run-time settings that are no part of the cell."""
    evaluations: tuple[EvaluationIdentity, ...]
    trainable: int
    total: int
    """Parameters of the model as trained, adapter included."""
    answers: tuple[AnswersIdentity, ...] = ()
    """The open questions that it answers."""
    trial: bool = False
    """Run to choose a learning rate, and scored on the development questions."""
    timed: bool = False
    """Its answers are timed: how long they take depends on neither seed nor samples, so it is done for the first of
    each."""


@dataclass(frozen=True)
class Pending:
    """A final cell whose rate its trials have yet to choose."""

    template: PlannedCell
    """The cell at the first of the rates."""
    rates: tuple[float, ...]
    trials: tuple[PlannedCell, ...]
    """One for each of the rates."""

    @property
    def name(self) -> str:
        """As the cell's own name will be."""
        return self.template.cell.name

    def at(self, rate: float) -> PlannedCell:
        """The cell at a rate."""
        cell = self.template.cell
        content = cell.model_dump(mode="json")
        content["options"] = with_learning_rate(content["options"], rate)
        content["tuned_by"] = [one.cell.folder for one in self.trials]
        return replace(self.template, cell=type(cell).model_validate(content))


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep stands for."""

    sweep: Sweep
    data: SweepData
    cells: tuple[PlannedCell, ...]
    dtypes: dict[str, DtypeChoice]
    """By base model, with the reason."""
    pending: tuple[Pending, ...] = ()
    """Cells whose learning rate is yet to be chosen."""

    def data_of(self, planned: PlannedCell) -> SweepData:
        """The data with the questions that a cell is scored on."""
        return self.data.development_view if planned.trial else self.data

    def resolved(self) -> dict[str, Any]:
        """The sweep with its defaults filled in, as sweep.yaml holds it; it can be run again."""
        return self.sweep.model_dump(mode="json")

    def record(self) -> dict[str, Any]:
        """The plan as plan.json holds it: what the report needs to know of cells, begun or not."""
        bases = {one.cell.base for one in self.cells}
        twins = Counter(base.id for base in bases)
        labels = {b: b.id if twins[b.id] == 1 else f"{b.id} ({b.revision}, {b.dtype})" for b in bases}
        return {
            "schema": SCHEMA,
            "name": self.sweep.name,
            "notes": [*self.data.notes, *([self.sweep.note] if self.sweep.note else [])],
            "tasks": list(self.data.questions),
            "format": self.data.config.format,
            "protocols": list(self.sweep.evaluation.protocols),
            "report": self.sweep.report.model_dump(mode="json"),
            "methods": self._methods(),
            "overlap": {name: vars(one) for name, one in self.data.overlap.items()},
            "deduplicated": self.data.config.deduplicate,
            **self._open_questions(),
            **({"pending": [one.name for one in self.pending]} if self.pending else {}),
            **self._trials(labels),
            "cells": [
                {
                    "folder": one.cell.folder,
                    "name": one.cell.name,
                    "base": labels[one.cell.base],
                    "method": one.cell.method,
                    "rank": one.cell.rank,
                    "samples": one.cell.samples,
                    "seed": one.cell.seed,
                    "options": one.cell.options,
                    **({"tuned": True} if one.cell.tuned_by else {}),
                    "training": one.cell.training,
                    "evaluations": [identity.id for identity in one.evaluations],
                    **({"answers": [identity.id for identity in one.answers]} if one.answers else {}),
                }
                for one in self.cells
                if not one.trial
            ],
        }

    def _methods(self) -> dict[str, dict[str, str | None]]:
        """What each method is, for a reader of the report."""
        names = dict.fromkeys(one.cell.method for one in self.cells if one.cell.data is not None)
        facts = {name: methods.get(name).facts for name in names}
        return {name: {"summary": one.summary, "rank": one.rank, "source": one.source} for name, one in facts.items()}

    def _open_questions(self) -> dict[str, Any]:
        """What is answered in words, for judges and the report."""
        sets = {
            name: {
                "n": len(rows),
                "turns": sum(len(one.turns) for one in rows),
                "with_reference": sum(len(one.turns) for one in rows if one.references),
                "references": references_hash(rows),
                "fingerprint": self.data.open_fingerprint(name),
            }
            for name, rows in self.data.open_questions.items()
        }
        if not sets:
            return {}
        own = self.data.config.alpaca is not None
        origin = "own file" if own else "the hub's"
        learnt = [f"{name}, {origin}" if name == "alpaca" else name for name in self.data.pools]
        return {"open_questions": sets, "instructions": learnt}

    def _trials(self, labels: dict[BaseIdentity, str]) -> dict[str, Any]:
        """The trials of tuned learning rates, which the report shows apart from the cells."""
        trials = [
            {
                "folder": one.cell.folder,
                "name": one.cell.name,
                "method": one.cell.method,
                "rank": one.cell.rank,
                "samples": one.cell.samples,
                "lr": one.cell.options["lr"],
                "base": labels[one.cell.base],
                "options": one.cell.options,
                "training": one.cell.training,
                "evaluations": [identity.id for identity in one.evaluations],
            }
            for one in self.cells
            if one.trial
        ]
        return {"trials": trials} if trials else {}


TO_RUN = ("todo", "trained", "killed")
"""The states in which a cell waits to be run."""


def state(planned: PlannedCell, results: Results, retry_failed: bool = False) -> str:
    """`todo`, `trained` (scores missing), `done`, or how it ended (`oom`, `diverged`, `failed`, `hung`; `killed`: from
    outside, and so to be run again)."""
    folder = results.folder(planned.cell)
    if not (folder.path / "cell.json").is_file():
        return "todo"
    metrics = folder.metrics()
    recorded = metrics.get("status", "todo")
    if recorded in ("done", "trained"):
        done = {*metrics.get("evaluations", {}), *metrics.get("answers", {})}
        return "done" if {one.id for one in (*planned.evaluations, *planned.answers)} <= done else "trained"
    return "todo" if retry_failed and recorded != "killed" else recorded
