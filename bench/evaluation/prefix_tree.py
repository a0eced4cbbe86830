"""Continuations that share a prefix as one row of tokens: each shared token once, its followers as branches.

A row holds the tokens of a prefix tree in an order in which each comes after its parent. A token sees its ancestors
and itself alone and has the position that it would have in its own text, so a model that looks at no more than that
computes for each continuation what it would compute for its text alone.

T tokens of a row, S of its segments (runs of tokens that were added together).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Scored:
    """A continuation to be scored: the tokens of its context and its own. Neither is empty."""

    context: Sequence[int]
    continuation: Sequence[int]

    @property
    def inputs(self) -> list[int]:
        """What the model must have read to predict all of it: the last token predicts nothing."""
        return [*self.context, *self.continuation[:-1]]


@dataclass
class Row:
    """The tokens of some continuations, shared where their texts begin alike."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Of each token in its own text, from 0."""
    prompt: list[bool] = field(default_factory=list)
    """Whether it belongs to a context."""
    segments: list[tuple[int, int]] = field(default_factory=list)
    """(first token, the token before it in its own text or -1) of each segment, (S)."""
    paths: list[tuple[int, list[int]]] = field(default_factory=list)
    """A continuation's number, and the tokens of the row that predict its own, in their order."""
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, number: int, one: Scored) -> None:
        """Put a continuation in; what the row has of its text already is not put in again."""
        at, new, path = -1, False, []
        for position, token in enumerate(one.inputs):
            known = self._children.get((at, token))
            if known is None:
                known = len(self.tokens)
                if not new:
                    self.segments.append((known, at))
                    new = True
                self._children[at, token] = known
                self.tokens.append(token)
                self.positions.append(position)
                self.prompt.append(position < len(one.context))
            at = known
            if position >= len(one.context) - 1:
                path.append(at)
        self.paths.append((number, path))

    def shared(self, one: Scored) -> int:
        """How many of its tokens the row has already."""
        at, known = -1, 0
        for token in one.inputs:
            if (at, token) not in self._children:
                break
            at, known = self._children[at, token], known + 1
        return known

    @property
    def branches(self) -> bool:
        """Whether it is more than a plain text."""
        return len(self.segments) > 1

    def visible(self, length: int) -> np.ndarray:
        """Which token sees which, (length, length) bool: row i is what token i sees. Padding sees what lies before it,
        which is never looked at: a row of nothing would be no softmax."""
        seen = np.zeros((length, length), dtype=bool)
        ends = [begin for begin, _ in self.segments[1:]] + [length]
        for (begin, parent), end in zip(self.segments, ends, strict=True):
            if parent >= 0:
                seen[begin:end] = seen[parent]
            seen[begin:end, begin:end] = np.tri(end - begin, dtype=bool)
        return seen


def rows(scored: Sequence[Scored], groups: Iterable[Hashable], longest: int) -> list[Row]:
    """The continuations as rows: those of one group in one row, if they share a first token and it has at most
    `longest` tokens; the longest row first. A group of None stands alone."""
    open_rows: dict[Hashable, Row] = {}
    made = []
    for number, (one, group) in enumerate(zip(scored, groups, strict=True)):
        row = open_rows.get((group, one.inputs[0])) if group is not None else None
        if row is None or len(row) + len(one.inputs) - row.shared(one) > longest:
            row = Row()
            made.append(row)
            open_rows[group, one.inputs[0]] = row
        row.add(number, one)
    return sorted(made, key=len, reverse=True)
