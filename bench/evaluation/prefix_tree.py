"""Continuations that share a prefix, packed into one row of tokens: every shared token once, then the branches.

A row holds the tokens of a prefix tree in an order in which each token comes after its parent. A token attends to its
ancestors and itself only and has the position that it has in its own text. A model in which nothing else influences a
token therefore computes for each continuation what it would compute for that text alone.

T tokens of a row, S of its segments (runs of tokens that were added together).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Continuation:
    """A continuation to be scored: the tokens of its context and its own tokens. Neither is empty."""

    context: Sequence[int]
    tokens: Sequence[int]

    @property
    def inputs(self) -> list[int]:
        """The tokens that the model must read to predict all of the continuation: all but the last."""
        return [*self.context, *self.tokens[:-1]]


@dataclass
class PackedRow:
    """The tokens of some continuations; texts that begin alike share tokens."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Of each token in its own text, from 0."""
    prompt: list[bool] = field(default_factory=list)
    """Whether each token belongs to a context."""
    segments: list[tuple[int, int]] = field(default_factory=list)
    """(first token, the token before it in its own text or -1) of each segment, (S)."""
    paths: list[tuple[int, list[int]]] = field(default_factory=list)
    """The number of each continuation, and the tokens of the row that predict its tokens, in their order."""
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, number: int, continuation: Continuation) -> None:
        """Add a continuation; the tokens that it shares with the row are not added again."""
        node, branched, path = -1, False, []
        for position, token in enumerate(continuation.inputs):
            child = self._children.get((node, token))
            if child is None:
                child = len(self.tokens)
                if not branched:
                    self.segments.append((child, node))
                    branched = True
                self._children[node, token] = child
                self.tokens.append(token)
                self.positions.append(position)
                self.prompt.append(position < len(continuation.context))
            node = child
            if position >= len(continuation.context) - 1:
                path.append(node)
        self.paths.append((number, path))

    def shared_tokens(self, continuation: Continuation) -> int:
        """How many of the continuation's input tokens the row has already."""
        node, shared = -1, 0
        for token in continuation.inputs:
            if (node, token) not in self._children:
                break
            node, shared = self._children[node, token], shared + 1
        return shared

    @property
    def has_branches(self) -> bool:
        """False for a plain text, which needs no tree mask."""
        return len(self.segments) > 1

    def visible(self, length: int) -> np.ndarray:
        """The tree mask, (length, length) bool: row i is what token i attends to.

        Padding attends to the tokens before it, so that no row of the softmax is empty; its outputs are not used.
        """
        mask = np.zeros((length, length), dtype=bool)
        ends = [begin for begin, _ in self.segments[1:]] + [length]
        for (begin, parent), end in zip(self.segments, ends, strict=True):
            if parent >= 0:
                mask[begin:end] = mask[parent]
            mask[begin:end, begin:end] = np.tri(end - begin, dtype=bool)
        return mask


def pack_rows(continuations: Sequence[Continuation], groups: Iterable[Hashable], max_tokens: int) -> list[PackedRow]:
    """Pack the continuations into rows, the longest row first.

    Continuations of one group share a row if they have the same first token and the row has at most `max_tokens`
    tokens. A continuation whose group is None gets a row of its own.
    """
    open_rows: dict[Hashable, PackedRow] = {}
    rows = []
    for number, (continuation, group) in enumerate(zip(continuations, groups, strict=True)):
        inputs = continuation.inputs
        row = open_rows.get((group, inputs[0])) if group is not None else None
        if row is None or len(row) + len(inputs) - row.shared_tokens(continuation) > max_tokens:
            row = PackedRow()
            rows.append(row)
            open_rows[group, inputs[0]] = row
        row.add(number, continuation)
    return sorted(rows, key=len, reverse=True)
