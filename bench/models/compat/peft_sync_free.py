"""PEFT modules that force a host-device synchronisation at each forward pass, replaced by equivalents that do not.

Each of them reads a value from the device, so the host waits for all work that is under way. The replacements compute
the same functions, bit for bit.

Upstream: https://github.com/huggingface/peft/tree/v0.21.2/src/peft/tuners (poly/router.py, vblora/layer.py,
cpt/model.py).
"""

from __future__ import annotations

import inspect

import torch
from peft.tuners.cpt.model import CPTEmbedding
from peft.tuners.poly.router import EPS, PolyRouter
from peft.tuners.vblora.layer import Linear as VBLoRALinear
from torch import nn
from torch.distributions.relaxed_bernoulli import RelaxedBernoulli

from bench.models.compat import require
from bench.models.compat.peft import replace_classes

LINK = "https://github.com/huggingface/peft/tree/v0.21.2/src/peft/tuners/"

require(
    list(inspect.signature(PolyRouter.forward).parameters) == ["self", "task_ids", "input_ids"],
    "peft",
    "the signature of PolyRouter.forward",
    LINK + "poly/router.py",
)
require(
    inspect.getsource(VBLoRALinear._get_lora_matrices).count("self.training") == 1,
    "peft",
    "the only use of the training mode in VB-LoRA's _get_lora_matrices",
    LINK + "vblora/layer.py",
)
require(
    list(inspect.signature(CPTEmbedding.get_projection).parameters) == ["self"]
    and list(inspect.signature(CPTEmbedding.get_epsilon).parameters) == ["self"],
    "peft",
    "CPTEmbedding.get_projection and get_epsilon",
    LINK + "cpt/model.py",
)


class SyncFreePolyRouter(PolyRouter):
    """Poly's mixture of skills (rows, splits, skills). PEFT checks that each row's task is configured; here all rows
    are of the first task."""

    def forward(self, task_ids: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        logits = self.module_logits[task_ids].view(-1, self.n_splits, self.n_skills)
        if self.training:
            temperature = 1.0
            weights = RelaxedBernoulli(temperature, logits=logits, validate_args=False).rsample()  # type: ignore[arg-type]  # torch takes a float, too
        else:
            weights = logits.sigmoid()
        return weights / (weights.sum(dim=-1, keepdim=True) + EPS)


class SyncFreeVBLoRALinear(VBLoRALinear):
    """VB-LoRA's layer. PEFT checks in training whether the logits come from a file that holds only the largest ones; a
    cell never trains a loaded adapter."""

    def _get_lora_matrices(self, adapter: str, cast_to_fp32: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        training, self.training = self.training, False  # the check is all that depends on the mode there
        try:
            return super()._get_lora_matrices(adapter, cast_to_fp32)
        finally:
            self.training = training


class SyncFreeCPTEmbedding(CPTEmbedding):
    """CPT's prompt. PEFT selects the offsets (tokens, H) that are not zero and projects them into their balls; here all
    offsets are projected, which leaves zeros as they are."""

    def get_projection(self) -> torch.Tensor:
        with torch.no_grad():
            offsets = self.delta_embedding.weight
            radius = self.__dict__.get("_radius")
            if radius is None or radius.device != offsets.device:  # (tokens,), a function of the configuration alone
                radius = self.__dict__["_radius"] = self.get_epsilon().to(offsets.device)
            norm = torch.norm(offsets, p=2, dim=1)
            projected = offsets * (radius / norm.clamp(min=radius)).view(-1, 1)
            return torch.where((norm > 0).view(-1, 1), projected, offsets)


SYNC_FREE: dict[type[nn.Module], type[nn.Module]] = {
    PolyRouter: SyncFreePolyRouter,
    VBLoRALinear: SyncFreeVBLoRALinear,
    CPTEmbedding: SyncFreeCPTEmbedding,
}
"""PEFT's class, and the class that replaces it."""


def avoid_synchronisation(model: nn.Module) -> None:
    """Replace the modules of a PEFT model that force a synchronisation, in place."""
    replace_classes(model, SYNC_FREE)
