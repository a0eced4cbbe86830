"""Whether the weights of a base are finite. NaN in a base makes NaN of every loss, and would end each of its cells as
diverged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.models.code_cache import keep_text, read_kept
from bench.models.weights import NAMED, weight_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KIND = "finite-weights"
"""Of what is kept between plans."""


def check_finite(name: str, folder: Path, skeleton: PreTrainedModel) -> None:
    """Read the weights in a base's folder, tensor by tensor. Raises UserError for NaN and infinite values.

    Folders that have passed are not read again until a file changes. Values that are no weights of the architecture
    (masks that old checkpoints store) are not looked at, nor are those that transformers translates.
    """
    from safetensors import safe_open

    files = weight_files(folder, getattr(skeleton.config, "transformers_weights", None))
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = f"{folder.resolve()} {stamps}"
    if read_kept(KIND, key) is not None:
        return
    weights = {path for path, _ in skeleton.named_parameters(remove_duplicate=False)}
    prefix = f"{skeleton.base_model_prefix}."
    bad = []
    for path in files:
        with safe_open(path, framework="pt") as file:
            wanted = [name for name in file.keys() if {name, prefix + name} & weights]  # noqa: SIM118  # no mapping
            bad += [name for name in wanted if not is_finite(file.get_tensor(name))]
    if bad:
        raise _not_finite(name, bad)
    keep_text(KIND, key, "passed")


def check_loaded_finite(name: str, model: PreTrainedModel) -> None:
    """Raises UserError if a weight of a loaded model is NaN or infinite."""
    if bad := [path for path, parameter in model.named_parameters() if not is_finite(parameter.detach())]:
        raise _not_finite(name, bad)


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite; True for a tensor of whole numbers and one without values."""
    import torch

    if not tensor.is_floating_point() or tensor.device.type == "meta":
        return True
    values = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no sums
    # One pass and no copy. A sum may also overflow.
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())


def _not_finite(name: str, bad: list[str]) -> UserError:
    named = ", ".join(sorted(bad)[:NAMED]) + (f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else "")
    return UserError(
        f"weights of {name} are NaN or infinite: {named}",
        "Every loss and score would be NaN. Copy or download the model again; if it was made by training or merging, "
        "that has failed.",
    )
