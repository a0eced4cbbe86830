"""PEFT's modules that ask the device for a value at each forward pass, which then waits for all that is under way: the
same functions, bit for bit, without the question."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.cpt.model import CPTEmbedding
from peft.tuners.poly.router import EPS, PolyRouter
from peft.tuners.vblora.layer import Linear as VBLoRALinear
from torch import nn
from torch.distributions.relaxed_bernoulli import RelaxedBernoulli


class UnaskedRouter(PolyRouter):
    """Poly's mixture of skills (rows, splits, skills). PEFT's asks whether a row's task is among the configured ones;
    here all are of the first."""

    def forward(self, task_ids: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        logits = self.module_logits[task_ids].view(-1, self.n_splits, self.n_skills)
        if self.training:
            weights = RelaxedBernoulli(temperature=1.0, logits=logits, validate_args=False).rsample()
        else:
            weights = logits.sigmoid()
        return weights / (weights.sum(dim=-1, keepdim=True) + EPS)


class UnaskedVBLoRALinear(VBLoRALinear):
    """VB-LoRA's layer. PEFT's asks in training whether its logits come from a file that holds the largest alone; a cell
    never trains what was loaded."""

    def _get_lora_matrices(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        training, self.training = self.training, False  # which decides nothing else there
        try:
            return super()._get_lora_matrices(*args, **kwargs)
        finally:
            self.training = training


class UnaskedCPTEmbedding(CPTEmbedding):
    """CPT's prompt. PEFT's picks the offsets (tokens, H) that are not zero, to project them into their balls; here all
    are projected, and those that are zero stay."""

    def get_projection(self) -> torch.Tensor:
        with torch.no_grad():
            offsets = self.delta_embedding.weight
            radius = self.__dict__.get("_radius")
            if radius is None or radius.device != offsets.device:  # (tokens,), of the configuration alone
                radius = self.__dict__["_radius"] = self.get_epsilon().to(offsets.device)
            norm = torch.norm(offsets, p=2, dim=1)
            projected = offsets * (radius / norm.clamp(min=radius)).view(-1, 1)
            return torch.where((norm > 0).view(-1, 1), projected, offsets)


UNASKED = {PolyRouter: UnaskedRouter, VBLoRALinear: UnaskedVBLoRALinear, CPTEmbedding: UnaskedCPTEmbedding}


def leave_unasked(model: nn.Module) -> None:
    """Give the modules of a PEFT model that ask, and need not, the forward that does not, in place."""
    for module in model.modules():
        module.__class__ = UNASKED.get(type(module), type(module))
