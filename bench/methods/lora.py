"""LoRA (arXiv 2106.09685) and DoRA (arXiv 2402.09353), through PEFT: one class, one option apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bench.errors import CellProblem
from bench.methods.method import Facts, Method
from bench.methods.method import Options as MethodOptions
from bench.methods.targets import resolve_targets
from bench.sweep import Cell

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class LoraOptions(MethodOptions):
    """The settings of the LoRA family."""

    rank: int = Field(16, ge=1)
    """Columns of A and B."""
    alpha: float | None = Field(None, gt=0)
    """The update is scaled by alpha / rank. Default: 2 * rank, as the DoRA paper has it (Table 8)."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: str | list[str] = "auto"
    """`auto`: every linear layer but the head; `llm_adapters`: q, k, v, up, down; or names of modules."""

    @model_validator(mode="before")
    @classmethod
    def _alpha_follows_rank(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("alpha") is None and isinstance(data.get("rank", 16), int):
            return {**data, "alpha": 2.0 * data.get("rank", 16)}
        return data


class Lora(Method):
    """W + (alpha / rank) B A, A and B trained, B zero at the start."""

    name = "lora"
    use_dora: ClassVar[bool] = False
    facts = Facts(
        summary="low-rank update of each weight",
        rank="columns of A and B",
        mergeable=True,
        shared_prefix=True,
        quantizes=False,
        weight_decay=True,
        lr_grid=(1e-4, 3e-4, 1e-3),
        source="arXiv 2106.09685; rate of LLM-Adapters, arXiv 2304.01933",
    )

    class Options(LoraOptions):
        lr: float = 3e-4

    def resolve(self, settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
        options = super().resolve(settings, model)
        options["target_modules"] = resolve_targets(options["target_modules"], model, self.name)
        return options

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        options = cell.options
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=options["rank"],
            lora_alpha=options["alpha"],
            lora_dropout=options["dropout"],
            target_modules=options["target_modules"],
            use_dora=self.use_dora,
        )
        return self._prepared(get_peft_model(model, config), cell)

    def save(self, model: nn.Module, folder: Path) -> None:
        # Without the flag PEFT asks the hub whether the vocabulary was resized.
        model.save_pretrained(folder, save_embedding_layers=False)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        from peft import PeftModel

        return self._prepared(PeftModel.from_pretrained(model, folder), cell)

    def merge(self, model: nn.Module) -> nn.Module:
        return model.float().merge_and_unload()

    def _prepared(self, model: nn.Module, cell: Cell) -> nn.Module:
        """A last word on the PEFT model, whether fresh or loaded."""
        return model


class Dora(Lora):
    """LoRA on the direction of each weight's rows, with their magnitude trained apart."""

    name = "dora"
    use_dora = True
    facts = Facts(
        summary="low-rank update of direction, trained magnitude",
        rank="columns of A and B",
        mergeable=True,
        shared_prefix=True,
        quantizes=False,
        weight_decay=True,
        lr_grid=(1e-4, 2e-4, 3e-4, 1e-3),
        source="arXiv 2402.09353, Table 8",
    )

    class Options(LoraOptions):
        lr: float = 2e-4
        norm: Literal["algebraic", "peft"] = "algebraic"
        """How the norm of W + s B A is found: from small products, or by PEFT's own forward, which builds B A."""

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        from bench.methods.dora_norm import set_exact_magnitudes, zero_rows

        empty = zero_rows(model, cell.options["target_modules"])
        if empty:
            raise CellProblem(
                f"DoRA divides by the norm of each row, and the base has rows of zeros in {', '.join(empty[:3])}",
                "Leave these modules out of target_modules.",
            )
        adapted = super().attach(model, cell)
        if cell.options["norm"] == "algebraic":
            set_exact_magnitudes(adapted)
        return adapted

    def _prepared(self, model: nn.Module, cell: Cell) -> nn.Module:
        from bench.methods.dora_norm import use_algebraic_norm

        if cell.options["norm"] == "algebraic":
            use_algebraic_norm(model)
        return model
