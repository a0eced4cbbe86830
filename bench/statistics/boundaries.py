"""Boundaries of the repeated t interval at the default looks: made by tests/simulations/boundaries.py.

By the number of comparisons that share a level of 5 %; a value a look, of 5, 7, 10, 14, 20 seeds.
From 2,000,000 paths with seed 20240. The first look is exact; the Monte Carlo standard errors of
the others are at most 0.003 for one comparison and 0.049 for 100.
"""

from __future__ import annotations

BOUNDARIES: dict[int, tuple[float, ...]] = {
    1: (4.315, 3.882, 3.204, 2.794, 2.465),
    2: (5.261, 4.581, 3.691, 3.193, 2.824),
    3: (5.885, 5.019, 3.981, 3.424, 3.027),
    4: (6.364, 5.337, 4.183, 3.591, 3.171),
    5: (6.758, 5.595, 4.350, 3.715, 3.276),
    6: (7.096, 5.811, 4.482, 3.814, 3.358),
    8: (7.658, 6.160, 4.700, 3.978, 3.496),
    10: (8.122, 6.439, 4.872, 4.106, 3.602),
    15: (9.029, 6.984, 5.173, 4.334, 3.787),
    20: (9.729, 7.402, 5.411, 4.497, 3.919),
    30: (10.802, 8.000, 5.748, 4.727, 4.104),
    38: (11.477, 8.403, 5.941, 4.862, 4.213),
    50: (12.312, 8.865, 6.166, 5.023, 4.341),
    100: (14.689, 10.103, 6.786, 5.450, 4.657),
}
