"""bench: which way of fine-tuning this base model gives what quality at what cost?"""

import logging
import os

__version__ = "0.1.0"

# The libraries' telemetry is off, whoever imports them later. A user's own setting wins.
for _name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")
# Forked data workers do not exist here; this silences the tokenizers' warning about them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# The harness shows its own progress.
os.environ.setdefault("TQDM_DISABLE", "1")
# Where it is installed, peft imports it; on a CPU it then warns of a kernel that nothing here asks for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

from bench.api import load_results, load_sweep, run_sweep, write_report  # noqa: E402

__all__ = ["load_results", "load_sweep", "run_sweep", "write_report"]
