"""What a cell cost, as columns of a table: of training, scoring, answering and merging."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.evaluation.workload import LATENCY_BATCHES
from bench.store.records import AnswersRecord, CellRecord, Costs, EvaluationRecord

MEASURED = (
    *("percent_of_base", "steps", "micro_batch", "training_tokens", "training_padding_tokens", "final_loss"),
    *("adapter_bytes", "base_bytes", "optimizer_bytes", "training_flops", "evaluation_flops"),
    *("evaluation_tokens", "shared", "others_cpu"),
)
"""Columns of costs that do not depend on what else runs on the device."""

MODELS = ("base", "unmerged", "merged")
"""The models whose latency is measured."""
LATENCIES = tuple(f"latency_{model}_{batch}" for model in MODELS for batch in LATENCY_BATCHES)
ANSWERING = ("answers", "answers_cut", "answer_tokens", "answering_seconds")
"""Open answers: how many, how many of them were cut off at the limit, their tokens, and seconds of all."""
LOAD_DEPENDENT = (
    *("training_seconds", "tokens_per_second", "training_peak_bytes", "training_reserved_bytes"),
    *("training_joules", "training_utilisation", "evaluation_seconds", "evaluation_tokens_per_second"),
    *("evaluation_peak_bytes", "evaluation_reserved_bytes", "evaluation_joules", "wall_seconds"),
    *("answering_seconds", "inference_seconds", "merging_seconds", *LATENCIES),
)
"""Columns of costs that say nothing of a method where a cell shared its device."""


def cost_columns(costs: Costs | None) -> dict[str, object]:
    """What a cell cost; a cost that an older version did not record is None."""
    recorded = {} if costs is None else costs.model_dump(exclude={"inference"})
    return {
        "trainable": costs.trainable if costs else None,
        "percent": 100 * costs.trainable / costs.total if costs and costs.total else None,
        **{name: recorded.get(name) for name in (*MEASURED, *LOAD_DEPENDENT) if name not in LATENCIES},
        **_latency_columns(costs),
    }


def _latency_columns(costs: Costs | None) -> dict[str, float | None]:
    """Seconds of an answer, by model and number of prompts at once."""
    seconds: dict[str, float | None] = dict.fromkeys(LATENCIES)
    for model, timings in (costs.inference or {} if costs else {}).items():
        for batch, timing in timings.items():
            if batch in LATENCY_BATCHES:
                seconds[f"latency_{model}_{batch}"] = timing.seconds
    return seconds


def answering_columns(recorded: Sequence[AnswersRecord]) -> dict[str, float | None]:
    """The totals of a cell's open answers; all None where it has none."""
    totals = (
        _total([answers.n for answers in recorded]),
        _total([answers.cut for answers in recorded]),
        _total([answers.new_tokens for answers in recorded]),
        _total([answers.seconds for answers in recorded]),
    )
    return dict(zip(ANSWERING, totals, strict=True))


def _total(values: Sequence[float | None]) -> float | None:
    """None where there are none, or one is not known."""
    recorded_values = [value for value in values if value is not None]
    return sum(recorded_values) if recorded_values and len(recorded_values) == len(values) else None


def total_seconds(evaluations: Iterable[EvaluationRecord]) -> float | None:
    recorded_values = [evaluation.seconds for evaluation in evaluations if evaluation.seconds is not None]
    return round(sum(recorded_values), 1) if recorded_values else None


def merge_columns(record: CellRecord) -> dict[str, object]:
    """How far merging moved a logit, in float32 and in half precision, or why the method cannot merge; all missing in
    the records of older cells. What is not a number counts as infinite, so that it is not taken for missing."""
    apart = {
        dtype: math.inf if value is None or math.isnan(value) else value
        for dtype, value in (record.merge_max_abs_diff or {}).items()
    }
    flips = record.merge_flips
    half = next((dtype for dtype in apart if dtype != "float32"), None)
    return {
        "merge_float32": apart.get("float32"),
        "merge_half": apart[half] if half else None,
        "merge_half_dtype": half or "",
        "merge_reason": record.merge_reason,
        "merge_n": flips.n if flips else None,
        "merge_flips": flips.flips if flips else None,
        "merge_flips_above_margin": flips.flips_above_margin if flips else None,
        "merge_margin": flips.margin if flips else None,
    }
