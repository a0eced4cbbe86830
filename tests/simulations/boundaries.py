"""Writes bench/statistics/boundaries.py: the boundaries of the default looks, by Monte Carlo (about four minutes).

python tests/simulations/boundaries.py
"""

from __future__ import annotations

from pathlib import Path

from bench.statistics import sequential

COMPARISONS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 38, 50, 100)
FILE = Path(sequential.__file__).with_name("boundaries.py")


def content() -> str:
    """The module."""
    rows, errors = [], []
    for comparisons in COMPARISONS:
        found = sequential.boundaries(1 - 0.05 / comparisons)
        rows.append(f"    {comparisons}: ({', '.join(f'{boundary.critical:.3f}' for boundary in found)}),")
        errors.append(max(boundary.error for boundary in found))
    looks = ", ".join(map(str, sequential.LOOKS))
    return f'''"""Boundaries of the repeated t interval at the default looks: made by tests/simulations/boundaries.py.

By the number of comparisons that share a level of 5 %; a value a look, of {looks} seeds.
From {sequential.PATHS:,} paths with seed {sequential.SEED}. The first look is exact; the Monte Carlo standard errors of
the others are at most {errors[0]:.3f} for one comparison and {max(errors):.3f} for 100.
"""

from __future__ import annotations

BOUNDARIES: dict[int, tuple[float, ...]] = {{
{chr(10).join(rows)}
}}
'''


if __name__ == "__main__":
    FILE.write_text(content(), encoding="utf-8")
