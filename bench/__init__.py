"""bench compares parameter-efficient fine-tuning methods on one base model: accuracy, cost and uncertainty."""

from bench.api import load_results, load_sweep, run_sweep, write_report

__version__ = "0.1.0"

__all__ = ["load_results", "load_sweep", "run_sweep", "write_report"]
