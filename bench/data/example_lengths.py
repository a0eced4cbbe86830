"""How long the examples of each training set are, how many of them a limit cuts, and which limit they need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.data.encoding import Encoded
from bench.data.examples import Example
from bench.errors import CellProblem
from bench.store.records import SetLengths
from bench.sweep.sections import TrainingConfig

USUAL_SHARE = 0.99
"""The share of the rows that a suggested limit leaves whole."""
LIMIT_STEP = 64
"""Suggested limits are multiples of this."""


def set_lengths(examples: Sequence[Example], rows: Sequence[Encoded]) -> dict[str, SetLengths]:
    """By training set, how long its examples are; `rows` are the examples as tokens, in their order."""
    by_set: dict[str, list[Encoded]] = {}
    for example, row in zip(examples, rows, strict=True):
        by_set.setdefault(example.task, []).append(row)
    return {name: _lengths(by_set[name]) for name in sorted(by_set)}


def _lengths(rows: Sequence[Encoded]) -> SetLengths:
    lengths = sorted(row.length for row in rows)
    return SetLengths(
        rows=len(rows),
        cut=sum(row.truncated for row in rows),
        cut_answers=sum(row.answer_cut > 0 for row in rows),
        no_answers=sum(map(_has_no_answer, rows)),
        usual=lengths[math.ceil(USUAL_SHARE * len(lengths)) - 1],
        longest=lengths[-1],
    )


def _has_no_answer(row: Encoded) -> bool:
    return len(row.ids) <= row.prompt_length


def check_supervised(rows: Sequence[Encoded], config: TrainingConfig) -> None:
    """Raises CellProblem if the limit leaves nothing to train on: `truncate: end` cuts the answer of a long prompt."""
    if rows and config.loss == "answer" and all(map(_has_no_answer, rows)):
        raise CellProblem(
            f"training.max_length {config.max_length} with truncate: {config.truncate} leaves no row a token of its "
            "answer, so that nothing would be trained",
            f"Set training.truncate: start, or a max_length above {max(row.prompt_length for row in rows):,} tokens: "
            f"the longest row has {max(row.length for row in rows):,}.",
        )


def suggested_limit(lengths: Mapping[str, SetLengths]) -> int:
    """The multiple of 64 tokens that leaves 99 % of the rows of every set whole; 0 without a set."""
    most = max((record.usual for record in lengths.values()), default=0)
    return math.ceil(most / LIMIT_STEP) * LIMIT_STEP


def length_sentences(lengths: Mapping[str, SetLengths], max_length: int) -> list[str]:
    """What a limit of `max_length` tokens cuts of each set, and the limit that the sets need; empty if it cuts none."""
    sentences = []
    for name, record in lengths.items():
        if record.cut:
            answers = f", and {record.cut_answers:,} of these the end of the answer" if record.cut_answers else ""
            answers += f" ({record.no_answers:,} the whole answer)" if record.no_answers else ""
            sentences.append(
                f"{name}: {record.cut:,} of {record.rows:,} rows are longer than training.max_length {max_length} and "
                f"are cut{answers}; 99 % of the rows have at most {record.usual:,} tokens, the longest has "
                f"{record.longest:,}"
            )
    limit = suggested_limit({name: record for name, record in lengths.items() if record.cut})
    if limit > max_length:
        sentences.append(f"training.max_length: {limit} leaves 99 % of the rows of every set whole")
    return sentences
