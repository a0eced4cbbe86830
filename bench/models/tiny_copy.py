"""A copy of a base model that is small enough to try a method on: the same architecture, few layers, small widths.

What a method does to a model depends on the kinds of its layers, not on their number or width. A copy with each kind of
layer and random weights shows within a second whether a method can be attached, trained, saved, loaded and merged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

DIVISORS = (64, 32, 16, 8, 4, 2, 1)
"""By which all sizes are divided, tried in this order. One divisor for all keeps what they have to do with one another:
hidden size = heads x size of a head."""
LEAST_WIDTH, LEAST_HEAD = 64, 4
MOST_LAYERS = 12
"""A base whose kinds of layers are not all among its first so many keeps all of its layers."""
MOST_EXPERTS = 8
MOST_PARAMETERS = 30_000_000
WINDOW = 16
"""Tokens of a sliding window in a copy, so that short texts are longer than it."""

NO_SIZE = re.compile(
    r"vocab|token|position|layer|(?<!attention_)(?<!linear_)heads?(s|_per.*)?$|^num_|_num_|^n_|experts?$|group|window|chunk|top_?k"
    r"|period|offset|iter|bucket|length|kernel|conv|factor|seed|expand|max|block|stride|patch|image|audio|vision|bits|version"
    r"|(_|^)tp$|altup|steps?$|rel_extent|multiple"
)
"""Names of whole numbers that are no sizes of tensors: counts, lengths, ids."""
SIZE = re.compile(r"^hidden_size_per_layer_input$|^n_(embd|inner|head_dim)$|dim$|_size$|_rank$|d_head$")
"""Names of sizes that look like those."""
NEVER = re.compile(r"vocab|kernel|chunk|block|window|patch|image|audio|vision|batch|group_size")
EXPERTS = re.compile(r"(^|_)(num|n)_(local_|routed_)?experts$")

EXPERTS_OF_A_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts"),
    *("n_group", "topk_group", "num_expert_group"),
)
WINDOWS = ("sliding_window", "window_size", "local_attention", "attention_window_size")


def tiny_copy(
    skeleton: PreTrainedModel, vocabulary: int, all_layers: bool = False, trust_remote_code: bool = False
) -> PreTrainedModel | None:
    """A model of the same architecture with random weights in float32; None if no tiny one can be made.

    `skeleton` is the base on the meta device. `vocabulary` is the number of tokens of the copy; ids of special tokens
    beyond it become its last one. `all_layers` keeps the number of layers, for settings that pick some of them. Draws
    random numbers.
    """
    count = _layer_count(skeleton.config)
    needed = count if all_layers else _layers_of_every_kind(skeleton) or count
    for layers in dict.fromkeys((needed, count)):  # all of them where the first ones cannot be without later ones
        model = None if layers is None else _smallest(skeleton.config, layers, vocabulary, trust_remote_code)
        if model is not None:
            return model
    return None


def _smallest(
    config: PretrainedConfig, layers: int, vocabulary: int, trust_remote_code: bool
) -> PreTrainedModel | None:
    """The smallest model of so many layers that computes something; None if there is none, or it is large."""
    import torch

    for smaller in _smaller_configs(config, layers, vocabulary):
        try:
            with torch.device("meta"):
                parameters = sum(parameter.numel() for parameter in _build(smaller, trust_remote_code).parameters())
            if parameters > MOST_PARAMETERS:
                return None  # later ones are larger
            model = _build(smaller, trust_remote_code)
            _fill_zeros(model)
            model(input_ids=torch.arange(4)[None])
        except Exception:  # an architecture may raise anything for sizes that it was not made for
            continue
        return model
    return None


def _build(config: PretrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code).eval()


def _fill_zeros(model: nn.Module) -> None:
    """Give matrices that an architecture initialises with zeros (a router, say) the random values of a trained one."""
    from torch import nn

    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def _layer_count(config: PretrainedConfig) -> int | None:
    return _number(config.get_text_config(), "num_hidden_layers")


def _number(config: PretrainedConfig, name: str) -> int | None:
    try:
        value = getattr(config, name)
    except Exception:  # a configuration may refuse, in its own way, a number that differs between layers
        return None
    return value if isinstance(value, int) else None


def _layers_of_every_kind(skeleton: PreTrainedModel) -> int | None:
    """How many of the first layers have one of each kind (modules, parameters' names, kind of attention), at least two;
    None if these are too many or the layers cannot be told."""
    from torch import nn

    count = _layer_count(skeleton.config)
    stacks = [module for module in skeleton.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if count is None or not stacks:
        return None
    types = getattr(skeleton.config.get_text_config(), "layer_types", None) or [None] * count
    kinds = [(types[index], *(tuple(_kind(stack[index])) for stack in stacks)) for index in range(count)]
    first = {kind: index for index, kind in reversed(list(enumerate(kinds)))}
    needed = max(max(first.values()) + 1, min(2, count))
    return needed if needed <= MOST_LAYERS else None


def _kind(layer: nn.Module) -> Iterator[tuple[str, type[nn.Module], int]]:
    for path, module in layer.named_modules():
        yield path, type(module), len(list(module.parameters(recurse=False)))


def _smaller_configs(config: PretrainedConfig, layers: int, vocabulary: int) -> Iterator[PretrainedConfig]:
    """Configurations with ever larger sizes."""
    text = config.get_text_config()
    width, heads, head = (_number(text, name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    head = head or (width // heads if width and heads else None)
    for divisor in DIVISORS:
        too_narrow = (width or 0) // divisor < LEAST_WIDTH or (head is not None and head // divisor < LEAST_HEAD)
        if divisor > 1 and too_narrow:
            continue
        smaller = copy.deepcopy(config)
        for part in _parts(smaller):
            _shrink(part, divisor, vocabulary)
        _shorten(smaller.get_text_config(), layers)
        yield smaller


def _parts(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """A configuration and those within it (of the text, of a vision tower)."""
    from transformers import PretrainedConfig

    yield config
    for value in vars(config).values():
        if isinstance(value, PretrainedConfig):
            yield from _parts(value)


def _shrink(config: PretrainedConfig, divisor: int, vocabulary: int) -> None:
    """Divide all sizes, and reduce what else makes a model large; in place."""
    for name, value in list(vars(config).items()):
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(number) is int for number in numbers):
            continue
        if name.endswith("token_id"):
            smaller = [min(number, vocabulary - 1) for number in numbers]
        elif "vocab" in name:
            smaller = [min(number, vocabulary) for number in numbers]
        elif EXPERTS.search(name):
            smaller = [min(number, MOST_EXPERTS) for number in numbers]
        elif name in EXPERTS_OF_A_TOKEN:
            smaller = [min(number, 2) for number in numbers]
        elif name in WINDOWS:
            smaller = [min(number, WINDOW) for number in numbers]
        elif _is_size(name):
            smaller = [max(1, number // divisor) if number else 0 for number in numbers]
        else:
            continue
        setattr(config, name, smaller if isinstance(value, list) else smaller[0])


def _is_size(name: str) -> bool:
    if NEVER.search(name):
        return False
    return bool(SIZE.search(name)) or not NO_SIZE.search(name)


def _shorten(config: PretrainedConfig, layers: int) -> None:
    """Reduce the number of layers, and every list with an entry for each; in place."""
    before = config.num_hidden_layers
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == before:
            setattr(config, name, value[:layers])
        elif type(value) is int and "layer" in name and "per_layer" not in name and layers < value <= before:
            setattr(config, name, layers)
    config.num_hidden_layers = layers
