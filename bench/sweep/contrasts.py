"""Contrasts: the few questions that a sweep is run to answer, each one number per seed.

A contrast is a weighted sum of the averages of cells of one seed: the mean difference of two methods or settings over
ranks and sample counts, the slope of that difference, or of one method's score, per doubling. This file has the
settings and the weights; `bench.analysis.contrasts` has the estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from bench.errors import UserError, shortened
from bench.hashing import short_hash
from bench.sweep.cell import Settings
from bench.sweep.sections import Average, OneOrMore, Rank, SampleSize, Strict

MOST_CONTRASTS = 5
"""That a sweep file may name: the p values are adjusted for their number."""
OWN = ("method", "rank", "samples")
"""Keys of a side that are no options of its method."""


class ContrastConfig(Strict):
    """A question that the sweep answers, written down before its first cell is run; `contrasts` is a list of at most
    five of them. Where none is named, each method is compared with the baseline, by the mean over the ranks and sample
    counts that both have, and the trend of each method with the samples (or the rank) is estimated."""

    of: str | Settings
    """A method, or {method: name, setting: value} for one of its settings."""
    against: str | Settings | None = None
    """What it is compared with. Default: nothing; the contrast is then the trend of one method."""
    per_doubling: Literal["rank", "samples"] | None = None
    """The slope of the difference, or of the method's score, per doubling of this. Default: the mean difference."""
    at_ranks: OneOrMore[Rank] | None = None
    """Default: all that both sides have."""
    at_samples: OneOrMore[SampleSize] | None = None
    """Default: all that both sides have."""

    @field_validator("of", "against")
    @classmethod
    def _side(cls, side: str | Settings | None) -> str | Settings | None:
        if isinstance(side, dict) and not isinstance(side.get("method"), str):
            raise ValueError(f"a side is a method, or {{method: name, setting: value}}; got {shortened(side)}")
        return side

    @model_validator(mode="after")
    def _compares(self) -> ContrastConfig:
        if self.against is None and self.per_doubling is None:
            raise ValueError(
                f"{self.label_of} is compared with nothing; give against: another method, or per_doubling: rank or "
                "samples for its trend"
            )
        if self.against is not None and _selected(self.of) == _selected(self.against):
            raise ValueError(f"{self.label_of} is compared with itself; give another method, or another setting of it")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = handler(self)
        return {key: value for key, value in content.items() if value is not None}

    @property
    def methods(self) -> list[str]:
        """The methods of its sides."""
        return [str(_selected(side)["method"]) for side in (self.of, self.against) if side is not None]

    @property
    def label_of(self) -> str:
        return _label(self.of)

    @property
    def label_against(self) -> str | None:
        return None if self.against is None else _label(self.against)

    @property
    def id(self) -> str:
        """Hash of its content: a contrast that is in the plan before the first result cannot be changed afterwards
        without being another one."""
        return short_hash(self.model_dump_json())


DEFAULT_CONTRASTS = "default"
"""Takes the place of an id where the sweep names no contrast."""


class ContrastsRecord(Strict):
    """The contrasts of a sweep, and which of them were written down before anything was scored."""

    named: tuple[ContrastConfig, ...] = ()
    """Empty: the default ones."""
    planned: tuple[str, ...] = ()
    """Ids (hashes of their content) of those that were in the plan before the first score; the others are post hoc."""
    average: Average = "auto"
    """The tasks that they compare averages over, as `report.average` has them. Choosing other ones when there are
    scores makes all contrasts post hoc."""

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Plans from before the average could be chosen have no key for it."""
        content: dict[str, object] = handler(self)
        if self.average == "auto":
            content.pop("average", None)
        return content

    @property
    def ids(self) -> list[str]:
        """Of all."""
        return [contrast.id for contrast in self.named] or [DEFAULT_CONTRASTS]

    def after(self, before: ContrastsRecord | None, begun: bool) -> ContrastsRecord:
        """These contrasts, following those of an earlier plan; `begun`: cells of the sweep have scores."""
        earlier = before.planned if before is not None and before.average == self.average else ()
        planned = tuple(id for id in self.ids if not begun or id in earlier)
        return ContrastsRecord(named=self.named, planned=planned, average=self.average)


class ContrastCell(Protocol):
    """What a contrast needs to know of a cell: `PlannedRecord` and `Cell` have it."""

    @property
    def folder(self) -> str: ...
    @property
    def base(self) -> object: ...
    @property
    def method(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def samples(self) -> int: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def options(self) -> Settings: ...
    @property
    def training(self) -> Settings | None: ...


@dataclass(frozen=True)
class WeightedCells:
    """A contrast on one base."""

    base: object
    cells: Mapping[int, Sequence[tuple[float, str]]]
    """By seed: the weight and the folder of each cell."""
    ranks: tuple[int | None, ...]
    """Those of the first side."""
    samples: tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    """Where two cells are alike but for their seed and what is compared."""

    rank: int | None
    samples: int
    training: str


_Side = Mapping[_Place, Mapping[int, ContrastCell]]
"""The cells of one side by place and seed."""


def weighted_cells(contrast: ContrastConfig, cells: Sequence[ContrastCell]) -> list[WeightedCells]:
    """The weights of a contrast, for each base.

    Raises UserError for a rank, sample count or setting that the cells do not have, for sides that share no place, and
    for a side that is several settings at once.
    """
    bases = dict.fromkeys(cell.base for cell in cells if cell.method in contrast.methods)
    return [_on_base(contrast, [cell for cell in cells if cell.base == base], base) for base in bases]


def _on_base(contrast: ContrastConfig, cells: Sequence[ContrastCell], base: object) -> WeightedCells:
    sides = [contrast.of] if contrast.against is None else [contrast.of, contrast.against]
    selected = [_cells_of(side, cells) for side in sides]
    at_own_ranks = len(selected) == 2 and _at_own_ranks(sides, selected)
    placed = [_by_place(side, members, contrast, at_own_ranks) for side, members in zip(sides, selected, strict=True)]
    common = [place for place in placed[0] if all(place in side for side in placed)]
    common = _restricted(contrast, common, placed)
    weights = _weights(contrast, common)
    seeds = sorted(set.intersection(*(set(side[place]) for place in common for side in placed)))
    by_seed = {
        seed: [
            (sign * weight, side[place][seed].folder)
            for place, weight in zip(common, weights, strict=True)
            for sign, side in zip((1.0, -1.0), placed, strict=False)
        ]
        for seed in seeds
    }
    ranks = dict.fromkeys(cell.rank for place in common for cell in placed[0][place].values())
    return WeightedCells(base, by_seed, tuple(ranks), tuple(dict.fromkeys(place.samples for place in common)))


def _cells_of(side: str | Settings, cells: Sequence[ContrastCell]) -> list[ContrastCell]:
    """The cells that a side selects."""
    chosen = _selected(side)
    members = [cell for cell in cells if cell.method == chosen["method"]]
    for key, wanted in chosen.items():
        values = [_value(cell, key) for cell in members]
        kept = [cell for cell, value in zip(members, values, strict=True) if value == wanted]
        if not kept:
            given = ", ".join(dict.fromkeys(str(value) for value in values)) or "no such cell"
            raise UserError(
                f"contrasts: no cell of this sweep is {_label(side)}; {key} is {given}",
                "Name a setting that the sweep trains, or leave it out.",
            )
        members = kept
    return members


def _value(cell: ContrastCell, key: str) -> object:
    if key in OWN:
        return getattr(cell, key)
    return cell.options[key] if key in cell.options else (cell.training or {}).get(key)


def _at_own_ranks(sides: Sequence[str | Settings], selected: Sequence[Sequence[ContrastCell]]) -> bool:
    """True where ranks do not pair the cells: a side names its rank, or each has a single one, and not the same."""
    ranks = [{cell.rank for cell in members} for members in selected]
    return any("rank" in _selected(side) for side in sides) or (
        all(len(of) == 1 for of in ranks) and ranks[0] != ranks[1]
    )


def _by_place(
    side: str | Settings, members: Sequence[ContrastCell], contrast: ContrastConfig, at_own_ranks: bool
) -> dict[_Place, dict[int, ContrastCell]]:
    fixed = {key for other in (contrast.of, contrast.against) if other is not None for key in _selected(other)}
    places: dict[_Place, dict[int, ContrastCell]] = {}
    for cell in members:
        training = {key: value for key, value in (cell.training or {}).items() if key not in fixed}
        place = _Place(None if at_own_ranks else cell.rank, cell.samples, repr(sorted(training.items(), key=str)))
        other = places.setdefault(place, {}).setdefault(cell.seed or 0, cell)
        if other is not cell:
            keys = [key for key in cell.options if cell.options[key] != other.options.get(key)] or ["rank"]
            raise UserError(
                f"contrasts: {_label(side)} is several settings, which differ in {', '.join(keys)}",
                f"Name one: {{method: {cell.method}, {keys[0]}: {_value(cell, keys[0])}}}.",
            )
    return places


def _restricted(contrast: ContrastConfig, common: list[_Place], placed: Sequence[_Side]) -> list[_Place]:
    """The places that the contrast names, each of which both sides must have."""
    names = " and ".join(filter(None, (contrast.label_of, contrast.label_against)))
    for key, wanted in (("rank", contrast.at_ranks), ("samples", contrast.at_samples)):
        have = sorted({value for place in common if (value := getattr(place, key)) is not None})
        missing = [value for value in wanted or () if value not in have]
        if missing:
            raise UserError(
                f"contrasts: {key} {', '.join(map(str, missing))} of {names} is not in this sweep, which has "
                f"{', '.join(map(str, have)) or 'none that they share'}",
                "Name those that it trains, or leave them out for all.",
            )
        if wanted is not None:
            common = [place for place in common if getattr(place, key) in wanted]
    if not common:
        ranks = "; ".join(
            ", ".join(f"{rank}" for rank in dict.fromkeys(place.rank for place in side)) for side in placed
        )
        raise UserError(
            f"contrasts: {names} share no rank, samples and training settings (ranks: {ranks})",
            "Train both at an equal rank, or name a rank on each side: {method: lora, rank: 16}.",
        )
    return common


def _weights(contrast: ContrastConfig, places: Sequence[_Place]) -> list[float]:
    """Of the mean over the places, or of the least-squares slope per doubling at equal other settings."""
    if contrast.per_doubling is None:
        return [1 / len(places)] * len(places)
    lines: dict[tuple[object, ...], list[int]] = {}
    for number, place in enumerate(places):
        rest = (place.samples if contrast.per_doubling == "rank" else place.rank, place.training)
        lines.setdefault(rest, []).append(number)
    values = [place.rank if contrast.per_doubling == "rank" else place.samples for place in places]
    lines = {rest: members for rest, members in lines.items() if len({values[number] for number in members}) > 1}
    if not lines or any(values[number] is None for members in lines.values() for number in members):
        raise UserError(
            f"contrasts: a slope per doubling of {contrast.per_doubling} needs two values of it, and "
            f"{contrast.label_of} has {', '.join(str(value) for value in dict.fromkeys(values))}",
            f"Leave out per_doubling, or train at more values of {contrast.per_doubling}.",
        )
    weights = [0.0] * len(places)
    for members in lines.values():
        for number, weight in zip(members, slope_weights([values[number] or 0 for number in members]), strict=True):
            weights[number] = weight / len(lines)
    return weights


def slope_weights(values: Sequence[float]) -> list[float]:
    """Weights whose sum with the scores at these values is their least-squares slope per doubling."""
    doublings = np.array([math.log2(value) for value in values])
    centred = doublings - doublings.mean()
    return [float(weight) for weight in centred / (centred**2).sum()]


def _selected(side: str | Settings) -> Settings:
    return {"method": side} if isinstance(side, str) else side


def _label(side: str | Settings) -> str:
    chosen = _selected(side)
    parts = [f"r{value}" if key == "rank" else f"{key}={value}" for key, value in chosen.items() if key != "method"]
    return " ".join([str(chosen["method"]), *parts])
