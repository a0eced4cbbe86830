"""What the libraries print of themselves, and what is kept of it."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars (the harness shows its own) and one upstream deprecation."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    # peft 0.21.2 asks transformers 5.23 for a property under its old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
