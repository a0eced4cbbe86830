"""The recorded cells that an estimate can be based on, the settings by which cells are alike, and recorded cells that
differ from planned ones in the dtype alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import UserError
from bench.methods.learning_rate_grid import without_learning_rate
from bench.planning.plan import TO_RUN, Plan, status_of
from bench.store.folder import CellFolder, Results
from bench.store.records import AnswersRecord, Costs, EnvironmentRecord, EvaluationRecord
from bench.sweep.cell import Cell


@dataclass(frozen=True)
class RecordedCell:
    """A cell that was run on this device, without other load."""

    cell: Cell
    costs: Costs
    evaluations: Sequence[EvaluationRecord]
    answers: Sequence[AnswersRecord]
    setting: str
    """See `setting_of`."""

    def fixed_seconds(self) -> float | None:
        """Seconds outside training, scoring, merging and timing, such as loading; None if a part was not measured."""
        costs = self.costs
        scoring = [record.seconds for record in (*self.evaluations, *self.answers) if record.seconds is not None]
        if costs.wall_seconds is None or len(scoring) < len(self.evaluations) + len(self.answers):
            return None
        stages = (costs.training_seconds, costs.merging_seconds, costs.inference_seconds)
        return max(0.0, costs.wall_seconds - sum(seconds or 0.0 for seconds in stages) - sum(scoring))


def setting_of(cell: Cell) -> str:
    """The settings that decide how fast a cell trains, as text: not its learning rate, samples or seed."""
    training = {key: (cell.training or {}).get(key) for key in ("batch_size", "order", "max_length")}
    return json.dumps([cell.method, without_learning_rate(cell.options), training], sort_keys=True)


def recorded_cells(folders: Iterable[CellFolder], machine: Mapping[str, str]) -> list[RecordedCell]:
    """The cells among these folders that have their costs and were run on such a machine, without other load.

    `machine` is described as in environment.json; empty for any machine. A folder that cannot be read is left out.
    """
    cells = []
    for folder in folders:
        try:
            record, cell, environment = folder.record(), folder.cell(), folder.environment()
        except UserError:
            continue
        if environment is None or record.costs is None or record.costs.shared:
            continue
        if _is_machine(environment, machine):
            evaluations, answers = list(record.evaluations.values()), list(record.answers.values())
            cells.append(RecordedCell(cell, record.costs, evaluations, answers, setting_of(cell)))
    return cells


def _is_machine(environment: EnvironmentRecord, machine: Mapping[str, str]) -> bool:
    recorded = {"device": environment.device, "processor": environment.processor}
    return all(recorded.get(key) == value for key, value in machine.items())


def recorded_in_another_dtype(plan: Plan, results: Results) -> list[str]:
    """A sentence for each dtype in which cells of this plan are recorded although `dtype: auto` is another one here."""
    automatic = {base.id for base in plan.sweep.base_model if base.dtype == "auto"}
    waiting = {
        planned.cell.id: planned.cell.base
        for planned in plan.cells
        if planned.base.id in automatic and status_of(planned, results) in TO_RUN
    }
    here = {(base.id, base.revision): base for base in waiting.values()}
    counts: Counter[tuple[str, str]] = Counter()
    for folder in results.folders() if waiting else ():
        try:
            cell = folder.cell()
        except UserError:
            continue
        base = here.get((cell.base.id, cell.base.revision))
        if base is not None and cell.base != base and cell.model_copy(update={"base": base}).id in waiting:
            counts[cell.base.dtype, base.dtype] += 1
    return [
        f"{count} of these cells are recorded in {recorded}. This sweep says `dtype: auto`, which is {resolved} on "
        f"this machine, so they are to be run again. To use the recorded cells: --set base_model.dtype={recorded}"
        for (recorded, resolved), count in sorted(counts.items())
    ]
