"""How figures look: one style, and for each method the same colour and marker everywhere (Okabe and Ito's
colour-blind-safe palette)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FIXED = {"lora": 0, "dora": 1, "full": 2, "vera": 3, "dvora": 4, "loreft": 5}
"""Places in the palette of the methods that every report compares."""
GREY = "#666666"
NEUTRAL = "#3C4A52"
"""Of the methods that have no place of their own, where their label stands beside them."""
DASHES = ("--", (0, (9, 2)), (0, (6, 2, 2, 2)), (0, (3, 4)))
"""Of the untuned bases, where there are several."""

STYLE: dict[RcKeyType, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "svg.hashsalt": "bench",
    "svg.fonttype": "path",
    # Labels are names, not formulas.
    "text.parse_math": False,
}


def styled(changes: Mapping[RcKeyType, object] | None = None) -> AbstractContextManager[None]:
    """The settings under which every figure is made and saved."""
    return matplotlib.rc_context({**STYLE, **(changes or {})})


def series_looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each series, no two alike among 64; the well-known methods keep theirs in every report."""
    names = list(names)
    looks: dict[str, tuple[str, str]] = {}
    taken = {FIXED[name] for name in names if name in FIXED}
    free = [place for place in range(len(COLOURS) * len(MARKERS)) if place not in taken]
    for name in names:
        place = FIXED[name] if name in FIXED else free.pop(0) if free else len(looks)
        turn, at = divmod(place, len(COLOURS))
        looks[name] = (COLOURS[at], MARKERS[(at + 3 * turn) % len(MARKERS)])
    return looks


def method_look(method: str) -> tuple[str, str]:
    """(colour, marker) of a method whose name stands beside it: its own, or those of all that have no place."""
    place = FIXED.get(method)
    return (NEUTRAL, "o") if place is None else (COLOURS[place], MARKERS[place])


def legend(figure: Figure, axes: list[Axes]) -> None:
    """What the panels show, each once, to their right; the figure grows with it."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(wrapped(label, 34), handle)
    lines = [line for label in entries for line in label.split("\n")]
    columns = math.ceil(len(lines) / 48)
    handles, labels = list(entries.values()), list(entries)
    axes[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, ncols=columns)
    width = columns * max(1.2, 0.75 + 0.075 * max(len(line) for line in lines))
    figure.set_size_inches(max(5.6, 4.2 * len(axes) + width), max(3.9, 0.8 + 0.21 * len(lines) / columns))


def wrapped(label: str, width: int) -> str:
    """A label in lines of this width; a word is broken only where it is longer than 60."""
    longest = max((len(word) for word in label.split()), default=0)
    return "\n".join(textwrap.wrap(label, max(width, min(longest, 60)), break_on_hyphens=False))
