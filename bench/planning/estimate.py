"""How long a cell will take and how much memory and disk, from cells that were run, and from arithmetic where none was.

What a cell takes is made of its parts: training (its tokens at the pace of the most similar recorded cell), scoring
(its questions at theirs), merging and timing answers where the cell does, and what is done once in any (loading).
Cells that shared their device say nothing of time. Calibration adds recorded cells: small ones of each method.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench import methods
from bench.costs import ModelFlops, matmul_speed
from bench.errors import UserError
from bench.evaluation.generative_protocol import GENERATIVE
from bench.evaluation.workload import LATENCY_BATCHES, LATENCY_REPEATS, LATENCY_TOKENS, PROTOCOL_TOKENS
from bench.methods.learning_rates import without_learning_rate
from bench.planning.plan import Plan, PlannedCell
from bench.store.folder import CellFolder, Results
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHARACTERS_A_TOKEN = 4.0
"""Of English text, where nothing was tokenized yet."""

GUESSED_UTILISATION = {"cpu": 0.3, "cuda": 0.3}
"""Share of the matrix-product speed that a training reaches, where none was recorded on this device."""

FLOPS_A_BYTE = 150
"""What a GPU computes (dense, half precision) while it reads a byte of its memory: A100 156, H100 295, by their data
sheets. A token that is generated alone takes as long as the weights take to be read."""
ANSWERS_AT_ONCE = 16
"""Of a protocol that generates in batches."""

ADAPTER_BYTES, TRAINED_BYTES, ROW_BYTES = 4, 8, 120
"""A trained parameter on disk and, at the least, in memory (its weight and its gradient, in float32), and a scored
question on disk."""


@dataclass(frozen=True)
class Estimate:
    """What a cell is expected to take."""

    seconds: float
    training_flops: float
    memory_bytes: int
    disk_bytes: int
    source: str
    """Where the seconds come from: `this setting`, `this method`, `other methods` (recorded cells) or `arithmetic`."""
    seen: bool
    """The seconds of training are those that cells of the method, or the untuned base, were seen to take."""
    memory_source: str
    """`recorded`, or `at least` where only weights and gradients were added up."""


@dataclass(frozen=True)
class Recorded:
    """A cell that was run on this device, as estimates use it."""

    cell: Cell
    costs: Mapping[str, Any]
    evaluations: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]] = ()

    @property
    def setting(self) -> str:
        """What decides the pace of a training."""
        return setting(self.cell)

    def once(self) -> float | None:
        """Seconds that are spent once in any cell."""
        wall, scoring = (
            self.costs.get("wall_seconds"),
            [one.get("seconds") for one in (*self.evaluations, *self.answers)],
        )
        if wall is None or None in scoring:
            return None
        others = ("training_seconds", "merging_seconds", "inference_seconds")
        return max(0.0, wall - sum(self.costs.get(one, 0.0) for one in others) - sum(scoring))


def setting(cell: Cell) -> str:
    """What decides how fast a cell trains: not its rate, its samples or its seed."""
    options = without_learning_rate(cell.options)
    training = {key: (cell.training or {}).get(key) for key in ("batch_size", "order", "max_length")}
    return json.dumps([cell.method, options, training], sort_keys=True)


def recorded(folders: Iterable[CellFolder], machine: Mapping[str, str]) -> list[Recorded]:
    """The cells among these folders that were run on such a machine (as environment.json describes it), had it to
    themselves, and have their costs. What cannot be read is no ground for an estimate."""
    found = []
    for folder in folders:
        try:
            metrics, cell = folder.metrics(), folder.cell()
            environment = json.loads((folder.path / "environment.json").read_text(encoding="utf-8"))
        except (UserError, OSError, ValueError):
            continue
        costs = metrics.get("costs", {})
        if costs and not costs.get("shared") and machine.items() <= environment.items():
            both = (list(metrics.get(kind, {}).values()) for kind in ("evaluations", "answers"))
            found.append(Recorded(cell, costs, *both))
    return found


class Estimator:
    """Estimates for the cells of a plan."""

    def __init__(
        self, plan: Plan, known: Iterable[Recorded], machine: Mapping[str, str], tflops: float | None = None
    ) -> None:
        """`tflops`: the speed at matrix products of another device, instead of what this one's is measured to be."""
        self.plan, self.known, self.machine = plan, list(known), machine
        self.tflops = tflops
        self.skeletons: dict[str, PreTrainedModel] = {}
        self.works: dict[tuple[str, int], ModelFlops] = {}
        """By base and number of parameters, which many cells share: to count takes milliseconds each."""
        self.lengths: dict[int, float] = {}
        self.made: dict[str, Estimate] = {}

    def learn(self, folder: CellFolder) -> None:
        """Take one more recorded cell into account."""
        self.known += recorded([folder], self.machine)
        self.made.clear()

    def estimate(self, planned: PlannedCell) -> Estimate:
        """What this cell is expected to take, all of its stages together."""
        id = planned.cell.id
        if id not in self.made:
            self.made[id] = self._estimate(planned)
        return self.made[id]

    def _estimate(self, planned: PlannedCell) -> Estimate:
        cell = planned.cell
        alike = [one for one in self.known if one.cell.base == cell.base]
        trained = [one for one in alike if one.costs.get("training_tokens")]
        flops = training = 0.0
        source = "this setting"
        if cell.data is not None:
            tokens = self._tokens(cell, trained)
            flops = self._training_flops(planned, tokens)
            training, source = self._training(cell, trained, tokens, flops)
            training *= 1 + self._validation(cell)
        scoring, guessed = self._scoring(planned, alike)
        once = [seconds for one in alike if (seconds := one.once()) is not None]
        seconds = training + scoring + (statistics.median(once) if once else 30.0)
        return Estimate(
            seconds=seconds + self._merging(planned, alike) + self._timing(planned, alike),
            training_flops=flops,
            **self._sizes(planned, alike),
            seen=source in ("this setting", "this method"),
            source=source if not guessed or source == "arithmetic" else f"{source}; scoring: arithmetic",
        )

    def _tokens(self, cell: Cell, trained: Sequence[Recorded]) -> float:
        """Tokens that the training will see, those of the epochs after the first included."""
        rates = [
            one.costs["training_tokens"] / (one.cell.trained_on * one.cell.training["epochs"])
            for one in trained
            if one.cell.data and cell.data and one.cell.data.train == cell.data.train
        ]
        each = statistics.median(rates) if rates else self._length(cell)
        return each * cell.trained_on * cell.training["epochs"]

    def _validation(self, cell: Cell) -> float:
        """Of the time of a training, what its validations add: a pass forward is a third of a step's work."""
        settings = cell.training.get("validation")
        if not settings:
            return 0.0
        looks = cell.steps // settings["steps"] + 1
        return looks * settings["examples"] / (3 * cell.trained_on * cell.training["epochs"])

    def _length(self, cell: Cell) -> float:
        """Tokens of an example by its characters."""
        if cell.seed not in self.lengths:
            texts = self.plan.data.subset(min(cell.samples, 200), cell.seed)
            characters = sum(len(one.prompt) + len(one.answer) for one in texts) / len(texts)
            self.lengths[cell.seed] = min(characters / CHARACTERS_A_TOKEN, cell.training["max_length"])
        return self.lengths[cell.seed]

    def _work(self, planned: PlannedCell) -> ModelFlops:
        """As `run` counts it of the model itself, but that all that is trained is taken to meet every token."""
        from bench.models.load import load_skeleton

        key = planned.base.id
        if key not in self.skeletons:
            self.skeletons[key] = load_skeleton(planned.base.id, planned.base.revision)
        if (key, planned.total) not in self.works:
            self.works[key, planned.total] = ModelFlops.of(self.skeletons[key], total=planned.total)
        work = self.works[key, planned.total]
        return replace(work, trained=min(planned.trainable, work.body + work.added))

    def _training_flops(self, planned: PlannedCell, tokens: float) -> float:
        """By the formula of docs/costs.md; that a third of the tokens is an answer is a guess, and matters little."""
        rows = planned.cell.trained_on * planned.cell.training["epochs"]
        pairs = tokens * (tokens / rows + 1) / 2
        return self._work(planned).training(round(tokens), round(tokens / 3), pairs)

    def _training(self, cell: Cell, trained: Sequence[Recorded], tokens: float, flops: float) -> tuple[float, str]:
        levels = (
            ("this setting", [one for one in trained if one.setting == setting(cell)]),
            ("this method", [one for one in trained if one.cell.method == cell.method]),
            ("other methods", list(trained)),
        )
        for source, found in levels:
            paces = [one.costs["tokens_per_second"] for one in found if one.costs.get("tokens_per_second")]
            if paces:
                # Of its own setting what is usual; of others the slowest, because a plan that ends early is no harm.
                return tokens / (statistics.median(paces) if source == "this setting" else min(paces)), source
        return flops / self._speed(cell), "arithmetic"

    def _speed(self, cell: Cell) -> float:
        from bench.models.device import compute_device

        if self.tflops is not None:
            return self.tflops * 1e12 * GUESSED_UTILISATION["cuda"]
        return matmul_speed(cell.base.dtype) * GUESSED_UTILISATION.get(compute_device().type, 0.1)

    def _reading(self, planned: PlannedCell) -> float:
        """Seconds in which a GPU reads the weights once; 0 for a processor, whose products take longer."""
        from bench.models.device import compute_device

        cell = planned.cell
        if self.tflops is None and compute_device().type == "cpu":
            return 0.0
        peak = self.tflops * 1e12 if self.tflops is not None else matmul_speed(cell.base.dtype)
        return planned.total * _width(cell) * FLOPS_A_BYTE / peak

    def _scoring(self, planned: PlannedCell, alike: Sequence[Recorded]) -> tuple[float, bool]:
        """Seconds of all evaluations, and whether any of them is a guess."""
        seconds, guessed = 0.0, False
        for identity in planned.evaluations:
            done = [
                one["seconds"] / one["n"]
                for record in alike
                for one in record.evaluations
                if one.get("seconds") and one["protocol"] == identity.protocol and one["task"] == identity.task
            ]
            questions = self.plan.data_of(planned).questions.get(identity.task, ())
            count = len(questions) or identity.limit or 1000
            if done:
                seconds += count * statistics.median(done)
            else:
                guessed = True
                characters = [len(one.text) + sum(map(len, one.choices)) for one in questions[:100]]
                tokens = count * (sum(characters) / max(1, len(characters)) or 400) / CHARACTERS_A_TOKEN
                seconds += self._work(planned).forward(round(tokens), round(tokens / 3), 0.0) / self._speed(
                    planned.cell
                )
                if (protocol := GENERATIVE.get(identity.protocol)) is not None:
                    at_once = 1 if protocol.num_beams > 1 else ANSWERS_AT_ONCE
                    rows = at_once * protocol.num_beams
                    step = self._work(planned).forward(rows, rows, 0.0) / self._speed(planned.cell)
                    seconds += count / at_once * PROTOCOL_TOKENS * max(step, self._reading(planned))
        for identity in planned.answers:
            turns = sum(len(one.turns) for one in self.plan.data.open_questions[identity.set])
            done = [
                one["seconds"] / one["n"]
                for record in alike
                for one in record.answers
                if one["set"] == identity.set and one["max_new_tokens"] == identity.max_new_tokens and one["seconds"]
            ]
            guessed = guessed or not done
            seconds += turns * (statistics.median(done) if done else self._answer(planned, identity.max_new_tokens))
        return seconds, guessed

    def _answer(self, planned: PlannedCell, most: int) -> float:
        """Seconds of an answer, where none was recorded: half as long as it may be, and each token as dear as in
        scoring (in batches it is; prompts come to little beside it)."""
        step = self._work(planned).forward(1, 1, 0.0) / self._speed(planned.cell)
        return most // 2 * max(step, self._reading(planned) / ANSWERS_AT_ONCE)

    def _merging(self, planned: PlannedCell, alike: Sequence[Recorded]) -> float:
        """Seconds of merging and comparing, which a trial is spared; nothing where none was recorded."""
        if planned.trial:
            return 0.0
        for found in ([one for one in alike if one.cell.method == planned.cell.method], alike):
            taken = [one.costs["merging_seconds"] for one in found if one.costs.get("merging_seconds")]
            if taken:
                return statistics.median(taken)
        return 0.0

    def _timing(self, planned: PlannedCell, alike: Sequence[Recorded]) -> float:
        """Seconds of timing a cell's answers: the base's, its own, and merged ones where it merges."""
        if not planned.timed:
            return 0.0
        cell = planned.cell
        models = 1 if cell.data is None else 2 + methods.get(cell.method).facts_for(cell.options).mergeable
        timed = [one.costs for one in alike if one.costs.get("inference") and one.costs.get("inference_seconds")]
        each = [one["inference_seconds"] / len(one["inference"]) for one in timed]
        if each:
            return models * statistics.median(each)
        steps = LATENCY_REPEATS * LATENCY_TOKENS * len(LATENCY_BATCHES)
        step = self._work(planned).forward(1, 1, 0.0) / self._speed(cell)
        return models * steps * max(step, self._reading(planned))

    def _sizes(self, planned: PlannedCell, alike: Sequence[Recorded]) -> dict[str, Any]:
        same = [one for one in alike if one.setting == setting(planned.cell)]
        peaks = [
            one.costs[key]
            for one in same
            for key in ("training_peak_bytes", "evaluation_peak_bytes")
            if one.costs.get(key)
        ]
        least = round((planned.total - planned.trainable) * _width(planned.cell)) + planned.trainable * TRAINED_BYTES
        rows = sum(len(self.plan.data_of(planned).questions.get(one.task, ())) for one in planned.evaluations)
        return {
            "memory_bytes": max(peaks) if peaks else least,
            "memory_source": "recorded" if peaks else "at least",
            "disk_bytes": planned.trainable * ADAPTER_BYTES + rows * ROW_BYTES,
        }


def _width(cell: Cell) -> float:
    """Bytes of a weight of the base."""
    if methods.get(cell.method).facts_for(cell.options).quantizes:
        return 0.5
    return 4 if cell.base.dtype == "float32" else 2


def memory_of_device() -> int | None:
    """Bytes that one device has in all; None where it cannot be told."""
    import psutil
    import torch

    from bench.models.device import compute_device

    where = compute_device()
    if where.type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total if where.type == "cpu" else None


def too_large(cells: Iterable[PlannedCell], guess: Estimator) -> str:
    """Which cells, by name, need more than the device holds for weights and gradients alone; empty where all may fit.
    Of a sharded training that is not known here."""
    holds = memory_of_device()
    found = [
        (one.cell.name, made.memory_bytes)
        for one in cells
        if one.training.parallel != "fsdp" and (made := guess.estimate(one)).memory_source == "at least"
        if holds is not None and made.memory_bytes > holds
    ]
    if not found:
        return ""
    names = ", ".join(name for name, _ in found[:5]) + (", ..." if len(found) > 5 else "")
    worst, needs = max(found, key=lambda one: one[1])
    return (
        f"{len(found)} cell{'s' if len(found) > 1 else ''} cannot fit this device: {names}. {worst} needs at least "
        f"{gigabytes(needs)} for weights and gradients, and {gigabytes(holds)} are there"
    )


def gigabytes(count: int) -> str:
    """`1.2 GB`, `340 MB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def estimator(plan: Plan, results: Results, anywhere: bool = False, tflops: float | None = None) -> Estimator:
    """An estimator from what is recorded in a results folder and its calibration, on such a machine as this or
    `anywhere` (on a cluster, whose machines run the cells); for a device of so many `tflops` from arithmetic alone."""
    from bench.models.device import machine

    if tflops is not None:
        return Estimator(plan, (), {}, tflops)
    here = {} if anywhere else machine()
    return Estimator(plan, recorded([*results.folders(), *results.calibration.folders()], here), here)
