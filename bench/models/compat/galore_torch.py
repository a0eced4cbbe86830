"""galore_torch: the projection of a gradient, with less memory than the package's own.

Upstream: https://github.com/jiaweizzhao/GaLore/blob/master/galore_torch/galore_projector.py (galore-torch 1.0)
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypedDict

from bench.errors import Diverged
from bench.models.compat import require

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

LINK = "https://github.com/jiaweizzhao/GaLore/blob/master/galore_torch/"


class ProjectedGroup(TypedDict):
    """The parameter group whose gradients are projected."""

    params: list[nn.Parameter]
    rank: int
    update_proj_gap: int
    scale: float
    proj_type: str


def give_projectors(optimizer: Optimizer, group: ProjectedGroup) -> None:
    """Give each matrix of the group its projector. The optimizer makes galore_torch's own where it finds none.

    The projection of galore_torch 1.0 is a slice of the singular vectors, which keeps all of them in memory:
    min(m, n)^2 floats instead of rank * min(m, n). Here the slice is copied, and the rest is freed before the next
    matrix is decomposed; the numbers are the same.

    The optimizer's step then raises Diverged for a gradient that is not finite.
    """
    import torch
    from galore_torch.galore_projector import GaLoreProjector

    parameters = list(inspect.signature(GaLoreProjector.get_orthogonal_matrix).parameters)
    require(
        parameters == ["self", "weights", "rank", "type"],
        "galore-torch",
        "the signature of GaLoreProjector.get_orthogonal_matrix",
        LINK + "galore_projector.py",
    )
    require(
        'if "projector" not in state' in inspect.getsource(type(optimizer).step),
        "galore-torch",
        "the place of a projector in the optimizer's state",
        LINK + "adamw.py",
    )

    class Projector(GaLoreProjector):
        def get_orthogonal_matrix(self, weights: torch.Tensor, rank: int, type: str) -> torch.Tensor:
            try:
                return super().get_orthogonal_matrix(weights, rank, type).clone()
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # documented, not re-exported
                if weights.isfinite().all():
                    raise
                raise Diverged("a gradient is not finite, and GaLore cannot project it") from error

    for parameter in group["params"]:
        optimizer.state[parameter]["projector"] = Projector(
            rank=group["rank"],
            update_proj_gap=group["update_proj_gap"],
            scale=group["scale"],
            proj_type=group["proj_type"],
        )
