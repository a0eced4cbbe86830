"""What a results folder says of its sweep, also where plan.json or sweep.yaml is damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from bench.errors import UserError, first_line
from bench.store.damage import CorruptFile
from bench.store.folder import Results
from bench.store.record_json import NewerSchema
from bench.store.records import CellRecord, EvaluationRecord, PlannedRecord, PlanRecord
from bench.sweep.baseline import choose_baseline
from bench.sweep.cell import BaseIdentity, Cell
from bench.sweep.sections import ReportConfig
from bench.sweep.yaml12 import parse_yaml

UNRECORDED = "unrecorded"
"""In place of the hash of an evaluation that a cell lacks and others have."""


@dataclass(frozen=True)
class SweepFile:
    """The sweep.yaml of a results folder."""

    text: str
    """Empty where it cannot be read."""
    content: Mapping[str, JsonValue]
    problem: str = ""
    """Why it cannot be read."""

    def section(self, name: str) -> Mapping[str, JsonValue]:
        """A mapping of the sweep; empty where it has none."""
        value = self.content.get(name)
        return value if isinstance(value, dict) else {}


def read_sweep_file(results: Results) -> SweepFile:
    """The sweep.yaml of a results folder, which may be damaged or missing."""
    path = results.path / "sweep.yaml"
    try:
        text = results.read_text("sweep.yaml")
        content = parse_yaml(text or "")
    except UserError as error:
        return SweepFile("", {}, error.problem)
    except ValueError as error:
        return SweepFile("", {}, f"{path} is corrupt: {first_line(error)}")
    if text is None:
        return SweepFile("", {}, f"{path} is missing")
    if not isinstance(content, dict):
        return SweepFile("", {}, f"{path} is corrupt: it holds no sweep")
    return SweepFile(text, content)


def recorded_plan(results: Results) -> PlanRecord:
    """The recorded plan; where plan.json is corrupt or missing, one of the cells that are recorded, which says so.

    Raises UserError for a folder without either, and NewerSchema.
    """
    try:
        return results.plan_record()
    except NewerSchema:
        raise
    except UserError as error:
        if not isinstance(error, CorruptFile) and results.read_text("plan.json") is not None:
            raise  # it is there, and cannot be read
        plan = _plan_of_cells(results)
        if plan is None:
            raise
        return plan.model_copy(update={"notes": [_damage_text(error)]})


def plan_problem(results: Results) -> str:
    """Why `recorded_plan` is a plan of the recorded cells; empty where plan.json is whole."""
    try:
        results.plan_record()
    except NewerSchema:
        raise
    except UserError as error:
        return _damage_text(error)
    return ""


def _damage_text(error: UserError) -> str:
    reason = f"is corrupt ({error.reason})" if isinstance(error, CorruptFile) else "is missing"
    return (
        f"plan.json {reason}, so these are the recorded cells, whichever plan they are of: cells that were not begun "
        "are missing. `bench evaluate` with the folder writes plan.json anew from its sweep.yaml, `bench run` from "
        "your own sweep file."
    )


def _plan_of_cells(results: Results) -> PlanRecord | None:
    """A plan of the cells that are recorded; None without any."""
    recorded: dict[str, tuple[Cell, CellRecord]] = {}
    for folder in results.folders():
        try:
            recorded[folder.path.name] = folder.cell(), folder.record()
        except NewerSchema:
            raise
        except UserError:  # `bench run` does it again
            continue
    if not recorded:
        return None
    sweep = read_sweep_file(results)
    trials = _trials(sweep, [cell for cell, _ in recorded.values()])
    final = _of_one_kind({name: pair for name, pair in recorded.items() if name not in trials})
    labels = _base_labels([cell for cell, _ in recorded.values()])
    wanted = _evaluations(sweep, (record for _, record in final.values()))
    name = sweep.content.get("name")
    report = _report_config(sweep)
    trained = [(cell.method, cell.rank) for cell, _ in final.values() if cell.data is not None]
    protocols = dict.fromkeys(evaluation.protocol for evaluation in wanted)
    return PlanRecord(
        name=name if isinstance(name, str) else results.path.name,
        tasks=list(dict.fromkeys(evaluation.task for evaluation in wanted)),
        format=wanted[0].format if wanted else "question",
        protocols=list(protocols),
        report=report,
        baseline=choose_baseline(trained, report.baseline),
        trials=[
            _planned(cell, labels, [], [], seed=None, development=[*record.evaluations])
            for folder, (cell, record) in recorded.items()
            if folder in trials
        ],
        cells=[
            _planned(cell, labels, [_identity(record, each) for each in wanted], [*record.answers], cell.seed)
            for cell, record in final.values()
        ],
    )


def _planned(
    cell: Cell,
    labels: Mapping[BaseIdentity, str],
    evaluations: list[str],
    answers: list[str],
    seed: int | None,
    development: Sequence[str] = (),
) -> PlannedRecord:
    return PlannedRecord(
        folder=cell.folder,
        name=cell.name,
        base=labels[cell.base],
        method=cell.method,
        rank=cell.rank,
        samples=cell.samples,
        seed=seed,
        options=cell.options,
        tuned=bool(cell.tuned_by),
        training=cell.training,
        evaluations=evaluations,
        development=list(development),
        answers=answers,
    )


def _trials(sweep: SweepFile, cells: Sequence[Cell]) -> set[str]:
    """The folders of the trials: those that have chosen a learning rate, and cells with the seed of trials."""
    seed = sweep.section("tune").get("seed")
    have_it = {cell.folder for cell in cells if cell.data is not None and seed is not None and cell.seed == seed}
    return have_it | {folder for cell in cells for folder in cell.tuned_by}


def _of_one_kind(cells: Mapping[str, tuple[Cell, CellRecord]]) -> dict[str, tuple[Cell, CellRecord]]:
    """The cells that learn from the data that most of them learn from, and the untuned ones; of cells that a table
    could not tell apart the first."""
    counts = Counter(repr(cell.data) for cell, _ in cells.values() if cell.data is not None)
    usual = counts.most_common(1)[0][0] if counts else None
    kept: dict[str, tuple[str, tuple[Cell, CellRecord]]] = {}
    for name, (cell, record) in cells.items():
        if cell.data is None or repr(cell.data) == usual:
            key = repr((cell.base, cell.method, cell.options, cell.training, cell.samples, cell.seed))
            kept.setdefault(key, (name, (cell, record)))
    return dict(kept.values())


def _base_labels(cells: Sequence[Cell]) -> dict[BaseIdentity, str]:
    """Names of the base models in tables, as a plan has them."""
    bases = dict.fromkeys(cell.base for cell in cells)
    count = Counter(base.id for base in bases)
    return {base: base.id if count[base.id] == 1 else f"{base.id} ({base.revision}, {base.dtype})" for base in bases}


def _evaluations(sweep: SweepFile, records: Iterable[CellRecord]) -> list[EvaluationRecord]:
    """What the cells are to be scored on: of each task and protocol of the sweep the settings that most cells have. The
    protocol of the averages comes first."""
    counts: Counter[str] = Counter()
    kinds: dict[str, EvaluationRecord] = {}
    for evaluation in (evaluation for record in records for evaluation in record.evaluations.values()):
        counts[_kind(evaluation)] += 1
        kinds.setdefault(_kind(evaluation), evaluation)
    config = sweep.section("evaluation")
    protocols, tasks = config.get("protocol"), config.get("tasks")
    order = [protocols] if isinstance(protocols, str) else protocols if isinstance(protocols, list) else []
    chosen: dict[tuple[str, str], EvaluationRecord] = {}
    for kind, _ in counts.most_common():
        evaluation = kinds[kind]
        if isinstance(tasks, list) and evaluation.task not in tasks:
            continue
        chosen.setdefault((evaluation.label, evaluation.task), evaluation)
    kept = [
        evaluation for evaluation in kinds.values() if chosen.get((evaluation.label, evaluation.task)) is evaluation
    ]
    return sorted(kept, key=lambda each: order.index(each.protocol) if each.protocol in order else len(order))


def _kind(evaluation: EvaluationRecord) -> str:
    """The questions and how they are asked, without how the model computes."""
    return repr((evaluation.label, evaluation.task, evaluation.task_version, evaluation.questions, evaluation.limit))


def _identity(record: CellRecord, wanted: EvaluationRecord) -> str:
    """The hash under which a cell has an evaluation."""
    same = [id for id, evaluation in record.evaluations.items() if _kind(evaluation) == _kind(wanted)]
    return same[-1] if same else f"{UNRECORDED}-{wanted.task}-{wanted.label}"


def _report_config(sweep: SweepFile) -> ReportConfig:
    try:
        return ReportConfig.model_validate(sweep.section("report"))
    except ValidationError:
        return ReportConfig()
