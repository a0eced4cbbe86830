"""Which cells run, where and in which order, and what becomes of one that fails."""

from __future__ import annotations

from bench.runner.options import Options
from bench.runner.sweeping import Outcome, run_sweep

__all__ = ["Options", "Outcome", "run_sweep"]
