"""LoRA and its variants, through PEFT: one class; rsLoRA, PiSSA, LoRA+, DoRA, QLoRA and QDoRA are settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bench.errors import CellProblem, UserError
from bench.methods.method import ExportSource, LoadingKeywords, MethodFacts, MethodOptions
from bench.methods.peft_base import PeftMethod, no_warnings, write_base_name
from bench.methods.quantization import Quantization, check_bitsandbytes, quantization_config, quantized_facts
from bench.methods.target_modules import (
    is_named,
    resolve_target_modules,
    resolve_target_parameters,
    targeted_weights,
)
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Rank

READ_OTHERWISE = "not_for_peft.txt"
"""Beside the adapter, if PEFT alone would put it on other weights: the reason."""

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftConfig, PeftModel
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

INITIAL = "initial_factors.safetensors"
"""Beside the adapter, if the initialisation subtracted these factors from the base's weights."""


class LoraOptions(MethodOptions):
    """The settings of the LoRA family. A null setting is off."""

    lr: LearningRate = 3e-4
    """Peak learning rate."""
    rank: Rank = 16
    """Columns of A and B."""
    alpha: float | None = Field(None, ge=1e-6, le=1e6, validate_default=True)
    """The update is scaled by alpha / rank. Default: 2 * rank, as in the DoRA paper (Table 8)."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: str | list[str] = "auto"
    """`auto`: every linear layer of the text model but the head; `llm_adapters`: q, k, v, up, down; or names of
    modules."""
    target_parameters: Literal["experts"] | list[str] | None = None
    """Weights that are no linear layer's, to be adapted, too: `experts` is those of a mixture of experts (its 3-D
    parameters), else names (`experts.down_proj`). Needs dropout 0, and not DoRA."""
    norm: Literal["algebraic", "peft"] | None = None
    """Makes it DoRA, with a trained magnitude. How the norm of W + s B A is computed: from small products, or by PEFT's
    own forward, which builds B A."""
    rslora: bool | None = None
    """Scale by alpha / sqrt(rank) (arXiv 2312.03732)."""
    init: str | None = Field(None, pattern=r"^(gaussian|orthogonal|olora|pissa(_niter_[1-9][0-9]{0,2})?)$")
    """How A and B start; null is PEFT's default (A Kaiming-uniform, B zero). `pissa` and `olora` move the principal
    part of the weight from the base into the adapter; `pissa_niter_N` finds it by a randomized decomposition."""
    lr_ratio: float | None = Field(None, ge=1, le=1e6)
    """LoRA+: the learning rate of B is this times that of A (arXiv 2402.12354)."""
    quantization: Quantization | None = None
    """Load the base in 4 bits (`nf4`, `fp4`) or 8 (`int8`), through bitsandbytes."""
    double_quantization: bool | None = None
    """Quantize the 4-bit scales, too. Default: yes, as in the QLoRA paper."""

    @model_validator(mode="before")
    @classmethod
    def _derived_defaults(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("rslora") is False:
            data["rslora"] = None
        if data.get("quantization") in ("nf4", "fp4") and data.get("double_quantization") is None:
            data["double_quantization"] = True
        return data

    @field_validator("alpha")
    @classmethod
    def _alpha_follows_rank(cls, alpha: float | None, info: ValidationInfo) -> float | None:
        return 2.0 * info.data["rank"] if alpha is None and "rank" in info.data else alpha

    @model_validator(mode="after")
    def _check_combinations(self) -> LoraOptions:
        if self.double_quantization is not None and self.quantization not in ("nf4", "fp4"):
            raise ValueError("double_quantization belongs to quantization: nf4 or fp4")
        if self.quantization and self.mutates_base:
            raise ValueError(f"init: {self.init} changes the base's weights, which a quantized base cannot bear")
        if self.target_parameters is not None:
            if self.dropout:
                raise ValueError(f"target_parameters needs dropout: 0 (it is {self.dropout}): PEFT adapts the weight")
            if self.norm or self.mutates_base:
                raise ValueError(f"target_parameters does not go with {'DoRA' if self.norm else f'init: {self.init}'}")
        if self.quantization == "int8" and self.norm:
            # With PEFT's own forward, too: the layer loses its scales in the first backward pass.
            raise ValueError("DoRA on an int8 base fails in PEFT 0.21.2 with bitsandbytes 0.50.2; take nf4 or fp4")
        return self

    @property
    def mutates_base(self) -> bool:
        return self.init is not None and self.init.startswith(("pissa", "olora"))


class Lora(PeftMethod):
    """W + (alpha / rank) B A, A and B trained, B zero at the start."""

    name = "lora"
    Options: ClassVar[type[LoraOptions]] = LoraOptions
    facts = MethodFacts(
        summary="low-rank update of each weight",
        rank="columns of A and B",
        shared_prefix="any",
        lr_center=3e-4,
        source="arXiv 2106.09685; rate of LLM-Adapters, arXiv 2304.01933",
    )

    def facts_for(self, options: Settings) -> MethodFacts:
        if not options.get("quantization"):
            return self.facts
        return replace(quantized_facts(self.facts), needs={"bitsandbytes": "quant"})

    def check_machine(self, options: Settings) -> None:
        super().check_machine(options)
        if quantization := self.Options.model_validate(options).quantization:
            check_bitsandbytes(self.name, quantization)

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        options = self.Options.model_validate(super().resolve(settings, model))
        targets = resolve_target_modules(options.target_modules, model, self.name)
        sides = [min(weight.shape) for weight in targeted_weights(model, targets).values()]
        # A LoRA wider than its smallest matrix is wasteful; PiSSA's principal part does not exist there.
        bound = min if options.mutates_base else max
        most = bound(sides, default=options.rank)
        if options.rank > most:
            raise UserError(
                f"method {self.name}: rank {options.rank} is more than the targeted matrices of the base have ({most})",
                f"Give a rank from 1 to {most}.",
            )
        update = {"target_modules": targets}
        if options.target_parameters is not None:
            update["target_parameters"] = resolve_target_parameters(options.target_parameters, model, self.name)
        return options.model_copy(update=update).model_dump(mode="json")

    def load_kwargs(self, cell: Cell) -> LoadingKeywords:
        options = self.Options.model_validate(cell.options)
        if not options.quantization:
            return {}
        double = bool(options.double_quantization)
        return {"quantization_config": quantization_config(options.quantization, double, cell.base.dtype)}

    def config(self, cell: Cell) -> LoraConfig:
        from peft import LoraConfig

        options = self.Options.model_validate(cell.options)
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=options.rank,
            lora_alpha=cast("int", options.alpha),  # PEFT's annotation; it divides
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
            target_parameters=cast("list[str] | None", options.target_parameters),
            use_dora=options.norm is not None,
            use_rslora=bool(options.rslora),
            init_lora_weights=cast("bool", options.init or True),  # PEFT's annotation does not list `pissa_niter_N`
        )

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        from bench.methods.dora import set_exact_magnitudes, zero_rows

        options = self.Options.model_validate(cell.options)
        targets = [options.target_modules] if isinstance(options.target_modules, str) else options.target_modules
        config = self.config(cell)
        if options.norm and (empty := zero_rows(model, targets)):
            raise CellProblem(
                f"DoRA divides by the norm of each row, and the base has rows of zeros in {', '.join(empty[:3])}",
                "Leave these modules out of target_modules.",
            )
        if model.device.type == "meta":
            config.init_lora_weights = True  # parameters are only counted: there is nothing to decompose
        elif options.mutates_base:
            return self._attach_decomposed(model, config, targets, cell)
        adapted = self._adapted(model, config, cell)
        if options.norm == "algebraic":
            set_exact_magnitudes(adapted)
        return adapted

    def _attach_decomposed(
        self, model: PreTrainedModel, config: LoraConfig, targets: list[str], cell: Cell
    ) -> PeftModel:
        """The model with a part of its weights moved into the adapter. The first factors are kept, to be saved."""
        import torch

        from bench.methods.dora import set_exact_magnitudes
        from bench.models.hooks import causal_lm

        options = self.Options.model_validate(cell.options)
        weights = {path: weight.clone() for path, weight in targeted_weights(model, targets).items()}
        for path, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding) and is_named(path, targets):
                raise UserError(
                    f"init: {options.init} takes weights out of linear layers, and {path} is an embedding",
                    f"Take {path.rpartition('.')[2]} out of target_modules, or choose another init.",
                )
        adapted = self._adapted(model, config, cell)
        if options.norm == "algebraic":
            set_exact_magnitudes(adapted)
        factors = {name: value.detach().clone() for name, value in adapted.named_parameters() if ".lora_" in name}
        # PEFT subtracts the factors before it rounds them to the base's dtype: here the rounded ones are subtracted.
        with torch.no_grad():
            for path, weight in weights.items():
                causal_lm(adapted).get_parameter(f"{path}.base_layer.weight").copy_(weight)
        _subtract(adapted, factors)
        vars(adapted)["initial_factors"] = factors
        return adapted

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer | None:
        options = self.Options.model_validate(cell.options)
        if options.lr_ratio is None:
            return None
        from peft.optimizers import create_loraplus_optimizer
        from torch.optim import AdamW

        optimizer: Optimizer = create_loraplus_optimizer(
            cast("PeftModel", model),
            AdamW,
            lr=options.lr,
            loraplus_lr_ratio=options.lr_ratio,
            loraplus_weight_decay=cell.training_config.weight_decay,
            fused=True,
        )
        return optimizer

    def cannot_export(self, options: Settings, folder: Path) -> str:
        if (folder / READ_OTHERWISE).is_file():
            return (folder / READ_OTHERWISE).read_text(encoding="utf-8")
        validated = self.Options.model_validate(options)
        if validated.mutates_base and validated.norm:
            return "PEFT converts no DoRA that started from the principal part of the weights"
        return ""

    def export_source(self, options: Settings) -> ExportSource:
        return "model" if self.Options.model_validate(options).mutates_base else "files"

    def export(self, adapter: Path, to: Path, cell: Cell, model: nn.Module | None) -> None:
        """An adapter that changed the base by PEFT's own conversion: B A - B0 A0 as one LoRA of twice the rank."""
        if model is None:
            super().export(adapter, to, cell, model)
            return
        from tempfile import TemporaryDirectory

        from safetensors.torch import save_file

        adapted, initial = cast("PeftModel", model), {}
        for name, value in vars(adapted)["initial_factors"].items():
            initial[name.replace(".default.", ".")] = value.detach().cpu().contiguous()
        with TemporaryDirectory() as temporary, no_warnings():
            # PEFT takes the last part of the path as the name of an adapter, and warns of a base that pissa changed.
            first = Path(temporary) / "initial"
            first.mkdir()
            save_file(initial, first / "adapter_model.safetensors")
            adapted.save_pretrained(
                str(to), save_embedding_layers=False, path_initial_model_for_weight_conversion=str(first)
            )
        (to / "README.md").unlink(missing_ok=True)
        write_base_name(to, cell.base.id)

    def save(self, model: nn.Module, folder: Path) -> None:
        from bench.models.compat.peft import names_read_otherwise

        super().save(model, folder)
        if names := names_read_otherwise(cast("PeftModel", model)):
            reason = f"PEFT reads {', '.join(names)} as the experts of this base, and the adapter is on linear layers"
            (folder / READ_OTHERWISE).write_text(reason, encoding="utf-8")
        factors: dict[str, torch.Tensor] | None = getattr(model, "initial_factors", None)
        if factors:
            from safetensors.torch import save_file

            save_file({name: value.contiguous() for name, value in factors.items()}, folder / INITIAL)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> PeftModel:
        from bench.models.compat.peft import names_as_given

        with names_as_given():
            adapted = super().load(model, folder, cell)
        if (folder / INITIAL).is_file():
            from safetensors.torch import load_file

            factors = load_file(folder / INITIAL)
            vars(adapted)["initial_factors"] = factors
            _subtract(adapted, factors)
        return adapted

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        from bench.methods.dora import use_algebraic_norm
        from bench.models.compat.peft import names_as_given

        options = self.Options.model_validate(cell.options)
        if options.quantization:
            from bench.models.compat.bitsandbytes import keep_packing

            keep_packing(model)
        with names_as_given():
            adapted = super()._adapted(model, config, cell)
        if options.norm == "algebraic":
            use_algebraic_norm(adapted)
        return adapted

    def loading_config(self, config: PeftConfig) -> PeftConfig:
        # A decomposition is not repeated: another machine, or a randomized one, would find other factors.
        cast("LoraConfig", config).init_lora_weights = True
        return config


def _subtract(adapted: PeftModel, factors: Mapping[str, torch.Tensor]) -> None:
    """Subtract s B0 A0 from each adapted weight, in place: in float32, rounded once to the base's dtype. Factors by
    their names in the model: A (rank, in), B (out, rank)."""
    import torch
    from peft.tuners.lora.layer import LoraLayer

    from bench.methods.dora import weight_of
    from bench.models.compat.peft import transpose

    with torch.no_grad():
        for path, module in adapted.named_modules():
            if isinstance(module, LoraLayer):
                (adapter,) = module.lora_A.keys()
                weight = weight_of(module.get_base_layer())
                a, b = (factors[f"{path}.lora_{side}.{adapter}.weight"].to(weight.device) for side in "AB")
                transposed = bool(getattr(module, "fan_in_fan_out", False))
                rest = transpose(weight.float(), transposed) - module.scaling[adapter] * b @ a
                weight.copy_(transpose(rest, transposed).to(weight.dtype))


LORA_METHODS = (
    Lora(),
    Lora.named(
        "rslora",
        {"rslora": True},
        replace(Lora.facts, summary="LoRA scaled by alpha / sqrt(rank)", source="arXiv 2312.03732; settings of lora"),
    ),
    Lora.named(
        "pissa",
        {"init": "pissa_niter_4"},
        replace(
            Lora.facts,
            summary="LoRA that starts as the principal part of each weight",
            source="arXiv 2404.02948; settings of lora",
        ),
    ),
    Lora.named(
        "lora_plus",
        {"lr_ratio": 16.0, "lr": 1e-4},
        replace(
            Lora.facts,
            summary="LoRA with a higher learning rate for B",
            source="arXiv 2402.12354 (ratio 2^4); lr is A's",
        ),
    ),
    Lora.named(
        "dora",
        {"norm": "algebraic", "lr": 2e-4},
        replace(
            Lora.facts,
            summary="low-rank update of direction, trained magnitude",
            source="arXiv 2402.09353, Table 8",
        ),
    ),
    Lora.named(
        "qlora",
        {"quantization": "nf4", "lr": 2e-4},
        replace(
            quantized_facts(Lora.facts), summary="LoRA on a 4-bit base", source="arXiv 2305.14314, Table 9 (7B, 13B)"
        ),
    ),
    Lora.named(
        "qdora",
        {"norm": "algebraic", "quantization": "nf4", "lr": 2e-4},
        replace(
            quantized_facts(Lora.facts), summary="DoRA on a 4-bit base", source="arXiv 2402.09353 with arXiv 2305.14314"
        ),
    ),
)
