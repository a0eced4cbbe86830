"""What makes a sweep impossible, found before any of its cells is started. All functions raise UserError."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.sweep_data import SweepData
from bench.errors import UserError
from bench.methods.method import MethodFacts
from bench.methods.registry import get
from bench.models.finite_weights import check_finite
from bench.models.load import check_generation_config, check_special_tokens, load_tokenizer
from bench.models.locate import find_base
from bench.models.weights import check_headers
from bench.sweep.cell import Cell, Settings
from bench.sweep.contrasts import weighted_cells
from bench.sweep.schema import MAX_CELLS, Sweep, count_combinations
from bench.sweep.sections import BaseModelConfig, TrainingConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


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


def check_untuned(entry: Settings) -> None:
    """For settings of the untuned base, which has none."""
    if settings := [key for key in entry if key != "method"]:
        raise UserError(
            f"method base has no setting {', '.join(settings)}: it is the untuned model, which is in every sweep",
            "Leave it out.",
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
    """For tuning without development questions or rows."""
    if not (data.development_view.questions or data.development_answers_fingerprint):
        raise UserError("tune chooses by development data, and there are none", "Set data.development to 100 or so.")


def check_weights(base: BaseModelConfig, skeleton: PreTrainedModel) -> None:
    """For a folder whose weights do not fill the architecture, are of another one, or are NaN. Models of the hub are
    checked when they have been downloaded."""
    folder = Path(base.id).expanduser()
    if folder.is_dir():
        check_headers(base.id, folder, skeleton)
        check_finite(base.id, folder, skeleton)


def check_tokenizer(base: BaseModelConfig, skeleton: PreTrainedModel) -> None:
    """For a folder without a tokenizer, or with one that is not the model's. Tokenizers of the hub are checked when
    they have been downloaded."""
    if Path(base.id).expanduser().is_dir():
        folder = find_base(base.id, base.revision, base.trust_remote_code)
        check_special_tokens(base.id, load_tokenizer(folder), skeleton)
        check_generation_config(base.id, folder.path)


def check_answer_length(sweep: Sweep, base: BaseModelConfig, config: PretrainedConfig) -> None:
    """For answers so long that the base model has no room for the question."""
    positions = positions_of(config)
    if sweep.answers is not None and positions is not None and sweep.answers.max_new_tokens >= positions:
        raise UserError(
            f"answers.max_new_tokens {sweep.answers.max_new_tokens} leaves no room for a question in {base.id}, which "
            f"reads {positions} tokens",
            f"Set it to {positions // 2} or so.",
        )


def check_size(sweep: Sweep) -> None:
    """For more cells than can be planned. Counts them without making them."""
    each = len(sweep.base_model) * len(sweep.samples) * len(sweep.all_seeds)
    each *= count_combinations(TrainingConfig, sweep.training)
    settings = sum(
        count_combinations(get(name).Options, entry)
        for name, entry in zip(sweep.method_names, sweep.methods, strict=True)
    )
    if each * settings > MAX_CELLS:
        raise UserError(
            f"the sweep's lists multiply to {each * settings:,} cells; a sweep has at most {MAX_CELLS:,}",
            "Shorten a list, such as seeds, or make several sweeps.",
        )


def check_files(sweep: Sweep) -> None:
    """For a file or folder that is named and not there, even if nothing is read from it."""
    data = sweep.data
    named = {"data.dir": data.dir, "data.alpaca": data.alpaca}
    for name, rows in data.sets.items():
        if rows.hub is None:
            named |= {f"data.sets.{name}.train": rows.train, f"data.sets.{name}.test": rows.test}
    for name, questions in (sweep.answers.sets if sweep.answers is not None else {}).items():
        key = f"answers.sets.{name}"
        named |= {f"{key}.questions": questions.questions, f"{key}.references": questions.references}
    for key, path in named.items():
        if path is not None and not _exists(Path(path).expanduser(), folder=key == "data.dir"):
            kind = "folder" if key == "data.dir" else "file"
            raise UserError(f"{key}: there is no {kind} {path}", "Give its path, or leave it out.")


def _exists(path: Path, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.exists()
    except OSError:  # a name that is too long, say
        return False


def check_max_length(
    training: TrainingConfig, base: BaseModelConfig, config: PretrainedConfig, virtual_tokens: int, method: str
) -> None:
    """For examples longer than what the base model has positions for, with the virtual tokens before them."""
    positions = positions_of(config)
    if positions is None or training.max_length + virtual_tokens <= positions:
        return
    added = f" and the {virtual_tokens} virtual tokens of {method}" if virtual_tokens else ""
    raise UserError(
        f"training.max_length {training.max_length}{added}: {base.id} reads {positions} tokens",
        f"Set training.max_length to at most {positions - virtual_tokens}."
        if positions - virtual_tokens >= 8
        else "Leave the method out.",
    )


def positions_of(config: PretrainedConfig) -> int | None:
    """The tokens that a base model has positions for; None where its configuration states no limit."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    limits = [getattr(config.get_text_config(), name, None) for name in names]
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


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


def check_average(sweep: Sweep, scored: Collection[str]) -> None:
    """For a task of `report.average` that cells are not scored on. `scored`: the tasks that they are."""
    average = sweep.report.average
    if average not in ("auto", "all"):
        for task in average:
            if task not in scored:
                raise UserError(
                    f"report.average names {task}, and this sweep scores {', '.join(scored) or 'no task'}",
                    "Name tasks that it scores, or give all, or auto.",
                )


def check_contrasts(sweep: Sweep, cells: Sequence[Cell]) -> None:
    """For a contrast of a rank, sample count or setting that is not trained."""
    trained = [cell for cell in cells if cell.data is not None]
    for contrast in sweep.contrasts:
        weighted_cells(contrast, trained)
