"""Packed rows: shared tokens once, the tree mask against brute force, the limit of a row."""

from __future__ import annotations

from bench.evaluation.prefix_tree import Continuation, pack_rows


def test_a_row_holds_each_shared_token_once() -> None:
    texts = [([1, 2, 3], [4, 5, 6]), ([1, 2, 3], [4, 5, 7]), ([1, 2, 3], [8]), ([1, 9], [3, 4])]
    continuations = [Continuation(*text) for text in texts]
    (row,) = pack_rows(continuations, ["q"] * 4, max_tokens=99)
    assert row.tokens == [1, 2, 3, 4, 5, 9, 3]
    assert row.positions == [0, 1, 2, 3, 4, 1, 2]
    assert [path for _, path in row.paths] == [[2, 3, 4], [2, 3, 4], [2], [5, 6]]
    # By brute force: a token attends to its ancestors and itself.
    parents = [-1, 0, 1, 2, 3, 0, 5]
    for token in range(len(row)):
        ancestors, node = set(), token
        while node >= 0:
            ancestors.add(node)
            node = parents[node]
        assert set(row.visible(len(row))[token].nonzero()[0]) == ancestors
    assert len(pack_rows(continuations, ["q", "q", "r", None], max_tokens=99)) == 3
    assert len(pack_rows(continuations, ["q"] * 4, max_tokens=7)) == 1  # shared tokens count once
    assert len(pack_rows(continuations, ["q"] * 4, max_tokens=6)) == 2
