"""bench: which way of fine-tuning this base model gives what quality at what cost?"""

from bench.api import load_results, load_sweep, run_sweep, write_report

__version__ = "0.1.0"

__all__ = ["load_results", "load_sweep", "run_sweep", "write_report"]
