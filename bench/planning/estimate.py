"""How long a cell will take and how much memory and disk, from recorded cells, or by arithmetic where there are none.

The time of a cell is the sum of its parts: training (its tokens at the pace of the most similar recorded cell), scoring
(its questions at theirs), merging and timing generation where the cell does that, and what every cell does once
(loading). Cells that shared their device are not used for times. Calibration adds recorded cells: small ones of each
method.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench import methods
from bench.evaluation.generative_protocol import GENERATIVE
from bench.evaluation.workload import LATENCY_BATCHES, LATENCY_REPEATS, LATENCY_TOKENS, PROTOCOL_TOKENS
from bench.planning.plan import Plan, PlannedCell
from bench.planning.recorded_cells import RecordedCell, recorded_cells, setting_of
from bench.store.folder import CellFolder, Results
from bench.store.records import Costs
from bench.sweep.cell import Cell
from bench.sweep.evaluation_identity import AnswersIdentity, EvaluationIdentity

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bench.costs import PassFlops
    from bench.data.questions import Question

CHARACTERS_PER_TOKEN = 4.0
"""In English text, where nothing has been tokenized yet."""

GUESSED_UTILISATION = {"cpu": 0.3, "cuda": 0.3}
"""Share of the matrix-product speed that a training reaches, where none was recorded on this device."""
OTHER_UTILISATION = 0.1
"""The same for any other kind of device."""

FLOPS_PER_BYTE = 150
"""FLOPs (dense, half precision) that a GPU computes while it reads a byte of its memory: A100 156, H100 295, by their
data sheets. A token that is generated alone takes as long as reading the weights."""
ANSWERS_AT_ONCE = 16
"""Prompts in a batch of a protocol that generates."""

ADAPTER_BYTES, TRAINED_BYTES, ROW_BYTES = 4, 8, 120
"""Bytes of a trained parameter on disk and, at the least, in memory (its weight and its gradient, in float32), and of a
scored question on disk."""

FIXED_SECONDS = 30.0
"""What a cell does once, such as loading, where no cell is recorded."""
LENGTH_SAMPLES = 200
"""Training examples whose length is measured."""
SCORED_SAMPLES, SCORED_CHARACTERS, SCORED_QUESTIONS = 100, 400, 1000
"""Questions of a task whose length is measured; characters of a question and questions of a task where its questions
are not known."""


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take."""

    seconds: float
    training_flops: float
    memory_bytes: int
    disk_bytes: int
    source: str
    """Where the seconds come from: `this cell` (it has ended), `this setting`, `this method`, `other methods` (recorded
    cells) or `arithmetic`."""
    seen: bool
    """True if the pace of the training is that of recorded cells of the same method."""
    memory_source: str
    """`recorded`, or `at least` where only weights and gradients were added up."""


def what_it_took(costs: Costs | None) -> Estimate | None:
    """The same of a cell that has ended; None if it has no costs."""
    if costs is None:
        return None
    return Estimate(
        seconds=costs.wall_seconds or 0.0,
        training_flops=costs.training_flops or 0.0,
        memory_bytes=max(costs.training_peak_bytes or 0, costs.evaluation_peak_bytes or 0),
        disk_bytes=costs.adapter_bytes or 0,
        source="this cell",
        seen=True,
        memory_source="recorded",
    )


class Estimator:
    """Estimates for the cells of a plan."""

    def __init__(
        self, plan: Plan, recorded: Iterable[RecordedCell], machine: Mapping[str, str], tflops: float | None = None
    ) -> None:
        """`machine` as environment.json describes it; `tflops`: speed at matrix products of another device, instead of
        the measured speed of this one."""
        self.plan, self.recorded, self.machine, self.tflops = plan, list(recorded), machine, tflops
        self.skeletons: dict[str, PreTrainedModel] = {}
        self.speeds: dict[str, float] = {}
        """FLOP/s, by dtype."""
        self.evaluation_seconds: dict[tuple[str, int, str, float, str], float] = {}
        """By what decides the time of scoring a task by arithmetic: a sweep of thousands of cells has few of these."""
        self.lengths: dict[int, float] = {}
        """Tokens of a training example, by seed."""
        self.estimates: dict[str, Estimate] = {}
        """By the cell's id."""

    def learn(self, folder: CellFolder) -> None:
        """Take one more recorded cell into account."""
        self.recorded += recorded_cells([folder], self.machine)
        self.estimates.clear()

    def estimate(self, planned: PlannedCell) -> Estimate:
        """What this cell is expected to take, all of its stages together."""
        id = planned.cell.id
        if id not in self.estimates:
            self.estimates[id] = self._estimate(planned)
        return self.estimates[id]

    def _estimate(self, planned: PlannedCell) -> Estimate:
        cell = planned.cell
        same_base = [past for past in self.recorded if past.cell.base == cell.base]
        flops = training = 0.0
        source = "this setting"
        if cell.data is not None:
            trained = [past for past in same_base if past.costs.training_tokens]
            tokens = self._tokens(cell, trained)
            flops = self._training_flops(planned, tokens)
            training, source = self._training(cell, trained, tokens, flops)
            training *= 1 + validation_share(cell)
        scoring, guessed = self._scoring(planned, same_base)
        fixed = [seconds for past in same_base if (seconds := past.fixed_seconds()) is not None]
        memory_bytes, memory_source = _memory(planned, same_base)
        return Estimate(
            seconds=training
            + scoring
            + (statistics.median(fixed) if fixed else FIXED_SECONDS)
            + _merging(planned, same_base)
            + self._timing(planned, same_base),
            training_flops=flops,
            memory_bytes=memory_bytes,
            disk_bytes=self._disk_bytes(planned),
            seen=source in ("this setting", "this method"),
            source=source if not guessed or source == "arithmetic" else f"{source}; scoring: arithmetic",
            memory_source=memory_source,
        )

    # ---- training

    def _tokens(self, cell: Cell, trained: Sequence[RecordedCell]) -> float:
        """Tokens that the training will see, over all epochs."""
        lengths = [
            past.costs.training_tokens / (past.cell.trained_on * past.cell.training_config.epochs)
            for past in trained
            if past.cell.data and cell.data and past.cell.data.train == cell.data.train and past.costs.training_tokens
        ]
        length = statistics.median(lengths) if lengths else self._length(cell)
        return length * cell.trained_on * cell.training_config.epochs

    def _length(self, cell: Cell) -> float:
        """Tokens of an example by its characters."""
        if cell.seed not in self.lengths:
            examples = self.plan.data.subset(min(cell.samples, LENGTH_SAMPLES), cell.seed)
            characters = sum(len(example.prompt) + len(example.answer) for example in examples) / len(examples)
            self.lengths[cell.seed] = min(characters / CHARACTERS_PER_TOKEN, cell.training_config.max_length)
        return self.lengths[cell.seed]

    def _training_flops(self, planned: PlannedCell, tokens: float) -> float:
        """By the formula of docs/costs.md. That a third of the tokens is an answer is a guess, and matters little."""
        rows = planned.cell.trained_on * planned.cell.training_config.epochs
        pairs = tokens * (tokens / rows + 1) / 2
        return self._work(planned, "training").total(round(tokens), round(rows), round(tokens / 3), pairs)

    def _training(self, cell: Cell, trained: Sequence[RecordedCell], tokens: float, flops: float) -> tuple[float, str]:
        """Seconds of the training loop, and where they come from."""
        setting = setting_of(cell)
        levels = (
            ("this setting", [past for past in trained if past.setting == setting]),
            ("this method", [past for past in trained if past.cell.method == cell.method]),
            ("other methods", trained),
        )
        for source, cells in levels:
            paces = [past.costs.tokens_per_second for past in cells if past.costs.tokens_per_second]
            if paces:
                # The usual pace of this setting; of other settings the slowest, because a plan may end early.
                return tokens / (statistics.median(paces) if source == "this setting" else min(paces)), source
        return flops / self._speed(cell), "arithmetic"

    # ---- the model and the device

    def _work(self, planned: PlannedCell, kind: Literal["forward", "training"]) -> PassFlops:
        """As `run_cell` counts it."""
        from bench.costs import count_flops
        from bench.models.load import load_skeleton

        config, base = planned.base, planned.base.id
        if base not in self.skeletons:
            self.skeletons[base] = load_skeleton(base, config.revision, config.trust_remote_code)
        return count_flops(planned.cell if planned.cell.data is not None else None, self.skeletons[base], kind)

    def _speed(self, cell: Cell) -> float:
        """FLOP/s of a training or a forward pass."""
        dtype = cell.base.dtype
        if dtype not in self.speeds:
            self.speeds[dtype] = self._measure_speed(dtype)
        return self.speeds[dtype]

    def _measure_speed(self, dtype: str) -> float:
        from bench.costs import matmul_speed
        from bench.models.device import compute_device

        if self.tflops is not None:
            return self.tflops * 1e12 * GUESSED_UTILISATION["cuda"]
        utilisation = GUESSED_UTILISATION.get(compute_device().type, OTHER_UTILISATION)
        return matmul_speed(dtype) * utilisation

    def _reading(self, planned: PlannedCell) -> float:
        """Seconds in which a GPU reads the weights once; 0 for a CPU, whose products take longer."""
        from bench.costs import matmul_speed
        from bench.models.device import compute_device

        if self.tflops is None and compute_device().type == "cpu":
            return 0.0
        peak = self.tflops * 1e12 if self.tflops is not None else matmul_speed(planned.cell.base.dtype)
        return planned.total * _weight_bytes(planned.cell) * FLOPS_PER_BYTE / peak

    def _step(self, planned: PlannedCell, rows: int = 1) -> float:
        """Seconds of computing the next token of so many rows."""
        return self._work(planned, "forward").total(rows, rows, rows, 0.0) / self._speed(planned.cell)

    # ---- scoring

    def _scoring(self, planned: PlannedCell, same_base: Sequence[RecordedCell]) -> tuple[float, bool]:
        """Seconds of all evaluations and answers, and whether any of them is a guess."""
        seconds, guessed = 0.0, False
        for evaluation in planned.every_evaluation:
            paces = [
                record.seconds / record.n
                for past in same_base
                for record in past.evaluations
                if record.seconds and record.protocol == evaluation.protocol and record.task == evaluation.task
            ]
            questions = self._questions(planned, evaluation)
            count = len(questions) or evaluation.limit or SCORED_QUESTIONS
            seconds += count * statistics.median(paces) if paces else self._evaluation(planned, evaluation, count)
            guessed = guessed or not paces
        for answers in planned.answers:
            turns = sum(len(question.turns) for question in self.plan.data.open_questions[answers.set])
            paces = [
                record.seconds / record.n
                for past in same_base
                for record in past.answers
                if record.seconds and record.set == answers.set and record.max_new_tokens == answers.max_new_tokens
            ]
            seconds += turns * (statistics.median(paces) if paces else self._answer(planned, answers))
            guessed = guessed or not paces
        return seconds, guessed

    def _questions(self, planned: PlannedCell, evaluation: EvaluationIdentity) -> Sequence[Question]:
        """Those of an evaluation; none for a task of lm-eval's own."""
        data = self.plan.data.development_view if evaluation in planned.development else self.plan.data
        return data.questions.get(evaluation.task, ())

    def _evaluation(self, planned: PlannedCell, evaluation: EvaluationIdentity, count: int) -> float:
        """Seconds of scoring so many questions, by arithmetic."""
        key = (
            planned.base.id,
            planned.total,
            planned.cell.base.dtype,
            _weight_bytes(planned.cell),
            evaluation.id,
        )
        if key not in self.evaluation_seconds:
            self.evaluation_seconds[key] = self._compute_evaluation(planned, evaluation, count)
        return self.evaluation_seconds[key]

    def _compute_evaluation(self, planned: PlannedCell, evaluation: EvaluationIdentity, count: int) -> float:
        questions = self._questions(planned, evaluation)[:SCORED_SAMPLES]
        characters = [len(question.text) + sum(map(len, question.choices)) for question in questions]
        length = sum(characters) / max(1, len(characters)) or SCORED_CHARACTERS
        tokens = count * length / CHARACTERS_PER_TOKEN
        seconds = self._work(planned, "forward").total(round(tokens), count, round(tokens / 3), 0.0) / self._speed(
            planned.cell
        )
        protocol = GENERATIVE.get(evaluation.protocol)
        if protocol is not None:
            prompts = 1 if protocol.num_beams > 1 else ANSWERS_AT_ONCE
            step = max(self._step(planned, prompts * protocol.num_beams), self._reading(planned))
            seconds += count / prompts * PROTOCOL_TOKENS * step
        return seconds

    def _answer(self, planned: PlannedCell, answers: AnswersIdentity) -> float:
        """Seconds of an answer by arithmetic: half of the most tokens, each at the cost of a token in scoring (in a
        batch it is; the prompts add little)."""
        return answers.max_new_tokens // 2 * max(self._step(planned), self._reading(planned) / ANSWERS_AT_ONCE)

    def _timing(self, planned: PlannedCell, same_base: Sequence[RecordedCell]) -> float:
        """Seconds of timing generation: by the cell's model, and merged where the method can."""
        if not planned.timed:
            return 0.0
        cell = planned.cell
        models = 1 if cell.data is None else 1 + methods.get(cell.method).facts_for(cell.options).mergeable
        recorded = [
            past.costs.inference_seconds / len(past.costs.inference)
            for past in same_base
            if past.costs.inference and past.costs.inference_seconds
        ]
        if recorded:
            return models * statistics.median(recorded)
        steps = LATENCY_REPEATS * LATENCY_TOKENS * len(LATENCY_BATCHES)
        return models * steps * max(self._step(planned), self._reading(planned))

    def _disk_bytes(self, planned: PlannedCell) -> int:
        rows = sum(len(self._questions(planned, evaluation)) for evaluation in planned.every_evaluation)
        return planned.trainable * ADAPTER_BYTES + rows * ROW_BYTES


def validation_share(cell: Cell) -> float:
    """The time that validation adds to a training, as a share: a forward pass is a third of a step's work."""
    config = cell.training_config
    if config.validation is None:
        return 0.0
    validations = cell.steps // config.validation.steps + 1
    return validations * config.validation.examples / (3 * cell.trained_on * config.epochs)


def _merging(planned: PlannedCell, same_base: Sequence[RecordedCell]) -> float:
    """Seconds of merging and comparing, which a pilot does not do; 0 where none was recorded."""
    if planned.pilot:
        return 0.0
    same_method = [past for past in same_base if past.cell.method == planned.cell.method]
    for cells in (same_method, same_base):
        recorded = [past.costs.merging_seconds for past in cells if past.costs.merging_seconds]
        if recorded:
            return statistics.median(recorded)
    return 0.0


def _memory(planned: PlannedCell, same_base: Sequence[RecordedCell]) -> tuple[int, str]:
    """Bytes of memory, and whether they were `recorded` or are what weights and gradients take `at least`."""
    setting = setting_of(planned.cell)
    peaks = [
        peak
        for past in same_base
        if past.setting == setting
        for peak in (past.costs.training_peak_bytes, past.costs.evaluation_peak_bytes)
        if peak
    ]
    if peaks:
        return max(peaks), "recorded"
    frozen = round((planned.total - planned.trainable) * _weight_bytes(planned.cell))
    return frozen + planned.trainable * TRAINED_BYTES, "at least"


def _weight_bytes(cell: Cell) -> float:
    """Bytes of a weight of the base."""
    if methods.get(cell.method).facts_for(cell.options).quantizes:
        return 0.5
    return 4 if cell.base.dtype == "float32" else 2


def make_estimator(plan: Plan, results: Results, any_machine: bool = False, tflops: float | None = None) -> Estimator:
    """An estimator from the recorded cells of a results folder and of its calibration.

    By default only cells count that were run on such a machine as this. `any_machine`: all cells, for a cluster whose
    machines run them. `tflops`: arithmetic alone, for a device of this speed.
    """
    from bench.models.device import machine

    if tflops is not None:
        return Estimator(plan, (), {}, tflops)
    here = {} if any_machine else machine()
    return Estimator(plan, recorded_cells([*results.folders(), *results.calibration.folders()], here), here)
