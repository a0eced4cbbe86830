"""Which method the others are compared with. The plan records it; everything else reads it from there."""

from __future__ import annotations

from collections.abc import Iterable


def choose_baseline(methods: Iterable[tuple[str, int | None]], chosen: str | None = None) -> str | None:
    """The baseline among the trained methods of a sweep, given as (method, rank) in the sweep's order.

    It is the method that the sweep file names (`report.baseline`); else LoRA; else the first method with a rank, since
    methods are compared at equal ranks; else the first method. None without any.
    """
    ranks = dict[str, bool]()
    for method, rank in methods:
        ranks[method] = ranks.get(method, False) or rank is not None
    if chosen in ranks:
        return chosen
    if "lora" in ranks:
        return "lora"
    return next((method for method, ranked in ranks.items() if ranked), next(iter(ranks), None))
