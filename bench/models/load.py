"""Loading a base model: its configuration, the model with or without weights, its tokenizer.

Only safetensors are read, all weights must be there (`bench.models.weights`), and a model's own code runs only if the
sweep trusts it: transformers is never left to ask. `load_model` is the one sequence that training, evaluation,
distributed processes and the export load a base with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.errors import UserError, first_line, out_of_memory, shortened
from bench.models.device import compute_device
from bench.models.finite_weights import check_loaded_finite
from bench.models.locate import CODE_FILES, ModelFolder, download_from_hub, pin_base
from bench.models.weights import check_causal, check_loaded, read_model, unreadable_weights

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = {
    "smollm2-135m-instruct": "smollm2-135m-instruct",
    "huggyllama/llama-7b": "llama-7b",
    "yahma/llama-7b-hf": "llama-7b",
    "huggyllama/llama-13b": "llama-13b",
    "yahma/llama-13b-hf": "llama-13b",
    "meta-llama/Llama-2-7b-hf": "llama2-7b",
    "meta-llama/Meta-Llama-3-8B": "llama3-8b",
    "meta-llama/Llama-3.1-8B": "llama3-8b",
}
"""Models whose configuration ships here (facts of their config.json), so that a plan needs no network."""


def load_config(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration alone: enough to count parameters and to check target modules.

    Raises UserError if transformers cannot read it or does not know the architecture, or it is not that of a causal
    language model.
    """
    if name in ARCHITECTURES:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(Path(__file__).parent / "architectures" / f"{ARCHITECTURES[name]}.json")
    pin_base(name, revision, trust_remote_code)
    folder = Path(name).expanduser()
    files = ["config.json", CODE_FILES] if trust_remote_code else ["config.json"]
    path = folder if folder.is_dir() else download_from_hub(name, revision, files)
    config = _read_config(name, path, trust_remote_code)
    check_causal(name, config)
    return config


def _read_config(name: str, path: Path, trust_remote_code: bool) -> PretrainedConfig:
    """The configuration in a folder, without what it says of how a model is run. Raises UserError if it is none."""
    from transformers import AutoConfig

    from bench.models.compat.transformers_models import forget_run_settings

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # a configuration class may raise anything for values that it was not made for
        raise _unusable_config(name, error) from error
    forget_run_settings(config)
    return config


def load_skeleton(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model without weights, on the meta device."""
    import torch

    with torch.device("meta"):
        return build_model(load_config(name, revision, trust_remote_code), trust_remote_code)


def runs_remote_code(model: PreTrainedModel) -> bool:
    """Whether the model's class is of its own folder's code: whoever made it has trusted that code."""
    return type(model).__module__.split(".")[0] == "transformers_modules"


def build_model(config: PretrainedConfig, trust_remote_code: bool = False, **implementations: str) -> PreTrainedModel:
    """A model of this architecture with random weights, on the current default device.

    `implementations`: transformers' `attn_implementation` and `experts_implementation`.

    Raises UserError if transformers has no causal language model of this architecture, or not of these sizes.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, **implementations)
    except Exception as error:  # an architecture may raise anything for sizes that it was not made for
        raise _unusable_config(f"a model of the type {config.model_type}", error) from error


def load_model(
    base: ModelFolder,
    dtype: str,
    attn_implementation: str = "sdpa",
    *,
    method_kwargs: Mapping[str, object] | None = None,
    seed: int | None = None,
) -> PreTrainedModel:
    """The model with its weights, on the compute device.

    `method_kwargs` are those of the cell's method (`Method.load_kwargs`: a quantization, another `dtype`) and win over
    the other arguments. With a `seed`, the random state afterwards is the same however much loading draws from it.
    Raises UserError for a folder whose files do not make a causal language model, not a whole one, or one of NaN.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, set_seed

    options = {"dtype": dtype, "attn_implementation": attn_implementation, **(method_kwargs or {})}
    options["dtype"] = getattr(torch, str(options["dtype"]))
    if seed is not None:
        set_seed(seed)
    try:
        model, info = read_model(
            AutoModelForCausalLM,
            base.path,
            config=_read_config(base.id, base.path, base.trust_remote_code),
            use_safetensors=True,
            trust_remote_code=base.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise
        raise unreadable_weights(base.id, error) from error
    check_causal(base.id, model.config)
    check_loaded(base.id, info)
    check_loaded_finite(base.id, model)
    if not getattr(model, "hf_device_map", None):
        model = model.to(compute_device())  # type: ignore[arg-type]  # transformers wraps torch's method
    if seed is not None:
        set_seed(seed)
    return model


def load_tokenizer(base: ModelFolder) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token (the end-of-text token if it defines none).

    Raises UserError if the folder holds no tokenizer, or one without an end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path, trust_remote_code=base.trust_remote_code)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise UserError(
            f"{base.id} has no tokenizer that can be loaded: {first_line(error)}",
            "Save the tokenizer beside the model (tokenizer.json).",
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {base.id} has no end-of-text token: answers would not end",
            "Set eos_token in its tokenizer_config.json.",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_special_tokens(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Raises UserError if a token that every text may hold has no row in the embedding of the model `name`, which needs
    no weights: one that was added to the tokenizer alone. Other added tokens are only a problem where a text has them.
    """
    rows = len(cast("nn.Embedding", model.get_input_embeddings()).weight)
    for kind in ("bos_token", "eos_token", "pad_token"):
        token, id = getattr(tokenizer, kind), getattr(tokenizer, f"{kind}_id")
        if id is not None and id >= rows:
            raise UserError(
                f"the tokenizer of {name} has {kind} {token!r} with the id {id}, and the model has embeddings of "
                f"{rows} tokens",
                f"Set {kind} in its tokenizer_config.json to a token with a smaller id, or give the model with the "
                "embeddings that belong to this tokenizer.",
            )


def check_generation_config(name: str, folder: Path) -> None:
    """Raises UserError if the end-of-text tokens in the generation_config.json of the model `name` are no ids."""
    path = folder / "generation_config.json"
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
        ends = content.get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"the generation_config.json of {name} cannot be read: {first_line(error)}",
            "Restore the file that the model was saved with, or remove it.",
        ) from error
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and type(end) is not int:
            raise UserError(
                f"eos_token_id in the generation_config.json of {name} is {shortened(end)}, which is no id of a token",
                "Set it to the id of the token, a whole number, or to a list of ids.",
            )


def _unusable_config(what: str, error: Exception) -> UserError:
    """The error for a configuration of which transformers makes no causal language model."""
    cause = error.__cause__ if isinstance(error.__cause__, (ValueError, TypeError)) else error  # of a field of it
    return UserError(
        f"{what} is no causal language model that transformers knows: {type(cause).__name__}: {first_line(cause)}",
        "Give a model of a known architecture, with the config.json that it was saved with. A model's own code runs "
        "only with base_model.trust_remote_code: true; read it first.",
    )
