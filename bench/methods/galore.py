"""GaLore (arXiv 2403.03507): every weight is trained, the optimizer's moments have a low rank.

The gradient G (m, n) of a targeted matrix is projected onto its own first `rank` singular directions along the
shorter side, AdamW runs on the projection, and its step is projected back: moments of 2 * rank * max(m, n) floats and
a projection of rank * min(m, n), instead of 2 * m * n. The weights change in full, so saving, loading and scoring
are those of full fine-tuning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from bench.errors import UserError
from bench.methods.full import Full
from bench.methods.method import MethodFacts, MethodOptions
from bench.methods.target_modules import is_named, resolve_target_modules, targeted_weights
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


class GaloreOptions(MethodOptions):
    """The settings of GaLore."""

    lr: LearningRate = 2e-5
    """Peak learning rate of all weights; a targeted matrix moves at `scale` times it. Default: the median of Table 7's
    eight tasks at rank 8 (1e-5 to 3e-5). Pre-training takes 1e-2."""
    rank: Rank = 8
    """Of the projection; the paper fine-tunes at 4 and 8. At most the shorter side of each targeted matrix."""
    scale: float = Field(2.0, ge=1e-6, le=1e6)
    """Multiplies the step that is projected back (the paper's alpha). Default: Table 7's at rank 8; it has 4 at
    rank 4, and pre-training takes 0.25."""
    update_gap: int = Field(200, ge=1, le=10**9)
    """Optimizer steps between two projections (the paper's T). Default: that of the paper's pre-training; its
    GLUE example takes 500. A training of fewer steps keeps the projection of its first gradient."""
    target_modules: str | list[str] = "auto"
    """`auto`: every linear layer but the head; `llm_adapters`: q, k, v, up, down; or names of modules."""


class Galore(Full):
    """AdamW on the projected gradient of each targeted matrix, plain AdamW on everything else."""

    name = "galore"
    facts = MethodFacts(
        summary="every weight, its gradient projected to a low rank",
        rank="rank of the gradient's projection",
        shared_prefix="any",
        lr_center=2e-5,
        no_checkpoint="galore-torch keeps its projections as objects, which are neither tensors nor JSON",
        source="arXiv 2403.03507, Table 7 (GLUE, rank 8)",
        needs={"galore_torch": "galore", "bitsandbytes": "galore"},
    )
    Options: ClassVar[type[GaloreOptions]] = GaloreOptions

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        options = self.Options.model_validate(super().resolve(settings, model))
        targets = resolve_target_modules(options.target_modules, model, self.name)
        if options.target_modules == "auto":
            targets = [target for target in targets if not _has_one_output(model, target)]
        self._check(model, targets, options.rank)
        return options.model_copy(update={"target_modules": targets}).model_dump(mode="json")

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer:
        """galore_torch's AdamW over the parameter groups that transformers makes for `galore_adamw`.

        transformers passes it only the learning rate. Betas, epsilon and weight decay are added here, so that they
        are those of every other method, and the untargeted group is divided as Trainer does it for AdamW: norms and
        biases do not decay.
        """
        from accelerate import PartialState
        from transformers import TrainingArguments

        from bench.models.compat.galore_torch import give_projectors
        from bench.models.compat.transformers_optimizers import decaying_parameters, galore_optimizer

        base = cast("PreTrainedModel", model)
        options = self.Options.model_validate(cell.options)
        targets = resolve_target_modules(options.target_modules, base, self.name)
        on_cpu = next(model.parameters()).device.type == "cpu"
        # New arguments would reset accelerate's state in the running training, unless they are told to share it.
        PartialState(cpu=on_cpu)
        arguments = TrainingArguments(
            output_dir="unused",  # Trainer makes this folder, its arguments do not
            accelerator_config={"use_configured_state": True},
            use_cpu=on_cpu,
            report_to="none",
            learning_rate=options.lr,
            weight_decay=cell.training_config.weight_decay,
            optim="galore_adamw",
            # Names in a list would match any module that contains them; a pattern must match a module's whole name.
            optim_target_modules="|".join(re.escape(path) for path in _targeted_modules(base, targets)),
            optim_args=f"rank={options.rank}, update_proj_gap={options.update_gap}, scale={options.scale}",
        )
        galore = galore_optimizer(arguments, base)
        decaying = decaying_parameters(model)
        decays = {id(parameter) for name, parameter in model.named_parameters() if name in decaying}
        optimizer = galore.kind(
            [
                {"params": [p for p in galore.rest if id(p) in decays]},
                {"params": [p for p in galore.rest if id(p) not in decays], "weight_decay": 0.0},
                galore.projected,
            ],
            **galore.keywords,
            betas=(arguments.adam_beta1, arguments.adam_beta2),
            eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
            no_deprecation_warning=True,  # galore_torch would recommend torch's AdamW, which cannot project
        )
        give_projectors(optimizer, galore.projected)
        return optimizer

    def _check(self, model: PreTrainedModel, targets: Sequence[str], rank: int) -> None:
        """Raises UserError if a target is the head, not a linear layer, or too small for the rank."""
        from torch import nn

        for target in targets:
            if not _targeted_modules(model, [target]):
                raise UserError(f"method {self.name}: {target} is the output head", "Leave it out of target_modules.")
        shapes: dict[str, tuple[int, int]] = {}
        for path, module in _targeted_modules(model, targets).items():
            if not isinstance(module, nn.Linear):
                raise UserError(
                    f"method {self.name}: {path} is a {type(module).__name__}; only torch.nn.Linear can be projected",
                    "Name linear layers in target_modules, or take another method for this base.",
                )
            shapes[path] = module.out_features, module.in_features
        largest = min(min(shape) for shape in shapes.values())
        for path, (m, n) in shapes.items():
            if rank > min(m, n):
                raise UserError(
                    f"method {self.name}: rank {rank} is larger than the shorter side of {path} ({m} x {n})",
                    f"Set rank to at most {largest}, or leave the module out of target_modules.",
                )


def _targeted_modules(model: PreTrainedModel, targets: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that the targets name, by full path, without the output head, whose weight may be the embedding's."""
    head = model.get_output_embeddings()
    return {path: module for path, module in model.named_modules() if module is not head and is_named(path, targets)}


def _has_one_output(model: PreTrainedModel, target: str) -> bool:
    """Whether a layer of this name has one output (a shared expert's gate, say): its gradient has no rank to reduce."""
    return any(min(weight.shape) == 1 for weight in targeted_weights(model, [target]).values())
