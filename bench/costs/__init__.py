"""What a cell costs: memory, time, energy, FLOPs, and whether it shared its device. docs/costs.md defines every figure.

Measured from the tensors, the clock and the system's counters; FLOPs are counted on a model without weights.
"""

from bench.costs.flops import PassFlops, attended_pairs, count_flops, matmul_speed
from bench.costs.meter import Meter, Reading, release_memory, resident_level
from bench.costs.sharing import Occupancy
from bench.costs.sizes import model_bytes, optimizer_state_bytes

__all__ = [
    "Meter",
    "Occupancy",
    "PassFlops",
    "Reading",
    "attended_pairs",
    "count_flops",
    "matmul_speed",
    "model_bytes",
    "optimizer_state_bytes",
    "release_memory",
    "resident_level",
]
