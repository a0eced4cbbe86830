"""How far an estimate from simulated runs may stray."""

from __future__ import annotations

import math


def within(share: float, n: int) -> float:
    """How far a share estimated from n runs strays: less than this but once in 16,000."""
    return 4 * math.sqrt(share * (1 - share) / n)
