"""The table of `bench methods`: the facts of each method and, for a base model, how many parameters it trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.methods.method import Method
from bench.methods.registry import METHODS
from bench.sweep.cell import BaseIdentity, Cell

if TYPE_CHECKING:
    from pydantic import JsonValue
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class MethodSize:
    """What a method trains on a base model. All None where it cannot be attached to that base."""

    rank_here: int | None = None
    trainable: int | None = None
    """Parameters."""
    percent_of_base: float | None = None


@dataclass(frozen=True)
class MethodRow:
    """A row of the table."""

    method: str
    summary: str
    rank: str | None
    """What `rank` means for it; None where it has none."""
    merges: bool
    cannot_merge: str
    quantized: bool
    lr: float | None
    """The default learning rate; None where it depends on other settings."""
    source: str
    size: MethodSize | None = None
    """None where no base was given."""
    problem: str = ""
    """Why the parameters could not be counted."""

    def as_json(self) -> dict[str, JsonValue]:
        """The row as `bench methods --json` prints it: the size beside the facts, nothing where there is none."""
        row = asdict(self)
        size, problem = row.pop("size"), row.pop("problem")
        return row | (size or {}) | ({"problem": problem} if problem else {})


def method_rows(base: str | None = None, rank: int | None = None) -> list[MethodRow]:
    """One row per method. With `base`, parameters are counted on the meta device at `rank` (default: the method's own).

    A method that cannot have that rank on that base has the reason as `problem`. Raises UserError for an unknown base.
    """
    if base is None:
        return [_row(method) for method in METHODS.values()]
    from bench.methods.parameter_count import layers_alike
    from bench.models.load import load_skeleton

    skeleton = load_skeleton(base)
    alike = layers_alike(skeleton)
    rows = []
    for method in METHODS.values():
        try:
            rows.append(_row(method, _size(method, base, skeleton, alike, rank)))
        except UserError as error:
            rows.append(_row(method, MethodSize(), error.problem))
    return rows


def _row(method: Method, size: MethodSize | None = None, problem: str = "") -> MethodRow:
    facts = method.facts
    return MethodRow(
        method=method.name,
        summary=facts.summary,
        rank=facts.rank,
        merges=facts.mergeable,
        cannot_merge=facts.cannot_merge,
        quantized=facts.quantizes,
        lr=method.default_lr,
        source=facts.source,
        size=size,
        problem=problem,
    )


def _size(method: Method, base: str, skeleton: PreTrainedModel, alike: bool, rank: int | None) -> MethodSize:
    from bench.methods.parameter_count import count_parameters

    method.check_packages()
    options = method.resolve({"rank": rank} if rank is not None and method.facts.rank is not None else {}, skeleton)
    cell = Cell(
        base=BaseIdentity(id=base, revision="-", dtype="float32"),
        method=method.name,
        method_version=method.version,
        options=options,
        samples=1,
        seed=0,
        training={"batch_size": 1, "epochs": 1},
    )
    trainable, _ = count_parameters(cell, skeleton.config, exact=False, alike=alike)
    in_base = sum(parameter.numel() for parameter in skeleton.parameters())
    return MethodSize(cell.rank, trainable, round(100 * trainable / in_base, 4))


def print_rows(rows: Sequence[MethodRow]) -> None:
    """Print the rows as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Without a terminal no width is set: lines are long enough for every column.
    console = Console() if sys.stdout.isatty() else Console(width=220)
    sizes = ["rank", "trainable", "% of base"] if rows[0].size else []
    wide = console.width >= 140
    columns = [
        "method",
        "what it trains",
        "rank is",
        "merges",
        "quantized",
        "lr",
        *sizes,
        *(["source"] if wide else []),
    ]
    table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(
            row.method,
            row.summary,
            row.rank or "-",
            "yes" if row.merges else "no",
            "yes" if row.quantized else "no",
            f"{row.lr:g}" if row.lr else "-",
            *(_size_columns(row.size, row.problem) if row.size else ()),
            *([row.source] if wide else []),
        )
    console.print(table)


def _size_columns(size: MethodSize, problem: str) -> tuple[str, str, str]:
    rank = "-" if size.rank_here is None else f"{size.rank_here:,}"
    trainable = "-" if size.trainable is None else f"{size.trainable:,}"
    percent = "-" if size.percent_of_base is None else f"{size.percent_of_base:.4f}"
    return rank, problem or trainable, percent
