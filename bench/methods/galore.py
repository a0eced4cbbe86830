"""GaLore (arXiv 2403.03507): every weight is trained, the optimizer's moments live in a low-rank space.

The gradient G (m, n) of a targeted matrix is projected onto its own first `rank` singular directions along the
shorter side, AdamW runs on what remains, and its step is projected back: moments of 2 * rank * max(m, n) floats and
a projection of rank * min(m, n), instead of 2 * m * n. The weights change in full, so saving, loading and scoring
are those of full fine-tuning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.errors import Diverged, UserError
from bench.methods.full import Full
from bench.methods.method import MethodFacts, MethodOptions
from bench.methods.target_modules import resolve_targets
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


class Galore(Full):
    """AdamW on the projected gradient of each targeted matrix, plain AdamW on everything else."""

    name = "galore"
    facts = MethodFacts(
        summary="every weight, its gradient projected to a low rank",
        rank="rank of the gradient's projection",
        shared_prefix="any",
        lr_grid=(6e-6, 2e-5, 6e-5, 2e-4),
        no_checkpoint="galore-torch keeps its projections as objects, which are neither tensors nor JSON",
        source="arXiv 2403.03507, Table 7 (GLUE, rank 8)",
        needs={"galore_torch": "galore", "bitsandbytes": "galore"},
    )

    class Options(MethodOptions):
        lr: float = Field(2e-5, gt=0)
        """Peak rate of all weights; a targeted matrix moves at `scale` times it. Default: the median of Table 7's
        eight tasks at rank 8 (1e-5 to 3e-5). Pre-training takes 1e-2."""
        rank: int = Field(8, ge=1)
        """Of the projection; the paper fine-tunes at 4 and 8. At most the shorter side of each targeted matrix."""
        scale: float = Field(2.0, gt=0)
        """Multiplies the step that is projected back (the paper's alpha). Default: Table 7's at rank 8; it has 4 at
        rank 4, and pre-training takes 0.25."""
        update_gap: int = Field(200, ge=1)
        """Optimizer steps between two projections (the paper's T). Default: that of the paper's pre-training; its
        GLUE example takes 500. A training of fewer steps keeps the projection of its first gradient."""
        target_modules: str | list[str] = "auto"
        """`auto`: every linear layer but the head; `llm_adapters`: q, k, v, up, down; or names of modules."""

    def resolve(self, settings: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
        options = super().resolve(settings, model)
        options["target_modules"] = resolve_targets(options["target_modules"], model, self.name)
        self._check(model, options["target_modules"], options["rank"])
        return options

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer:
        """galore_torch's AdamW over the parameter groups that transformers makes for `galore_adamw`.

        transformers hands it the learning rate alone. Betas, epsilon and weight decay are added here, so that they
        are every other method's, and the untargeted group is divided as Trainer does it for AdamW: norms and biases
        do not decay.
        """
        import re

        from accelerate import PartialState
        from transformers import Trainer, TrainingArguments

        options = cell.options
        on_cpu = next(model.parameters()).device.type == "cpu"
        # New arguments would reset the state of the Trainer that is running; they do not where told to share it.
        PartialState(cpu=on_cpu)
        arguments = TrainingArguments(
            output_dir="unused",  # Trainer makes this folder, its arguments do not
            accelerator_config={"use_configured_state": True},
            use_cpu=on_cpu,
            report_to="none",
            learning_rate=options["lr"],
            weight_decay=(cell.training or {}).get("weight_decay", 0.0),
            optim="galore_adamw",
            # Names in a list would match any module that contains them; a pattern must match a module's whole name.
            optim_target_modules="|".join(re.escape(name) for name in _targeted(model, options["target_modules"])),
            optim_args=f"rank={options['rank']}, update_proj_gap={options['update_gap']}, scale={options['scale']}",
        )
        kind, keywords = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        rest, projected = keywords.pop("params")
        decaying = set(Trainer.get_decay_parameter_names(None, model))  # uses nothing of a trainer
        decays = {id(parameter) for name, parameter in model.named_parameters() if name in decaying}
        optimizer = kind(
            [
                {**rest, "params": [p for p in rest["params"] if id(p) in decays]},
                {**rest, "params": [p for p in rest["params"] if id(p) not in decays], "weight_decay": 0.0},
                projected,
            ],
            **keywords,
            betas=(arguments.adam_beta1, arguments.adam_beta2),
            eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
            no_deprecation_warning=True,  # galore_torch would recommend torch's AdamW, which cannot project
        )
        _give_projectors(optimizer, projected)
        return optimizer

    def _check(self, model: nn.Module, targets: list[str], rank: int) -> None:
        """Raises UserError where a target is the head, not a linear layer, or too small for the rank."""
        from torch import nn

        for target in targets:
            if not _targeted(model, [target]):
                raise UserError(f"method {self.name}: {target} is the output head", "Leave it out of target_modules.")
        modules = _targeted(model, targets)
        for name, module in modules.items():
            if not isinstance(module, nn.Linear):
                raise UserError(
                    f"method {self.name}: {name} is a {type(module).__name__}; only torch.nn.Linear can be projected",
                    "Name linear layers in target_modules, or take another method for this base.",
                )
        largest = min(min(module.weight.shape) for module in modules.values())
        for name, module in modules.items():
            m, n = module.weight.shape
            if rank > min(m, n):
                raise UserError(
                    f"method {self.name}: rank {rank} is larger than the shorter side of {name} ({m} x {n})",
                    f"Set rank to at most {largest}, or leave the module out of target_modules.",
                )


def _targeted(model: nn.Module, targets: list[str]) -> dict[str, nn.Module]:
    """The modules that the targets name, by full name. The output head is none: its weight may be the embedding's."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if module is not head and any(f".{name}".endswith(f".{target}") for target in targets)
    }


def _give_projectors(optimizer: Optimizer, group: dict[str, Any]) -> None:
    """A projector for each matrix of the group. The optimizer makes galore_torch's own where it finds none.

    That one's projection is a slice of the singular vectors, which keeps all of them in memory: min(m, n)^2 floats
    instead of rank * min(m, n) (galore_torch 1.0). Here the slice is copied, and the rest is freed before the next
    matrix is looked at; the numbers are the same.
    """
    import torch
    from galore_torch.galore_projector import GaLoreProjector

    class Projector(GaLoreProjector):
        def get_orthogonal_matrix(self, weights: torch.Tensor, rank: int, type: str) -> torch.Tensor:
            try:
                return super().get_orthogonal_matrix(weights, rank, type).clone()
            except torch.linalg.LinAlgError as error:
                if weights.isfinite().all():
                    raise
                raise Diverged("a gradient is not finite, and GaLore cannot project it") from error

    settings = {key: group[key] for key in ("rank", "update_proj_gap", "scale", "proj_type")}
    for parameter in group["params"]:
        optimizer.state[parameter]["projector"] = Projector(**settings)
