"""What makes a sweep impossible, found before any of its cells is started. All functions raise UserError."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.sweep_data import SweepData
from bench.errors import UserError
from bench.methods.method import MethodFacts
from bench.sweep.cell import Cell
from bench.sweep.schema import Sweep
from bench.sweep.sections import BaseModelConfig, TrainingConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class _OptionalSetting:
    """A setting of the training that some methods do not support."""

    name: str
    value: Callable[[TrainingConfig], object]
    """Falsy if the setting is off."""
    unsupported: Callable[[MethodFacts], str]
    """Why the method does not support it; empty if it does."""
    fix: str


OPTIONAL_SETTINGS = (
    _OptionalSetting(
        "weight_decay", lambda config: config.weight_decay, lambda facts: facts.no_weight_decay, "Set it to 0"
    ),
    _OptionalSetting(
        "gradient_checkpointing",
        lambda config: config.gradient_checkpointing,
        lambda facts: facts.no_checkpointing,
        "Set it to false",
    ),
    _OptionalSetting("packed", lambda config: config.packed, lambda facts: facts.no_packing, "Set it to false"),
    _OptionalSetting("validation", lambda config: config.validation, lambda facts: facts.no_validation, "Leave it out"),
)


def check_supported(method: str, training: TrainingConfig, facts: MethodFacts, base_no_packing: str) -> None:
    """For a setting of the training that the method, or the base model, does not support."""
    for setting in OPTIONAL_SETTINGS:
        if not (value := setting.value(training)):
            continue
        reason = setting.unsupported(facts) or (base_no_packing if setting.name == "packed" else "")
        if reason:
            shown = f" {value}" if isinstance(value, float) else ""
            raise UserError(
                f"method {method} does not support training.{setting.name}{shown}: {reason}",
                f"{setting.fix}, or run this method in a separate sweep.",
            )


def check_held_out(training: TrainingConfig, samples: Sequence[int]) -> None:
    """For a cell of which no example is left to train on."""
    if training.validation is not None and training.validation.examples >= min(samples):
        raise UserError(
            f"training.validation.examples holds {training.validation.examples} examples out of {min(samples)}",
            "Hold out fewer, or raise samples.",
        )


def check_trackers(trainings: Sequence[TrainingConfig]) -> None:
    """For a tracker that is not installed."""
    for tracker in sorted({tracker for training in trainings for tracker in training.report_to}):
        if importlib.util.find_spec(tracker) is None:
            raise UserError(f"training.report_to: {tracker} is not installed", f"pip install {tracker}")


def check_development(data: SweepData) -> None:
    """For tuning without development questions."""
    if not data.development_view.questions:
        raise UserError(
            "tune chooses by development questions, and there are none", "Set data.development to 100 or so."
        )


def check_answer_length(sweep: Sweep, base: BaseModelConfig, config: PretrainedConfig) -> None:
    """For answers so long that the base model has no room for the question."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if sweep.answers is not None and positions is not None and sweep.answers.max_new_tokens >= positions:
        raise UserError(
            f"answers.max_new_tokens {sweep.answers.max_new_tokens} leaves no room for a question in {base.id}, which "
            f"reads {positions} tokens",
            f"Set it to {positions // 2} or so.",
        )


def check_baseline(sweep: Sweep, cells: Sequence[Cell]) -> None:
    """For a `report.baseline_rank` that the baseline is not trained at."""
    rules = sweep.report
    ranks = sorted({cell.rank for cell in cells if cell.method == rules.baseline and cell.rank is not None})
    if rules.baseline_rank is not None and rules.baseline_rank not in ranks:
        trained = f"at rank {', '.join(map(str, ranks))}" if ranks else "without a rank"
        raise UserError(
            f"report.baseline_rank {rules.baseline_rank}: this sweep trains {rules.baseline} {trained}",
            "Name one of its ranks, or leave it out: equal ranks are compared then.",
        )
