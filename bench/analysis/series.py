"""The names of series: a series is the line that cells lie on in a figure, a method with its settings but its rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd
from pydantic import JsonValue

from bench.store.records import PlannedRecord
from bench.sweep.cell import Settings

PEFT_TYPE = "peft.peft_type"
"""The setting of the method `peft` that says which method of PEFT it is: others have other settings."""


def series_names(cells: Sequence[PlannedRecord]) -> list[str]:
    """The series of each planned cell: its method, and every setting that varies within the method on one base; within
    a type of PEFT, where cells of the method `peft` have several."""
    settings = [
        {**{f"training.{key}": value for key, value in (cell.training or {}).items()}, **_flat(cell.options)}
        for cell in cells
    ]
    several_bases = len({cell.base for cell in cells}) > 1
    names = [""] * len(cells)
    kinds = [str(values.get(PEFT_TYPE, "")) for values in settings]
    several_kinds = {cell.method for cell in cells if len(_kinds_of(cell.method, cells, kinds)) > 1}

    def peers_of(place: int) -> tuple[str, str, str]:
        return cells[place].method, cells[place].base, kinds[place]

    # Within a base: settings that its size determines (layers, say) are implied by its name.
    for (method, base, kind), group in groupby(sorted(range(len(cells)), key=peers_of), key=peers_of):
        peers = list(group)
        tuned = all(cells[place].tuned for place in peers)
        varying = [
            key
            for key in sorted({key for place in peers for key in settings[place] if key != "rank"})
            if len({repr(settings[place].get(key)) for place in peers}) > 1
            # Tuned, a learning rate is what the method comes with at that setting.
            and not (tuned and key.rpartition(".")[2] == "lr")
            and not _determined_by_rank(key, [(cells[place].rank, settings[place].get(key)) for place in peers])
        ]
        for place in peers:
            values = settings[place]
            parts = [
                f"{key.removeprefix('training.').removeprefix('peft.')}={values[key]}"
                for key in varying
                if key in values
            ]
            shown = [kind] if method in several_kinds else []
            names[place] = " ".join([method, *shown, *parts]) + (f" on {base}" if several_bases else "")
    return names


def _kinds_of(method: str, cells: Sequence[PlannedRecord], kinds: Sequence[str]) -> set[str]:
    return {kind for cell, kind in zip(cells, kinds, strict=True) if cell.method == method}


def cell_name(cell: PlannedRecord, series: str) -> str:
    """A cell's name, with the settings that distinguish its series from others of the method: it is unique."""
    more = series.removeprefix(cell.method).strip()
    return f"{cell.name} ({more})" if more else cell.name


def setting_labels(cells: pd.DataFrame) -> list[str]:
    """A short name of each cell without its seed: `lora r32`, with the samples where these cells have several counts,
    and with whatever else distinguishes its series from others of the method."""
    several = cells["samples"].nunique() > 1
    return [
        row.method
        + (f" r{row.rank:g}" if pd.notna(row.rank) else "")
        + (f" n={row.samples:,}" if several else "")
        + row.series.removeprefix(row.method)
        for row in cells.itertuples()
    ]


def _flat(options: Settings) -> Settings:
    """Settings with those of a part under `part.name`; a setting that a part repeats is kept once."""
    flat: Settings = {key: value for key, value in options.items() if not isinstance(value, dict)}
    for part, settings in options.items():
        if isinstance(settings, dict):
            flat = {key: value for key, value in flat.items() if key == "rank" or key not in settings}
            flat |= {f"{part}.{key}": value for key, value in settings.items()}
    return flat


def _determined_by_rank(key: str, pairs: Sequence[tuple[int | None, JsonValue]]) -> bool:
    """True if a setting is determined by the rank (e.g. alpha = 2r), from its (rank, value) pairs, so that it starts no
    new series. That is an alpha with one value a rank, and whole numbers in proportion to the rank (PEFT's own name of
    it; AdaLoRA's initial rank). A learning rate that was chosen for each rank is a choice, and is not."""
    if key.startswith("training."):
        return False
    values = {(rank, repr(value)): value for rank, value in pairs if rank is not None}
    if len(values) > len({rank for rank, _ in values}) or any(rank is None for rank, _ in pairs):
        return False
    if key.rpartition(".")[2].endswith(("alpha", "rank")):
        return True
    numbers = [
        (rank, value)
        for (rank, _), value in values.items()
        if isinstance(value, (int, float)) and value >= 1 and value == int(value)
    ]
    if len(numbers) < len(values):
        return False
    top, of_top = max(numbers)
    return all(abs(value - rank * of_top / top) < 1 for rank, value in numbers)
