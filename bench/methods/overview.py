"""The registry as a list: the facts of each method and, for a base, how many parameters it trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import methods
from bench.errors import UserError
from bench.sweep.cell import BaseIdentity, Cell

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def listing(base: str | None = None, rank: int | None = None) -> list[dict[str, Any]]:
    """One row a method. With `base`, parameters are counted on the meta device at `rank` (or the method's own default).

    A method that cannot be at that rank on that base has the reason as `problem`. Raises UserError for an unknown base.
    """
    if base is None:
        return [_facts(method) for method in methods.METHODS.values()]
    from bench.methods.parameter_count import layers_alike
    from bench.models import base_models

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
    from bench.methods.parameter_count import count

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


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what `listing` found as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Whole lines where no terminal sets a width.
    console = Console() if sys.stdout.isatty() else Console(width=220)
    counted = ["rank", "trainable", "% of base"] if "trainable" in rows[0] else []
    wide = console.width >= 140
    heads = [
        "method",
        "what it trains",
        "rank is",
        "merges",
        "quantized",
        "lr",
        *counted,
        *(["source"] if wide else []),
    ]
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        cells = [row["rank_here"], row["trainable"], row["percent_of_base"]] if counted else []
        shown = ["-" if one is None else f"{one:,}" if isinstance(one, int) else f"{one:.4f}" for one in cells]
        if row.get("problem"):
            shown[1] = row["problem"]
        table.add_row(
            row["method"],
            row["summary"],
            row["rank"] or "-",
            "yes" if row["merges"] else "no",
            "yes" if row["quantized"] else "no",
            f"{row['lr']:g}" if row["lr"] else "-",
            *shown,
            *([row["source"]] if wide else []),
        )
    console.print(table)
