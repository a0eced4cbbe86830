"""What a cell's stages cost, as it is recorded: readings of the meter, counts of tokens, FLOPs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from bench.costs import PassFlops, Reading, matmul_speed
from bench.models.device import compute_device
from bench.planning.plan import PlannedCell
from bench.store.records import Costs, EvaluationRecord, ScoringCosts
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.trainer import TrainingResult

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from bench.evaluation.continuation_scorer import TokenCounts


Number = TypeVar("Number", int, float)


def parameter_costs(planned: PlannedCell, model: nn.Module, skeleton: PreTrainedModel, base_bytes: int) -> Costs:
    """The sizes of a model that is about to be trained. `skeleton` is its base without weights."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # A quantized base packs several weights into one number, so the plan's count is used.
    total = planned.total + trainable - planned.trainable
    base = sum(parameter.numel() for parameter in skeleton.parameters())
    return Costs(
        trainable=trainable,
        total=total,
        base_parameters=base,
        percent_of_base=round(100 * trainable / base, 6),
        percent_of_total=round(100 * trainable / total, 6),
        base_bytes=base_bytes,
    )


def add_training_costs(
    costs: Costs, result: TrainingResult, work: PassFlops, cell: Cell, config: TrainingConfig
) -> None:
    """Record what a training cost; `work` is that of the model as trained."""
    speed = matmul_speed(cell.base.dtype)
    if compute_device().type == "cuda":  # of all devices together; processes on a CPU share the measured speed
        speed *= config.devices
    rows = round(cell.trained_on * config.epochs)
    flops = work.total(result.tokens, rows, result.supervised, result.pairs)
    costs.steps = result.steps
    costs.devices = config.devices
    costs.micro_batch = result.micro_batch
    costs.resumed = result.resumed
    costs.training_seconds = round(result.cost.seconds, 2)
    costs.training_peak_bytes = result.cost.peak_bytes
    costs.training_reserved_bytes = result.cost.reserved_bytes
    costs.training_joules = _joules(result.cost)
    costs.training_tokens = result.tokens
    costs.training_padding_tokens = result.padding
    costs.tokens_per_second = round(result.tokens_per_second, 1)
    costs.training_flops = flops
    costs.training_utilisation = round(flops / result.cost.seconds / speed, 4)
    costs.matmul_flops_per_second = round(speed)
    costs.final_loss = result.final_loss
    costs.best_step = result.best_step
    costs.validation_loss = result.validation_loss
    costs.truncated_examples = result.truncated
    costs.set_lengths = result.lengths
    costs.optimizer_bytes = result.optimizer_bytes


def scoring_costs(reading: Reading, before: TokenCounts, after: TokenCounts, work: PassFlops) -> ScoringCosts:
    """What an evaluation cost; `before` and `after` count the model's tokens."""
    tokens = after.tokens - before.tokens
    return ScoringCosts(
        seconds=round(reading.seconds, 2),
        peak_bytes=reading.peak_bytes,
        reserved_bytes=reading.reserved_bytes,
        joules=_joules(reading),
        tokens=tokens,
        flops=work.total(tokens, after.rows - before.rows, after.at_head - before.at_head, after.pairs - before.pairs),
    )


def add_evaluation_costs(costs: Costs, evaluations: Iterable[EvaluationRecord]) -> None:
    """Record what all evaluations of a cell cost together: sums and highest peaks; None if one was not measured."""
    records = list(evaluations)
    seconds = _total([record.seconds for record in records])
    tokens = _total([record.tokens for record in records])
    costs.evaluation_seconds = None if seconds is None else round(seconds, 2)
    costs.evaluation_tokens = tokens
    costs.evaluation_tokens_per_second = round(tokens / seconds, 1) if seconds and tokens is not None else None
    costs.evaluation_peak_bytes = _highest([record.peak_bytes for record in records])
    costs.evaluation_reserved_bytes = _highest([record.reserved_bytes for record in records])
    costs.evaluation_joules = _total([record.joules for record in records])
    costs.evaluation_flops = _total([record.flops for record in records])


def _joules(reading: Reading) -> float | None:
    return None if reading.joules is None else round(reading.joules, 1)


def _total(values: Sequence[Number | None]) -> Number | None:
    measured = [value for value in values if value is not None]
    return sum(measured) if len(measured) == len(values) else None


def _highest(values: Sequence[int | None]) -> int | None:
    measured = [value for value in values if value is not None]
    return max(measured) if len(measured) == len(values) else None
