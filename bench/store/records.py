"""What a results folder records, as named types: every file of it is read into one of these and written from one.

The functions that read and write them are in `bench.store.folder`; `bench.store.migrate` brings older files up to
date. No other module knows the keys of these files.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.store.file_names import FileName
from bench.sweep.cell import CellData, Settings
from bench.sweep.contrasts import ContrastsRecord
from bench.sweep.decide import DecideRecord
from bench.sweep.evaluation_identity import AnswersSettings, EvaluationSettings
from bench.sweep.run_sections import TuneConfig
from bench.sweep.sections import ReportConfig

SCHEMA = 2
"""The version of the format of a results folder. It is raised when an older version could no longer read what this
one writes; `bench.store.migrate` then says how an older file becomes a current one."""


class Status(StrEnum):
    """How far a cell has come, or how it ended."""

    TODO = "todo"
    """Nothing is recorded."""
    TRAINED = "trained"
    """Trained, and not scored on everything yet."""
    DONE = "done"
    OUT_OF_MEMORY = "oom"
    DIVERGED = "diverged"
    FAILED = "failed"
    HUNG = "hung"
    """Stopped because it made no progress, or took longer than the sweep allows."""
    KILLED = "killed"
    """Ended from outside; it is run again."""


class Record(BaseModel):
    """Base of all records. Fields are checked when they are assigned; an unknown key is an error.

    Files leave out what is None, so a field that may be None has None as its default.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, validate_by_name=True
    )
    KEYS: ClassVar[tuple[str, ...]] = ()
    """What a file must have although the record has a default for it."""


class SetLengths(Record):
    """How long the examples of a training set are, in tokens, and what `training.max_length` cuts."""

    rows: int
    cut: int
    """Rows longer than `max_length`."""
    cut_answers: int
    """Rows whose answer lost its end, if only the end-of-text token."""
    no_answers: int = 0
    """Rows whose answer lost all of its tokens."""
    usual: int
    """99 % of the rows have at most so many tokens."""
    longest: int


class Costs(Record):
    """What a cell cost. None where it was not measured, or where an older version did not record it."""

    trainable: int
    """Parameters that are trained."""
    total: int
    """Parameters of the model as trained, adapter included."""
    base_parameters: int | None = None
    percent_of_base: float | None = None
    percent_of_total: float | None = None
    base_bytes: int | None = None
    """The base model in memory."""

    steps: int | None = None
    """Optimizer steps."""
    devices: int | None = None
    micro_batch: int | None = None
    """Examples per forward pass that the training came down to."""
    resumed: int | None = None
    """How often the training went on from a checkpoint."""
    training_seconds: float | None = None
    training_peak_bytes: int | None = None
    training_reserved_bytes: int | None = None
    training_joules: float | None = None
    training_tokens: int | None = None
    training_padding_tokens: int | None = None
    tokens_per_second: float | None = None
    training_flops: float | None = None
    training_utilisation: float | None = None
    """Share (0 to 1) of the device's speed at matrix products."""
    matmul_flops_per_second: int | None = None
    final_loss: float | None = None
    best_step: int | None = None
    validation_loss: float | None = None
    truncated_examples: int | None = None
    """Examples longer than `training.max_length`."""
    set_lengths: dict[str, SetLengths] | None = None
    """By training set; held-out examples of the validation included."""
    optimizer_bytes: int | None = None
    adapter_bytes: int | None = None
    """The saved adapter on disk."""

    development_seconds: float | None = None
    merging_seconds: float | None = None
    inference: dict[Literal["base", "unmerged", "merged"], dict[int, Timing]] | None = None
    """Time to answer, by model and number of prompts at once."""
    inference_seconds: float | None = None
    """What it took to time the answers."""

    evaluation_seconds: float | None = None
    evaluation_tokens: int | None = None
    evaluation_tokens_per_second: float | None = None
    evaluation_peak_bytes: int | None = None
    evaluation_reserved_bytes: int | None = None
    evaluation_joules: float | None = None
    evaluation_flops: float | None = None

    wall_seconds: float | None = None
    """The whole cell, from its start to its end."""
    shared: bool | None = None
    """Another process used the device meanwhile."""
    others_cpu: float | None = None
    """The share (0 to 1) of the processors that other processes used."""


class Timing(Record):
    """How long a model took to answer."""

    seconds: float
    tokens_per_second: float
    prompt_tokens: int


class ScoringCosts(Record):
    """What an evaluation, or the answers to a set of open questions, cost. None where it was not measured."""

    seconds: float | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    joules: float | None = None
    tokens: int | None = None
    flops: float | None = None


class Scores(Record):
    """What follows from the rows of an evaluation alone. Shares are from 0 to 1."""

    n: int
    """Questions."""
    acc: float
    acc_norm: float | None = None
    """Where choices were scored: the accuracy of log-likelihoods divided by the choices' length in bytes."""
    primary: str
    """The task's metric, named in advance."""
    score: float
    """The value of the primary metric."""
    majority: float
    """The accuracy of the most frequent right answer."""
    chance: float
    """The accuracy of guessing."""
    parse_rate: float | None = None
    """Where answers were generated: the share in which the parser found an answer."""
    acc_parsed: float | None = None
    """The accuracy among the parsed answers."""
    gold_loss: float | None = None
    """Where choices were scored: the mean loss (nats) of the right one, which breaks ties between learning rates."""


class EvaluationRecord(Scores, ScoringCosts, EvaluationSettings, Record):
    """One task scored by one protocol."""

    model_config = Record.model_config
    file: FileName
    """The file of its rows, in the cell's `items` folder."""
    limit: int | None = None
    batch_tokens: tuple[int, ...] | None = None
    """The most tokens of a forward pass; each further one after memory ran out. In half precision scores move with it.
    None where it was not recorded, and for rows that an earlier run wrote."""


class AnswersRecord(ScoringCosts, AnswersSettings, Record):
    """The answers to one set of open questions."""

    model_config = Record.model_config
    file: FileName
    """The file of the answers, in the cell's `answers` folder."""
    n: int
    cut: int
    """Answers that were cut off at the most tokens that an answer may have."""
    new_tokens: int


class DevelopmentRecord(Record):
    """How many development questions were answered rightly."""

    n: int
    acc: float | None = None
    """0 to 1; None without questions."""


class DevelopmentLoss(Record):
    """How likely the answers of development rows (a hash of them) without choices are."""

    rows: str
    n: int
    tokens: int
    loss: float
    """Negative log-likelihood (nats) a token of the answers."""


class MergeFlips(Record):
    """How many answers to development questions differ between the merged and the unmerged model."""

    n: int
    flips: int
    flips_above_margin: int
    """Those whose choices lay further apart than the margin."""
    margin: float
    """Nats."""


class SharingCheck(Record):
    """What the check found that a shared context gives the log-likelihoods of whole texts."""

    share: str
    questions: int
    difference: float | None = None
    """Nats: the largest in float32, the mean in half precision; None if the model refused shared rows."""
    allowed: float


class CellRecord(Record):
    """What a cell came to so far: metrics.json. Written after each stage: a killed process loses one at most."""

    KEYS = ("status",)

    schema_version: int = Field(default=SCHEMA, alias="schema")
    status: Status = Status.TODO
    reason: str = ""
    """Why it ended as it did; empty for a cell that is done."""
    traceback: list[str] = Field(default_factory=list)
    """Where the error happened, a line each, without paths."""
    costs: Costs | None = None
    """Written when the training is whole. None: it is not."""
    evaluations: dict[str, EvaluationRecord] = Field(default_factory=dict)
    """By the hash of the settings that the plan asks for. The record has those that were used: a model whose answers
    change by merging is scored unmerged."""
    answers: dict[str, AnswersRecord] = Field(default_factory=dict)
    """By the hash of the settings that the plan asks for, as `evaluations`."""
    development: DevelopmentRecord | None = None
    development_loss: DevelopmentLoss | None = None
    """Of a trial on data without questions."""
    """Of the model that was scored. None: not asked yet."""
    merge_max_abs_diff: dict[str, float | None] | None = None
    """By dtype, how far merging moved a logit; None where it was not measured."""
    merge_flips: MergeFlips | None = None
    merge_reason: str = ""
    """Why the cell was not merged, or not scored merged."""
    sharing_check: SharingCheck | None = None
    warnings: list[str] = Field(default_factory=list)


class BaseModelRecord(Record):
    """Which weights a cell started from."""

    id: str
    revision: str | None = None
    commit: str | None = None
    """The hub's commit that the revision stood for."""


class OverlapRecord(Record):
    """Training rows whose question also stands in a test or development set of the sweep."""

    by_question: int
    by_question_and_choices: int
    removed: int


class EnvironmentRecord(Record):
    """What a cell was run with: environment.json. No path and no host name."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    python: str
    platform: str
    packages: dict[str, str | None]
    """Versions by name; None for a package that was not installed."""
    commit: str | None = None
    """The harness's own, with `-dirty` where its code was changed."""
    device: str
    processor: str | None = None
    """Of a CPU: which one, and its vector units."""
    threads: int
    base_model: BaseModelRecord
    dtype_reason: str = ""
    data_fingerprint: str
    overlap: dict[str, OverlapRecord] = Field(default_factory=dict)
    """By training set."""


class TrainingLogRow(Record):
    """A line of training.jsonl."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    validation_loss: float | None = None
    seconds: float | None = None
    """Since the training began."""


class MethodRecord(Record):
    """What a method is, for a reader of the report."""

    summary: str
    rank: str | None = None
    """What `rank` means for it; None where it has none."""
    source: str


class OpenSetRecord(Record):
    """A set of open questions."""

    n: int
    turns: int
    with_reference: int
    """Turns that have a reference answer."""
    references: str
    """Hash of the reference answers."""
    fingerprint: FileName
    """Hash of the questions."""


class PlannedRecord(Record):
    """A cell of a plan."""

    folder: FileName
    name: str
    base: str
    """The base model as tables name it."""
    method: str
    rank: int | None = None
    samples: int
    seed: int | None = None
    """None for a trial of a pilot."""
    options: Settings
    tuned: bool = False
    """Trials chose its learning rate."""
    training: Settings | None = None
    """None for the untuned base."""
    evaluations: list[str]
    """Hashes of the evaluations that it is to have."""
    development: list[str] = Field(default_factory=list)
    """Of a trial: hashes of its evaluations on the development questions."""
    development_rows: str = ""
    """Of a trial on data without questions: hash of the rows that it is chosen by."""
    answers: list[str] = Field(default_factory=list)
    """Hashes of the sets of answers that it is to have."""

    @property
    def lr(self) -> float | None:
        """The learning rate."""
        rate = self.options.get("lr")
        return float(rate) if isinstance(rate, (int, float)) else None


class PlanRecord(Record):
    """The cells that a sweep stands for: plan.json. It is what the report needs to know of cells, begun or not."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    name: str
    notes: list[str] = Field(default_factory=list)
    """Sentences that every report must say."""
    tasks: list[str]
    format: str
    data: CellData | None = None
    """What the cells learn from; None where an older version did not record it."""
    protocols: list[str]
    """The first one is that of the averages."""
    report: ReportConfig = ReportConfig()
    contrasts: ContrastsRecord | None = None
    """None where an older version wrote the plan: whatever is asked of it is post hoc."""
    decide: DecideRecord | None = None
    """None where every setting has the seeds that were given."""
    looks: list[list[int]] = Field(default_factory=list)
    """The seeds of the plans before this one that had scores and fewer seeds, the first plan's first."""
    baseline: str | None = None
    """The method that the others are compared with; None where nothing is trained."""
    methods: dict[str, MethodRecord] = Field(default_factory=dict)
    overlap: dict[str, OverlapRecord] = Field(default_factory=dict)
    deduplicated: bool = True
    open_questions: dict[FileName, OpenSetRecord] = Field(default_factory=dict)
    instructions: list[str] = Field(default_factory=list)
    """Where the instructions come from that cells learn from."""
    tune: TuneConfig | None = None
    """How learning rates are tuned; None where they are not, or where an older version wrote the plan."""
    pending: list[str] = Field(default_factory=list)
    """Names of the cells whose learning rate is yet to be chosen."""
    refused: list[str] = Field(default_factory=list)
    """Bases and settings that cannot run, each with the reason."""
    trials: list[PlannedRecord] = Field(default_factory=list)
    cells: list[PlannedRecord]
