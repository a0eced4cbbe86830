"""The registry as a list: the facts of each method and, for a base, how many parameters it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import methods
from bench.cell import BaseIdentity, Cell
from bench.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def listing(base: str | None = None, rank: int | None = None) -> list[dict[str, Any]]:
    """One row a method. With `base`, parameters are counted on the meta device at `rank` (or the method's own default).

    A method that cannot be at that rank on that base has the reason as `problem`. Raises UserError for an unknown base.
    """
    if base is None:
        return [_facts(method) for method in methods.METHODS.values()]
    from bench import base_models
    from bench.plan import layers_alike

    skeleton = base_models.skeleton(base)
    alike, total = layers_alike(skeleton), sum(one.numel() for one in skeleton.parameters())
    rows = []
    for method in methods.METHODS.values():
        row = _facts(method) | {"rank_here": None, "trainable": None, "percent_of_base": None}
        try:
            row |= _counted(method, base, skeleton, alike, rank, total)
        except UserError as error:
            row["problem"] = error.problem
        rows.append(row)
    return rows


def _facts(method: methods.Method) -> dict[str, Any]:
    facts = method.facts
    return {
        "method": method.name,
        "summary": facts.summary,
        "rank": facts.rank,
        "merges": facts.mergeable,
        "cannot_merge": facts.cannot_merge,
        "quantized": facts.quantizes,
        "lr": method.default_lr,
        "source": facts.source,
    }


def _counted(
    method: methods.Method, base: str, skeleton: PreTrainedModel, alike: bool, rank: int | None, total: int
) -> dict[str, Any]:
    from bench.plan import count

    method.check_packages()
    settings = {"rank": rank} if rank is not None and method.facts.rank is not None else {}
    options = method.resolve(settings, skeleton)
    cell = Cell(
        base=BaseIdentity(id=base, revision="-", dtype="float32"),
        method=method.name,
        method_version=method.version,
        options=options,
        samples=1,
        seed=0,
        training={"batch_size": 1, "epochs": 1},
    )
    trainable, _ = count(cell, skeleton.config, exact=False, alike=alike)
    return {"rank_here": cell.rank, "trainable": trainable, "percent_of_base": round(100 * trainable / total, 4)}
