"""A base model loaded in 4 or 8 bits by bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from bench.errors import UserError
from bench.methods.method import MethodFacts

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

Quantization = Literal["nf4", "fp4", "int8"]


def quantized_facts(facts: MethodFacts) -> MethodFacts:
    """A method's facts on a quantized base."""
    reason = "the base is quantized: rounding the sum to few bits again would change it"
    return replace(facts, quantizes=True, cannot_merge=reason)


def quantization_config(quantization: Quantization, double: bool, dtype: str) -> BitsAndBytesConfig:
    """How transformers must load the base. `double`: 4-bit scales are quantized, too. Products are computed in `dtype`.
    The output head is not quantized, as in transformers' default."""
    import torch
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def check_bitsandbytes(method: str, quantization: Quantization) -> None:
    """Quantize a small matrix on the device that will be used, and compare the dequantized values.

    Raises UserError if bitsandbytes cannot do it here.
    """
    import torch

    from bench.models.device import compute_device

    device = compute_device()
    weight = torch.linspace(-1, 1, 4096).reshape(64, 64)
    try:
        from bitsandbytes import functional

        if quantization == "int8":
            quantized, scales, _ = functional.int8_vectorwise_quant(weight.to(device, torch.float16))
            restored = functional.int8_vectorwise_dequant(quantized, scales)
        else:
            quantized, state = functional.quantize_4bit(weight.to(device), quant_type=quantization)
            restored = functional.dequantize_4bit(quantized, state)
        error = float((restored.float().cpu() - weight).abs().max())
    except Exception as reason:  # a missing native library raises anything from ImportError to AttributeError
        first = (str(reason).strip().splitlines() or [""])[0]
        raise UserError(
            f"method {method}: bitsandbytes cannot quantize to {quantization} on this machine's {device.type}: "
            f"{type(reason).__name__}: {first}",
            "Run it on a machine with a supported device, or leave the quantization out (lora, dora).",
        ) from None
    if error > 0.2:
        raise UserError(
            f"method {method}: bitsandbytes gives wrong numbers here ({quantization}: off by {error:.2g} of 1)",
            "Install another version of bitsandbytes, or leave the quantization out (lora, dora).",
        )
