"""Whether the weights in a model's folder are those of its architecture: no tensor is missing, left over or misshapen.

transformers fills a missing weight with random numbers and only logs it. Here it is an error: in the plan, from the
headers of the safetensors files alone, and again when the weights are loaded. What is missing, after names are
translated and experts are stacked, is what transformers itself finds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from bench.errors import UserError, first_line
from bench.models.progress_bars import no_progress_bars

if TYPE_CHECKING:
    import torch
    from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

NAMED = 4
"""Tensors that a message names before it abbreviates."""


WHOLE_NUMBERS = ("I", "U", "BOOL")
"""How the names of dtypes without fractions begin in a safetensors file."""


class LoadingInfo(TypedDict):
    """What transformers' `output_loading_info` says; tied weights, which a file holds once, are not missing."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, tuple[int, ...], tuple[int, ...]]]
    """Name, shape in the file, shape in the model."""


def read_model(
    kind: type[PreTrainedModel] | type[AutoModelForCausalLM], path: Path | None, **options: object
) -> tuple[PreTrainedModel, LoadingInfo]:
    """`kind.from_pretrained`, with what it says of the weights instead of prints or errors about them."""
    # transformers' annotation does not know `output_loading_info`.
    load = cast("Callable[..., tuple[PreTrainedModel, LoadingInfo]]", kind.from_pretrained)
    with without_reports():
        # A tensor of another shape is an error here, as a missing one is (`loading_problems`).
        return load(path, output_loading_info=True, ignore_mismatched_sizes=True, **options)


def loading_problems(info: LoadingInfo) -> str:
    """How weights did not fill their architecture, naming the tensors; empty if they did."""
    problems = []
    if info["missing_keys"]:
        problems.append(f"{_named(sorted(info['missing_keys']))} missing")
    if info["unexpected_keys"]:
        problems.append(f"{_named(sorted(info['unexpected_keys']))} unexpected")
    if info["mismatched_keys"]:
        shapes = [f"{key} {list(saved)} for {list(shape)}" for key, saved, shape in sorted(info["mismatched_keys"])]
        problems.append(f"{_named(shapes)} of another shape")
    return "; ".join(problems)


def check_loaded(name: str, info: LoadingInfo) -> None:
    """Raises UserError if the weights of the model `name` did not fill its architecture."""
    if problems := loading_problems(info):
        raise UserError(
            f"the weights of {name} do not fit its config.json: {problems}",
            "Nothing is filled with random numbers. Give the whole model as save_pretrained of its causal language "
            "model writes it, with the config.json that belongs to these weights.",
        )


def check_headers(name: str, folder: Path, skeleton: PreTrainedModel) -> None:
    """As `check_loaded`, from the headers of the folder's safetensors files, for an architecture on the meta device.

    A quantized model is checked when it is loaded. Raises UserError also for a file that is missing or damaged.
    """
    config = skeleton.config
    if quantization_of(config):
        return
    state = _header_tensors(name, folder, getattr(config, "transformers_weights", None))
    _check_floats(name, state, skeleton)
    try:
        _, info = read_model(type(skeleton), None, config=config, state_dict=state, device_map={"": "meta"})
    except RuntimeError as error:  # experts that cannot be stacked, say
        raise unreadable_weights(name, error) from error
    check_loaded(name, info)


def quantization_of(config: PretrainedConfig) -> str:
    """The kind of quantization that a configuration says the weights have; empty for weights in floats."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return ""
    kind = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return str(getattr(kind, "value", kind) or "of no kind")


def _check_floats(name: str, state: Mapping[str, torch.Tensor], skeleton: PreTrainedModel) -> None:
    """transformers casts whole numbers to floats: codes of a quantization whose configuration was lost, say."""
    parameters = {path for path, parameter in skeleton.named_parameters() if parameter.is_floating_point()}
    prefix = f"{skeleton.base_model_prefix}."
    codes = [
        f"{key} ({str(tensor.dtype).removeprefix('torch.')})"
        for key, tensor in sorted(state.items())
        if not tensor.dtype.is_floating_point and ({key, prefix + key} & parameters)
    ]
    if codes:
        raise UserError(
            f"weights of {name} are whole numbers: {_named(codes)}",
            "A quantized model needs its quantization_config in config.json. Give that, or the model in floats.",
        )


def check_causal(name: str, config: PretrainedConfig) -> None:
    """Raises UserError for an encoder-decoder, and for an encoder, whose tokens attend to those after them."""
    kind = "an encoder-decoder" if config.is_encoder_decoder else "an encoder" if _is_encoder(config) else ""
    if kind:
        raise UserError(
            f"{name} is {kind} (model type {config.model_type}), not a causal language model",
            "Its scores as a causal language model would mean nothing. Give a decoder, such as llama or gpt2.",
        )


def unreadable_weights(name: str, error: Exception) -> UserError:
    """The error for a folder whose files cannot be read as a causal language model."""
    return UserError(
        f"cannot load {name}: {first_line(error)}",
        "The folder must hold config.json and *.safetensors of a causal language model.",
    )


ENCODERS = frozenset(
    (
        *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
        *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl"),
        "xmod",
    )
)
"""Model types with a language-modelling head whose attention is causal only with `is_decoder: true`."""
NEVER_CAUSAL = frozenset(("cpmant", "xlnet"))
"""Model types that transformers lists as causal, and whose prompt attends in both directions."""


def _is_encoder(config: PretrainedConfig) -> bool:
    kind = config.model_type
    if kind == "xlm":
        return not getattr(config, "causal", False)
    return kind in NEVER_CAUSAL or (kind in ENCODERS and not getattr(config, "is_decoder", False))


def _header_tensors(name: str, folder: Path, named: str | None) -> dict[str, torch.Tensor]:
    """The tensors that a folder's files announce, on the meta device: whole numbers as int8, others as float32."""
    import torch
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, torch.Tensor] = {}
    try:
        for path in weight_files(folder, named):
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # no mapping
                    header = file.get_slice(key)
                    dtype = torch.int8 if header.get_dtype().startswith(WHOLE_NUMBERS) else torch.float32
                    tensors[key] = torch.empty(header.get_shape(), dtype=dtype, device="meta")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise unreadable_weights(name, error) from error
    return tensors


def weight_files(folder: Path, named: str | None = None) -> list[Path]:
    """The safetensors files that transformers loads from a folder: one, or those that an index lists. `named`: the
    file or the index that the configuration names (`transformers_weights`).

    Raises FileNotFoundError where there are none, and ValueError or KeyError for an index that is damaged.
    """
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

    if named is not None and not named.endswith(".index.json"):
        return [folder / named]
    if named is None and (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / (named or SAFE_WEIGHTS_INDEX_NAME)
    if not index.is_file():
        raise FileNotFoundError(f"it has neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME}")
    return sorted({folder / file for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})


@contextmanager
def without_reports() -> Iterator[None]:
    """While entered, transformers prints neither progress bars nor its table of missing weights, which is an error
    here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(level)


def _named(tensors: list[str]) -> str:
    more = f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return f"{', '.join(tensors[:NAMED])}{more}"
