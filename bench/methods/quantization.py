"""A base loaded in 4 or 8 bits by bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.errors import UserError
from bench.models.device import compute_device
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    from torch import nn
    from transformers import BitsAndBytesConfig

Quantization = Literal["nf4", "fp4", "int8"]


def quantization_config(cell: Cell) -> BitsAndBytesConfig:
    """How transformers must load the base. Products are computed in the cell's dtype. The output head stays as it
    is, as in transformers' default."""
    import torch
    from transformers import BitsAndBytesConfig

    if cell.options["quantization"] == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=cell.options["quantization"],
        bnb_4bit_use_double_quant=cell.options["double_quantization"],
        bnb_4bit_compute_dtype=getattr(torch, cell.base.dtype),
    )


def keep_packing(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX-512, in place.

    What dequantizes a repacked weight (PEFT's and our DoRA, for its norm) reads noise: with bitsandbytes 0.50.2 a QDoRA
    that had learnt scored as if it had not. And evaluation would have another arithmetic than training.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_bitsandbytes(method: str, quantization: Quantization) -> None:
    """Quantize a small matrix on the device that will be used and look at what comes back.

    Raises UserError where bitsandbytes cannot do it here.
    """
    import torch

    device = compute_device()
    weight = torch.linspace(-1, 1, 4096).reshape(64, 64)
    try:
        from bitsandbytes import functional

        if quantization == "int8":
            quantized, scales, _ = functional.int8_vectorwise_quant(weight.to(device, torch.float16))
            back = functional.int8_vectorwise_dequant(quantized, scales)
        else:
            quantized, state = functional.quantize_4bit(weight.to(device), quant_type=quantization)
            back = functional.dequantize_4bit(quantized, state)
        error = float((back.float().cpu() - weight).abs().max())
    except Exception as reason:  # a missing native library shows as anything from ImportError to AttributeError
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
