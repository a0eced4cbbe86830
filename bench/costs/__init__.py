"""What a cell costs: memory, time, energy, work and who else was there. docs/costs.md defines every figure.

Measured from the tensors, the clock and the counters of the system; only the work (FLOPs) follows from a formula.
"""

from bench.costs.flops import Work, matmul_speed
from bench.costs.meter import Meter, Reading, release_memory, resident_level
from bench.costs.sharing import Occupancy
from bench.costs.sizes import model_bytes, optimizer_state_bytes

__all__ = [
    "Meter",
    "Occupancy",
    "Reading",
    "Work",
    "matmul_speed",
    "model_bytes",
    "optimizer_state_bytes",
    "release_memory",
    "resident_level",
]
