"""DVoRA on tiny models, and its plain formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from bench.methods.dvora import DvoraConfig, DvoraLinear

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


IDS = torch.arange(20).reshape(2, 10) + 5


IN, OUT = 12, 10


def base_of(folder: Path, **kwargs: Any) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, **kwargs)


def adapted(model: nn.Module, r: int = 8, **settings: Any) -> PeftModel:
    targets = settings.pop("target_modules", ALL)
    return get_peft_model(model, DvoraConfig(r=r, target_modules=targets, **settings)).eval()


def layers(model: nn.Module) -> list[DvoraLinear]:
    return [module for module in model.modules() if isinstance(module, DvoraLinear)]


def stir(model: nn.Module, seed: int = 0) -> None:
    """Give b, d and m values as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers(model):
            for adapter in layer.vera_lambda_m:
                b, d, m = (getattr(layer, f"vera_lambda_{name}")[adapter] for name in "bdm")
                b.copy_(torch.randn(b.shape, generator=generator))
                d.copy_(torch.rand(d.shape, generator=generator) + 0.5)
                m.mul_(torch.rand(m.shape, generator=generator) + 0.5)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def one_layer(kind: str, r: int, dropout: float = 0.0) -> tuple[PeftModel, DvoraLinear]:
    """A lone layer (in 12, out 10) with other values than at the start."""
    torch.manual_seed(0)
    base = {
        "linear": lambda: nn.Linear(IN, OUT, bias=False),
        "bias": lambda: nn.Linear(IN, OUT),
        "conv1d": lambda: Conv1D(OUT, IN),
    }[kind]()
    if kind == "conv1d":
        nn.init.normal_(base.bias)
    model = adapted(nn.Sequential(base), r, target_modules=["0"], vera_dropout=dropout)
    stir(model)
    return model, layers(model)[0]


def naive(layer: DvoraLinear) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(m / |W + D| (out,), W + D (out, in), bias) as the formula has it, D and its norm built."""
    base = layer.get_base_layer()
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight
    b, d, m = (getattr(layer, f"vera_lambda_{name}")["default"] for name in "bdm")
    a, projection = layer.vera_A["default"][:, : weight.shape[1]], layer.vera_B["default"][: weight.shape[0]]
    directed = weight + b.diag() @ projection @ d.diag() @ a
    return m / directed.detach().norm(dim=1), directed, base.bias
