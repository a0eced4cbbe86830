"""LoRA and its kin, through PEFT: one class; rsLoRA, PiSSA, LoRA+, DoRA, QLoRA and QDoRA are settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from bench.errors import CellProblem, UserError
from bench.methods.method import MethodFacts, MethodOptions
from bench.methods.peft_base import PeftMethod
from bench.methods.quantization import Quantization, check_bitsandbytes, keep_packing, quantization_config
from bench.methods.target_modules import resolve_targets, targeted
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

INITIAL = "initial_factors.safetensors"
"""Beside the adapter, where the initialisation took its share out of the base's weights."""

QUANTIZED = {
    "quantizes": True,
    "cannot_merge": "the base is quantized: rounding the sum to few bits again would change it",
}
"""The facts that a quantized base changes."""


class LoraOptions(MethodOptions):
    """The settings of the LoRA family. Those that are null are off."""

    lr: float = Field(3e-4, gt=0)
    rank: int = Field(16, ge=1)
    """Columns of A and B."""
    alpha: float | None = Field(None, gt=0)
    """The update is scaled by alpha / rank. Default: 2 * rank, as the DoRA paper has it (Table 8)."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: str | list[str] = "auto"
    """`auto`: every linear layer but the head; `llm_adapters`: q, k, v, up, down; or names of modules."""
    norm: Literal["algebraic", "peft"] | None = None
    """Makes it DoRA: a trained magnitude, and how the norm of W + s B A is found: from small products, or by PEFT's
    own forward, which builds B A."""
    rslora: bool | None = None
    """Scale by alpha / sqrt(rank) (arXiv 2312.03732)."""
    init: str | None = Field(None, pattern=r"^(gaussian|orthogonal|olora|pissa(_niter_[1-9][0-9]*)?)$")
    """How A and B start; null is PEFT's own (A Kaiming-uniform, B zero). `pissa` and `olora` take the principal part
    of the weight out of the base and into the adapter; `pissa_niter_N` finds it by a randomized decomposition."""
    lr_ratio: float | None = Field(None, ge=1)
    """LoRA+: the learning rate of B is this times that of A (arXiv 2402.12354)."""
    quantization: Quantization | None = None
    """Load the base in 4 bits (`nf4`, `fp4`) or 8 (`int8`), through bitsandbytes."""
    double_quantization: bool | None = None
    """Quantize the 4-bit scales, too. Default: yes, as the QLoRA paper has it."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_follow(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("rslora") is False:
            data["rslora"] = None
        if data.get("alpha") is None and isinstance(data.get("rank", 16), int):
            data["alpha"] = 2.0 * data.get("rank", 16)
        if data.get("quantization") in ("nf4", "fp4") and data.get("double_quantization") is None:
            data["double_quantization"] = True
        return data

    @model_validator(mode="after")
    def _go_together(self) -> LoraOptions:
        if self.double_quantization is not None and self.quantization not in ("nf4", "fp4"):
            raise ValueError("double_quantization belongs to quantization: nf4 or fp4")
        if self.quantization and self.mutates_base:
            raise ValueError(f"init: {self.init} changes the base's weights, which a quantized base cannot bear")
        if self.quantization == "int8" and self.norm:
            # Seen with PEFT's own forward: the layer loses its scales in the first backward pass.
            raise ValueError("DoRA on an int8 base fails in PEFT 0.21.2 with bitsandbytes 0.50.2; take nf4 or fp4")
        return self

    @property
    def mutates_base(self) -> bool:
        return self.init is not None and self.init.startswith(("pissa", "olora"))


class Lora(PeftMethod):
    """W + (alpha / rank) B A, A and B trained, B zero at the start."""

    name = "lora"
    Options = LoraOptions
    facts = MethodFacts(
        summary="low-rank update of each weight",
        rank="columns of A and B",
        shared_prefix="any",
        lr_grid=(1e-4, 3e-4, 1e-3),
        source="arXiv 2106.09685; rate of LLM-Adapters, arXiv 2304.01933",
    )

    def facts_for(self, options: Mapping[str, Any]) -> MethodFacts:
        if not options.get("quantization"):
            return self.facts
        return replace(self.facts, **QUANTIZED, needs={"bitsandbytes": "quant"})

    def check_machine(self, options: Mapping[str, Any]) -> None:
        super().check_machine(options)
        if options.get("quantization"):
            check_bitsandbytes(self.name, options["quantization"])

    def resolve(self, settings: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
        options = super().resolve(settings, model)
        options["target_modules"] = resolve_targets(options["target_modules"], model, self.name)
        sides = [min(weight.shape) for weight in targeted(model, options["target_modules"]).values()]
        # A LoRA wider than its smallest matrix is wasteful; PiSSA's principal part does not exist there.
        bound = min if LoraOptions.model_validate(options).mutates_base else max
        most = bound(sides, default=options["rank"])
        if options["rank"] > most:
            raise UserError(
                f"method {self.name}: rank {options['rank']} is more than the targeted matrices of the base have "
                f"({most})",
                f"Give a rank from 1 to {most}.",
            )
        return options

    def load_kwargs(self, cell: Cell) -> dict[str, Any]:
        if not cell.options["quantization"]:
            return {}
        return {"quantization_config": quantization_config(cell)}

    def config(self, cell: Cell) -> PeftConfig:
        from peft import LoraConfig

        options = cell.options
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=options["rank"],
            lora_alpha=options["alpha"],
            lora_dropout=options["dropout"],
            target_modules=options["target_modules"],
            use_dora=options["norm"] is not None,
            use_rslora=bool(options["rslora"]),
            init_lora_weights=options["init"] or True,
        )

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        import torch

        from bench.methods.dora import set_exact_magnitudes, zero_rows
        from bench.models.hooks import causal_lm

        options = LoraOptions.model_validate(cell.options)
        config = self.config(cell)
        if options.norm:
            empty = zero_rows(model, options.target_modules)
            if empty:
                raise CellProblem(
                    f"DoRA divides by the norm of each row, and the base has rows of zeros in {', '.join(empty[:3])}",
                    "Leave these modules out of target_modules.",
                )
        if model.device.type == "meta":
            config.init_lora_weights = True  # parameters are only counted: there is nothing to decompose
        mutates = options.mutates_base and model.device.type != "meta"
        whole = {name: one.clone() for name, one in targeted(model, options.target_modules).items()} if mutates else {}
        adapted = self._adapted(model, config, cell)
        if options.norm == "algebraic":
            set_exact_magnitudes(adapted)
        if mutates:
            factors = {name: one.detach().clone() for name, one in adapted.named_parameters() if ".lora_" in name}
            # PEFT takes the factors out before it rounds them to the base's dtype: what they are now is taken out here.
            with torch.no_grad():
                for name, weight in whole.items():
                    causal_lm(adapted).get_submodule(name).get_base_layer().weight.copy_(weight)
            _take_out(adapted, factors)
            adapted.initial_factors = factors
        return adapted

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer | None:
        if cell.options["lr_ratio"] is None:
            return None
        from peft.optimizers import create_loraplus_optimizer
        from torch.optim import AdamW

        return create_loraplus_optimizer(
            model,
            AdamW,
            lr=cell.options["lr"],
            loraplus_lr_ratio=cell.options["lr_ratio"],
            loraplus_weight_decay=cell.training.get("weight_decay", 0.0),
            fused=True,
        )

    def cannot_load_in_peft(self, options: Mapping[str, Any]) -> str:
        if LoraOptions.model_validate(options).mutates_base:
            return "its factors belong to a base from which their first values were taken"
        return ""

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        if getattr(model, "initial_factors", None):
            from safetensors.torch import save_file

            factors = {name: value.contiguous() for name, value in model.initial_factors.items()}
            save_file(factors, folder / INITIAL)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        adapted = super().load(model, folder, cell)
        if (folder / INITIAL).is_file():
            from safetensors.torch import load_file

            adapted.initial_factors = load_file(folder / INITIAL)
            _take_out(adapted, adapted.initial_factors)
        return adapted

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        from bench.methods.dora import use_algebraic_norm

        if cell.options["quantization"]:
            keep_packing(model)
        adapted = super()._adapted(model, config, cell)
        if cell.options["norm"] == "algebraic":
            use_algebraic_norm(adapted)
        return adapted

    def loading_config(self, config: PeftConfig) -> PeftConfig:
        # A decomposition is not done again: another machine, or a randomized one, would find other factors.
        config.init_lora_weights = True
        return config


def _take_out(adapted: PeftModel, factors: Mapping[str, torch.Tensor]) -> None:
    """Subtract s B0 A0 from each adapted weight, in place: in float32, rounded once to the base's dtype. Factors by
    their names in the model: A (rank, in), B (out, rank)."""
    import torch
    from peft.tuners.lora.layer import LoraLayer
    from peft.utils.other import transpose

    with torch.no_grad():
        for name, module in adapted.named_modules():
            if isinstance(module, LoraLayer):
                (adapter,) = module.lora_A.keys()
                weight = module.get_base_layer().weight
                a, b = (factors[f"{name}.lora_{side}.{adapter}.weight"].to(weight.device) for side in "AB")
                flipped = getattr(module, "fan_in_fan_out", False)
                rest = transpose(weight.float(), flipped) - module.scaling[adapter] * b @ a
                weight.copy_(transpose(rest, flipped).to(weight.dtype))


LORA_METHODS = (
    Lora(),
    Lora.named(
        "rslora",
        {"rslora": True},
        summary="LoRA scaled by alpha / sqrt(rank)",
        source="arXiv 2312.03732; settings of lora",
    ),
    Lora.named(
        "pissa",
        {"init": "pissa_niter_4"},
        summary="LoRA that starts as the principal part of each weight",
        source="arXiv 2404.02948; settings of lora",
    ),
    Lora.named(
        "lora_plus",
        {"lr_ratio": 16.0, "lr": 1e-4},
        summary="LoRA with a higher learning rate for B",
        source="arXiv 2402.12354 (ratio 2^4); lr is A's",
    ),
    Lora.named(
        "dora",
        {"norm": "algebraic", "lr": 2e-4},
        summary="low-rank update of direction, trained magnitude",
        lr_grid=(1e-4, 2e-4, 3e-4, 1e-3),
        source="arXiv 2402.09353, Table 8",
    ),
    Lora.named(
        "qlora",
        {"quantization": "nf4", "lr": 2e-4},
        summary="LoRA on a 4-bit base",
        **QUANTIZED,
        source="arXiv 2305.14314, Table 9 (7B, 13B)",
    ),
    Lora.named(
        "qdora",
        {"norm": "algebraic", "quantization": "nf4", "lr": 2e-4},
        summary="DoRA on a 4-bit base",
        **QUANTIZED,
        source="arXiv 2402.09353 with arXiv 2305.14314",
    ),
)
