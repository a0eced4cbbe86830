"""A sweep and its data become a list of cells, each checked against its base model, with its state.

Nothing is started before every cell has been checked: a module that the base lacks, an impossible rank or too
few examples are found here, on models without weights.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import methods
from bench.cell import BaseIdentity, Cell, CellData
from bench.data import Data, prepare
from bench.data.open_questions import references_hash
from bench.errors import UserError
from bench.evaluation import (
    AnswersIdentity,
    EvaluationIdentity,
    answer_identities,
    check_protocols,
    identities,
)
from bench.models import base_models
from bench.planning.counting import Counting
from bench.planning.tuning import Pending, rates_of, with_rate
from bench.sections import BaseModelConfig, TrainingConfig, TuneConfig
from bench.store import SCHEMA, Results
from bench.sweep import Sweep, product_of_lists


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
class Plan:
    """Everything that a sweep stands for."""

    sweep: Sweep
    data: Data
    cells: tuple[PlannedCell, ...]
    dtypes: dict[str, base_models.Choice]
    """By base model, with the reason."""
    pending: tuple[Pending, ...] = ()
    """Cells whose learning rate is yet to be chosen."""

    def data_of(self, planned: PlannedCell) -> Data:
        """The data with the questions that a cell is scored on."""
        return self.data.developing if planned.trial else self.data

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


def make_plan(sweep: Sweep, stand_in: bool = False, elsewhere: bool = False) -> Plan:
    """Every cell of a sweep, each checked. With `stand_in`, data of a hub are made up: such a plan says what a sweep
    would take, and its cells are not those that would be run. `elsewhere`: for a GPU that is not here.

    Raises UserError, naming the cell, for one that is impossible.
    """
    check_protocols(sweep.evaluation, sweep.data.format)  # before data are fetched
    data = prepare(sweep, stand_in)
    cells: dict[str, PlannedCell] = {}
    pending: list[Pending] = []
    dtypes = {}
    samples = [data.resolve_samples(n) for n in sweep.samples]
    for base in sweep.base_model:
        choice = base_models.resolve_dtype(base.dtype, elsewhere)
        dtypes[base.id] = choice
        id, revision = base_models.identify(base.id, base.revision)
        identity = BaseIdentity(id=id, revision=revision, dtype=choice.value)
        known, later = _cells_of(sweep, base, identity, data, samples)
        for planned in known:
            cells.setdefault(planned.cell.id, planned)
        pending += later
    return Plan(sweep, data, tuple(cells.values()), dtypes, tuple(pending))


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


def _cells_of(
    sweep: Sweep, base: BaseModelConfig, identity: BaseIdentity, data: Data, samples: list[int]
) -> tuple[list[PlannedCell], list[Pending]]:
    """The cells whose settings are known, and those whose learning rate is yet to be tuned."""
    cells: list[PlannedCell] = []
    pending: list[Pending] = []
    sizes = Counting(base)
    room = getattr(sizes.config.get_text_config(), "max_position_embeddings", None)
    if sweep.answers is not None and room is not None and sweep.answers.max_new_tokens >= room:
        raise UserError(
            f"answers.max_new_tokens {sweep.answers.max_new_tokens} leaves no room for a question in {base.id}, which "
            f"reads {room} tokens",
            f"Set it to {room // 2} or so.",
        )
    trainings = [TrainingConfig.model_validate(one) for one in product_of_lists(TrainingConfig, sweep.training)]
    for tracker in {tracker for training in trainings for tracker in training.report_to}:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(f"training.report_to: {tracker} is not installed", f"pip install {tracker}")
    untuned = Cell(base=identity, method="base", method_version="1", options={}, samples=0, seed=0)
    evaluations = tuple(identities(data, sweep.evaluation, identity.dtype, mergeable=True))
    answers = tuple(answer_identities(data, sweep, identity.dtype, mergeable=True))
    timed = sweep.costs.inference
    cells.append(PlannedCell(untuned, base, trainings[0], evaluations, *sizes.count(untuned), answers, timed=timed))
    learned = CellData(
        train=tuple(sorted(data.pools)),
        format=data.config.format,
        mix=data.config.mix,
        subset_seed=data.config.subset_seed,
        append_eos=data.config.append_eos,
        fingerprint=data.fingerprint,
        template=data.config.template if data.instructs else None,
    )
    # Trials are scored by what averages are made of: a protocol that is added later changes nothing for them.
    first = {"limit": None, "tasks": None, "protocol": sweep.evaluation.protocols[0]}
    developing = sweep.evaluation.model_copy(update=first)
    if sweep.tune is not None and not data.developing.questions:
        raise UserError(
            "tune chooses by development questions, and there are none", "Set data.development to 100 or so."
        )
    for entry in sweep.methods:
        settings = {key: value for key, value in entry.items() if key != "method"}
        method = methods.get(entry["method"])
        if entry["method"] == "base":
            continue  # in every sweep already
        for one in product_of_lists(method.Options, settings):
            rates = rates_of(method, sweep.tune) if sweep.tune is not None else ()
            options = sizes.resolve(method, {**one, "lr": rates[0]} if rates else one)
            # The parts of a stacked method may have rates of their own: these move with the method's.
            variants = [with_rate(options, rate) for rate in rates] or [options]
            options = variants[0]
            method.check_machine(options)
            facts = method.facts_for(options)
            evaluations = tuple(identities(data, sweep.evaluation, identity.dtype, facts.mergeable))
            answers = tuple(answer_identities(data, sweep, identity.dtype, facts.mergeable))
            for training in trainings:
                if training.weight_decay and facts.no_weight_decay:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.weight_decay {training.weight_decay}: "
                        f"{facts.no_weight_decay}",
                        "Set it to 0, or run this method in a sweep of its own.",
                    )
                if training.gradient_checkpointing and facts.no_checkpointing:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.gradient_checkpointing: "
                        f"{facts.no_checkpointing}",
                        "Set it to false, or run this method in a sweep of its own.",
                    )
                if training.packed and (why := facts.no_packing or sizes.no_packing):
                    raise UserError(
                        f"method {entry['method']} cannot bear training.packed: {why}",
                        "Set it to false, or run this method in a sweep of its own.",
                    )
                if training.validation and facts.no_validation:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.validation: {facts.no_validation}",
                        "Leave it out, or run this method in a sweep of its own.",
                    )
                held_out = training.validation.examples if training.validation else 0
                least = min(samples if sweep.tune is None else (*samples, _of_trials(samples, sweep.tune)))
                if held_out >= least:
                    raise UserError(
                        f"training.validation.examples holds {held_out} examples out of {least}",
                        "Hold out fewer, or raise samples.",
                    )
                kept = training.model_dump(mode="json", exclude=set(TrainingConfig.NOT_IDENTITY))
                if not held_out:  # nor is it part of what cells without it are
                    del kept["validation"]
                common = Cell(
                    base=identity,
                    method=entry["method"],
                    method_version=method.version,
                    options=options,
                    samples=max(samples),
                    seed=0,
                    data=learned,
                    training=kept,
                ).model_dump(mode="json")
                final = [
                    PlannedCell(cell, base, training, evaluations, *sizes.count(cell), answers, timed=timed and first)
                    for n in samples
                    for seed in sweep.seeds
                    for first in [(n, seed) == (samples[0], sweep.seeds[0])]
                    for cell in [Cell.model_validate({**common, "samples": n, "seed": seed})]
                ]
                if sweep.tune is None:
                    cells += final
                    continue
                of_trials = {"samples": _of_trials(samples, sweep.tune), "seed": sweep.tune.seed}
                asked = tuple(identities(data.developing, developing, identity.dtype, facts.mergeable))
                trials = tuple(
                    PlannedCell(cell, base, training, asked, *sizes.count(cell), trial=True)
                    for one in variants
                    for cell in [Cell.model_validate({**common, **of_trials, "options": one})]
                )
                cells += trials
                pending += [Pending(one, rates, trials) for one in final]
    return cells, pending


def _of_trials(samples: Sequence[int], tune: TuneConfig) -> int:
    """Examples of a trial."""
    return max(1, round(max(samples) * tune.budget))
