"""PEFT: a type that is not its own, modules of another class, the task of each row, the layers that methods extend.

Upstream: https://github.com/huggingface/peft/tree/v0.21.2/src/peft
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.poly.layer import PolyLayer
from peft.tuners.tuners_utils import check_adapters_to_merge
from peft.tuners.vera import Linear as VeraLinear
from peft.tuners.vera import VeraModel
from peft.tuners.vera.model import _get_tuner_layer_class
from peft.utils import PeftType, transformers_weight_conversion
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import transpose
from torch import nn

from bench.models.compat import replaced, require

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

__all__ = [
    "BufferDict",
    "DoraLinearLayer",
    "VeraLinear",
    "VeraModel",
    "add_peft_type",
    "check_adapters_to_merge",
    "dequantize_module_weight",
    "give_first_task",
    "is_adapted_by_vera",
    "names_as_given",
    "names_read_otherwise",
    "replace_classes",
    "transpose",
]

LINK = "https://github.com/huggingface/peft/blob/v0.21.2/src/peft/"


def _parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


# What `bench.methods.dora` overrides.
require(
    _parameters(DoraLinearLayer.forward)
    == ["self", "x", "lora_A", "lora_B", "scaling", "base_layer", "base_result", "adapter_name"],
    "peft",
    "the signature of DoraLinearLayer.forward",
    LINK + "tuners/lora/dora.py",
)
# What `bench.methods.dvora` overrides and calls.
require(
    VeraLinear.adapter_layer_names == ("vera_lambda_b", "vera_lambda_d")
    and _parameters(VeraLinear.update_layer)[:2] == ["self", "adapter_name"]
    and _parameters(VeraLinear._move_adapter_to_device_of_base_layer) == ["self", "adapter_name", "device"]
    and _parameters(VeraLinear._cast_input_dtype) == ["self", "x", "dtype"],
    "peft",
    "the layer of VeRA",
    LINK + "tuners/vera/layer.py",
)
require(
    _parameters(VeraModel._create_new_module)
    == ["vera_config", "vera_A", "vera_B", "adapter_name", "target", "kwargs"],
    "peft",
    "how VeRA makes a layer",
    LINK + "tuners/vera/model.py",
)


# Helpers of PEFT's own layers, in no page of its documentation.
require(
    _parameters(transpose) == ["weight", "fan_in_fan_out"]
    and _parameters(dequantize_module_weight) == ["module"]
    and _parameters(check_adapters_to_merge) == ["module", "adapter_names"],
    "peft",
    "the helpers that transpose, dequantize and name what is merged",
    LINK + "utils/other.py",
)


def is_adapted_by_vera(layer: nn.Module) -> bool:
    """Whether VeRA can adapt this layer: linear layers, quantized ones too, and Conv1D."""
    return _get_tuner_layer_class(layer) is not None


require(
    _parameters(transformers_weight_conversion.convert_peft_config_for_transformers)
    == ["peft_config", "model", "conversions"]
    and _parameters(transformers_weight_conversion.convert_peft_adapter_state_dict_for_transformers)
    == ["model", "peft_config", "adapter_state_dict", "adapter_name"],
    "peft",
    "how LoRA adapters of transformers 4 are read",
    LINK + "utils/transformers_weight_conversion.py",
)


def names_as_given() -> AbstractContextManager[None]:
    """While entered, LoRA takes names of modules and of saved weights as they are.

    For about 30 mixtures of experts PEFT reads `gate_proj`, `up_proj` and `down_proj` as they were meant in
    transformers 4: as the experts, which are 3-D parameters now. The linear layers of these names (of shared experts,
    of dense blocks) could not be adapted at all, and LoRA with dropout or DoRA would fail.
    """
    return replaced(
        transformers_weight_conversion,
        convert_peft_config_for_transformers=lambda *_, **__: None,
        convert_peft_adapter_state_dict_for_transformers=(
            lambda model, peft_config, adapter_state_dict, adapter_name="default": adapter_state_dict
        ),
    )


def names_read_otherwise(model: PeftModel) -> list[str]:
    """The target modules that a LoRA adapter of this model has and that PEFT would read as experts, sorted."""
    config = cast("LoraConfig", copy.deepcopy(model.peft_config["default"]))
    before: set[str] = set(config.target_modules or ())
    transformers_weight_conversion.convert_peft_config_for_transformers(config, model.get_base_model(), None)
    return sorted(before - set(config.target_modules or ()))


def add_peft_type(name: str) -> PeftType:
    """The member `name` of PEFT's enumeration of types, added if it is not there.

    `register_peft_method` accepts only types that this enumeration lists, and Python's enumerations are closed: the
    member is put where `enum` itself would have put it. It is found by value after pickling and in JSON.
    """
    if name not in PeftType.__members__:
        require(
            issubclass(PeftType, str) and isinstance(vars(PeftType).get("_value2member_map_"), dict),
            "peft",
            "the enumeration PeftType of strings",
            LINK + "utils/peft_types.py",
        )
        member = str.__new__(PeftType, name)
        member._name_ = member._value_ = name
        vars(member).update(__objclass__=PeftType, _sort_order_=len(PeftType))
        setattr(PeftType, name, member)  # first: afterwards the enumeration refuses to be assigned to
        PeftType._member_names_.append(name)
        PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
    return PeftType(name)


def replace_classes(model: nn.Module, replacements: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Give each module whose class is a key of `replacements` the class that is its value, in place.

    The new class must extend the old one and keep its attributes: no `__init__` of its own is run.
    """
    for old, new in replacements.items():
        if not issubclass(new, old) or "__init__" in vars(new):
            raise TypeError(f"{new.__name__} cannot replace {old.__name__} in a model that is built")
    for module in model.modules():
        if type(module) in replacements:
            module.__class__ = replacements[type(module)]


def give_first_task(model: PeftModel) -> None:
    """Call a PEFT model whose adapter mixes tasks with task 0 for every row, in place."""
    # Poly takes the tasks by layer: in generation rows come (beams) and go (those that have ended).
    layers = [module for module in model.modules() if isinstance(module, PolyLayer)]
    for layer in layers:
        layer.register_forward_pre_hook(_first_task, with_kwargs=True)
    if not layers:
        model.register_forward_pre_hook(_first_task, with_kwargs=True)
        generate = model.generate
        # The attribute of this instance hides the method, which passes the tasks on to the prompt's encoder.
        vars(model)["generate"] = lambda **inputs: generate(**_first_task(model, (), inputs)[1])


def _first_task(
    module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    rows = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
    assert isinstance(rows, torch.Tensor)
    return args, {**kwargs, "task_ids": torch.zeros(len(rows), dtype=torch.long, device=rows.device)}
