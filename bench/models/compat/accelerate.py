"""accelerate: an Accelerator whose settings are its own.

Upstream: https://github.com/huggingface/accelerate/blob/v1.15.0/src/accelerate/state.py
"""

from __future__ import annotations

import inspect

from accelerate.state import AcceleratorState, GradientState

from bench.models.compat import require

LINK = "https://github.com/huggingface/accelerate/blob/v1.15.0/src/accelerate/state.py"

require(
    list(inspect.signature(AcceleratorState._reset_state).parameters) == ["reset_partial_state"],
    "accelerate",
    "AcceleratorState._reset_state(reset_partial_state)",
    LINK,
)
require(hasattr(GradientState, "_reset_state"), "accelerate", "GradientState._reset_state", LINK)


def forget_accelerators() -> None:
    """Let the next Accelerator of this process have its own device and precision, as TrainingArguments of transformers
    does: otherwise those of the first one hold for all."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
