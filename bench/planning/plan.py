"""A plan: the cells of a sweep, the cells whose learning rate is yet to be chosen, and what is recorded of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench import methods
from bench.data.open_questions import open_set_record
from bench.data.sweep_data import SweepData
from bench.errors import UserError
from bench.evaluation.lm_eval_tasks import unscored_metrics
from bench.methods.learning_rate_grid import with_learning_rate
from bench.models.dtype import DtypeChoice
from bench.store.damage import CorruptFile
from bench.store.folder import Results
from bench.store.records import (
    MethodRecord,
    OpenSetRecord,
    OverlapRecord,
    PlannedRecord,
    PlanRecord,
    Status,
)
from bench.sweep.baseline import choose_baseline
from bench.sweep.cell import BaseIdentity, Cell
from bench.sweep.contrasts import ContrastsRecord
from bench.sweep.decide import DecideRecord
from bench.sweep.evaluation_identity import AnswersIdentity, EvaluationIdentity
from bench.sweep.schema import Sweep
from bench.sweep.sections import BaseModelConfig, TrainingConfig


@dataclass(frozen=True)
class PlannedCell:
    """A cell with everything else that the runner needs to know."""

    cell: Cell
    base: BaseModelConfig
    training: TrainingConfig
    """With the run-time settings that are not part of the cell."""
    evaluations: tuple[EvaluationIdentity, ...]
    trainable: int
    """Parameters that are trained."""
    total: int
    """Parameters of the model as trained, adapter included."""
    answers: tuple[AnswersIdentity, ...] = ()
    """The open questions that it answers."""
    development: tuple[EvaluationIdentity, ...] = ()
    """Those on the development questions, of a trial: a cell that is run to choose a learning rate."""
    development_rows: str = ""
    """Of a trial on data without questions: hash of the rows whose loss it is chosen by."""
    final: bool = True
    """Part of the comparison. A trial becomes final when its learning rate is chosen for its seed."""
    timed: bool = False
    """Its generation is timed. The time depends on neither seed nor samples, so only the first cell of each setting is
    timed."""
    merge_compared: bool = True
    """The answers of its merged model are compared with those of the unmerged one: of a setting's first seed. Of the
    others a few logits are."""

    @property
    def pilot(self) -> bool:
        """Whether it is run for a choice alone, and sees no test question."""
        return self.trial and not (self.evaluations or self.answers)

    @property
    def trial(self) -> bool:
        """Whether it is run to choose a learning rate."""
        return bool(self.development or self.development_rows)

    @property
    def every_evaluation(self) -> tuple[EvaluationIdentity, ...]:
        return (*self.development, *self.evaluations)


@dataclass(frozen=True)
class Pending:
    """A final cell whose learning rate its trials have not chosen yet."""

    template: PlannedCell
    """The cell at the first of the learning rates."""
    rates: tuple[float, ...]
    """Learning rates."""
    trials: tuple[PlannedCell, ...]
    """Of each learning rate one trial, or one with every seed."""

    @property
    def crossed(self) -> bool:
        """Whether the cell is one of the trials: of a seed that was run at every rate."""
        return any(trial.cell.seed == self.template.cell.seed for trial in self.trials)

    @property
    def name(self) -> str:
        """The name that the cell will have."""
        return self.template.cell.name

    @property
    def setting(self) -> tuple[str, ...]:
        """Ids of the trials: equal for the pending cells that the same trials decide."""
        return tuple(trial.cell.id for trial in self.trials)

    def at(self, rate: float) -> PlannedCell:
        """The cell at this learning rate."""
        cell = self.template.cell
        if self.crossed:
            of_seed = [trial for trial in self.trials if trial.cell.seed == cell.seed]
            return replace(next(trial for trial in of_seed if trial.cell.lr == rate), final=True)
        return replace(self.template, cell=cell_at(cell, rate, [trial.cell.folder for trial in self.trials]))


def cell_at(cell: Cell, rate: float, tuned_by: Sequence[str] = ()) -> Cell:
    """The cell at another learning rate; `tuned_by`: the folders of the trials that chose it."""
    content = cell.model_dump(mode="json")
    content["options"] = with_learning_rate(content["options"], rate)
    content["tuned_by"] = list(tuned_by)
    return Cell.model_validate(content)


@dataclass(frozen=True)
class Refusal:
    """What a sweep asks for and cannot have: a base, or a setting of a method on a base. The other cells are run."""

    what: str
    problem: str
    fix: str = ""

    @property
    def error(self) -> UserError:
        return UserError(f"{self.what}: {self.problem}", self.fix)


@dataclass(frozen=True)
class Plan:
    """All cells that a sweep stands for."""

    sweep: Sweep
    data: SweepData
    cells: tuple[PlannedCell, ...]
    dtypes: dict[str, DtypeChoice]
    """By base model, with the reason."""
    pending: tuple[Pending, ...] = ()
    """Cells whose learning rate is yet to be chosen."""
    refused: tuple[Refusal, ...] = ()
    attention: Mapping[str, str] = field(default_factory=dict)
    """By base model that does not have the attention implementation of the sweep: the reason why it runs in eager."""
    warnings: tuple[str, ...] = ()
    """Of PEFT, about settings that it accepts."""
    lm_eval_tasks: tuple[str, ...] = ()
    """The tasks of lm-eval that cells are scored on."""
    later: tuple[PlannedCell | Pending, ...] = ()
    """Cells of the seeds that `decide` adds where a contrast is open."""

    def data_of(self, planned: PlannedCell) -> SweepData:
        """The data with the questions that a cell is scored on."""
        return self.data.development_view if planned.pilot else self.data

    @property
    def further(self) -> list[PlannedCell]:
        """Templates of the cells that will be run besides those of the plan, when their learning rates are chosen."""
        return [pending.template for pending in self.pending if not pending.crossed]

    @property
    def unscored(self) -> list[str]:
        """Sentences on the metrics of lm-eval's tasks that are not scored."""
        return unscored_metrics(self.lm_eval_tasks, self.data.config.seed, self.sweep.evaluation.limit)

    def record(self) -> PlanRecord:
        """The plan as plan.json holds it: what the report needs to know of cells, started or not."""
        final = [planned for planned in self.cells if planned.final]
        labels = self._base_labels()
        trained = [planned.cell for planned in final if planned.cell.data is not None]
        trained += [pending.template.cell for pending in self.pending]
        return PlanRecord(
            name=self.sweep.name,
            notes=[*self.data.notes, *self.unscored, *([self.sweep.note] if self.sweep.note else [])],
            tasks=list(self.data.questions),
            format=self.data.config.format,
            data=next((cell.data for cell in trained if cell.data is not None), None),
            protocols=list(self.sweep.evaluation.protocols),
            report=self.sweep.report,
            contrasts=ContrastsRecord(named=self.sweep.contrasts, average=self.sweep.report.average),
            decide=self._decide(),
            baseline=choose_baseline([(cell.method, cell.rank) for cell in trained], self.sweep.report.baseline),
            methods=self._methods(),
            overlap=overlap_records(self.data),
            deduplicated=self.data.config.deduplicate,
            open_questions=self._open_questions(),
            instructions=self._instructions() if self.data.open_questions else [],
            tune=self.sweep.tune,
            pending=[pending.name for pending in self.pending],
            refused=[f"{refusal.what}: {refusal.problem}" for refusal in self.refused],
            trials=[_planned_record(planned, labels) for planned in self.cells if planned.trial],
            cells=[_planned_record(planned, labels) for planned in final],
        )

    def _decide(self) -> DecideRecord | None:
        config = self.sweep.decide
        if config is None:
            return None
        return DecideRecord(looks=config.looks, seeds=self.sweep.all_seeds, budget=config.budget)

    def _base_labels(self) -> dict[BaseIdentity, str]:
        """Names of the base models in tables: the id, with revision and dtype where two bases share it."""
        bases = {planned.cell.base for planned in self.cells}
        count = Counter(base.id for base in bases)
        return {
            base: base.id if count[base.id] == 1 else f"{base.id} ({base.revision}, {base.dtype})" for base in bases
        }

    def _methods(self) -> dict[str, MethodRecord]:
        """What each method is, for a reader of the report."""
        names = dict.fromkeys(planned.cell.method for planned in self.cells if planned.cell.data is not None)
        facts = {name: methods.get(name).facts for name in names}
        return {
            name: MethodRecord(summary=fact.summary, rank=fact.rank, source=fact.source) for name, fact in facts.items()
        }

    def _open_questions(self) -> dict[str, OpenSetRecord]:
        """The sets of open questions, for judges and the report."""
        return {name: open_set_record(questions) for name, questions in self.data.open_questions.items()}

    def _instructions(self) -> list[str]:
        """Where the instructions come from that cells learn from."""
        origin = "the hub's" if self.data.config.alpaca is None else "own file"
        return [f"{name}, {origin}" if name == "alpaca" else name for name in self.data.pools]


def _planned_record(planned: PlannedCell, labels: dict[BaseIdentity, str]) -> PlannedRecord:
    cell = planned.cell
    return PlannedRecord(
        folder=cell.folder,
        name=cell.name,
        base=labels[cell.base],
        method=cell.method,
        rank=cell.rank,
        samples=cell.samples,
        seed=None if planned.pilot else cell.seed,
        options=cell.options,
        tuned=bool(cell.tuned_by) or planned.trial,
        training=cell.training,
        evaluations=[identity.id for identity in planned.evaluations],
        development=[identity.id for identity in planned.development],
        development_rows=planned.development_rows,
        answers=[identity.id for identity in planned.answers],
    )


def overlap_records(data: SweepData) -> dict[str, OverlapRecord]:
    """The overlap of training and test questions, by training set."""
    return {
        name: OverlapRecord(
            by_question=overlap.by_question,
            by_question_and_choices=overlap.by_question_and_choices,
            removed=overlap.removed,
        )
        for name, overlap in data.overlap.items()
    }


TO_RUN = (Status.TODO, Status.TRAINED, Status.KILLED)
"""The statuses in which a cell waits to be run."""


def status_of(planned: PlannedCell, results: Results, retry_failed: bool = False) -> Status:
    """How far a cell has come by its record.

    `trained` if scores or answers that the plan asks for are missing; `todo` if its record is corrupt. With
    `retry_failed`, a cell that failed is `todo`; a cell that was killed is always run again. Raises NewerSchema, and
    CorruptPack where its pack cannot be read.
    """
    folder = results.folder(planned.cell)
    if not folder.exists():
        return Status.TODO
    try:
        record = folder.record()
    except CorruptFile:
        return Status.TODO
    if record.status in (Status.DONE, Status.TRAINED):
        recorded = {*record.evaluations, *record.answers}
        wanted = {identity.id for identity in planned.every_evaluation} | {identity.id for identity in planned.answers}
        loss = record.development_loss
        chosen_by_loss = not planned.development_rows or (loss is not None and loss.rows == planned.development_rows)
        return Status.DONE if wanted <= recorded and chosen_by_loss else Status.TRAINED
    return Status.TODO if retry_failed and record.status != Status.KILLED else record.status
