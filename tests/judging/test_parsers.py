"""Readings of judgments: the known shapes with what each comes to, and FastChat's algorithm restated."""

from __future__ import annotations

import ast
import itertools
import re

import pytest

from bench.judging.parsers import fastchat_rating, fastchat_verdict, strict_rating, strict_verdict

RATINGS = [
    # text, FastChat's, strict
    ("Rating: [[5]]", 5, 5),
    ("A fair answer. Rating: [[7.5]]", 7.5, 7.5),
    ("[[08]]", None, 8),  # FastChat: SyntaxError
    ("[[8/10]]", None, 8),  # FastChat: -1
    ("[[ 8 ]]", None, 8),
    ("As in [1] it says. Rating: 7", 1, None),
    ("[[3]], but no: [[9]]", 3, 9),
    ("[[95]]", 95, None),
    # More shapes.
    ("", None, None),
    ("No rating at all, 8 of 10.", None, None),
    ("Rating: [8]", 8, None),
    ("[1] is cited. Rating: [[6]]", 6, 6),
    ("[[0]]", 0, None),
    ("[[11]]", 11, None),
    ("[[10]]", 10, 10),
    ("[[1]]", 1, 1),
    ("[[0.9]]", 0.9, None),
    ("[[10.5]]", 10.5, None),
    ("[[8.]]", 8, 8),
    ("[[.5]]", None, None),
    ("[[08.5]]", 8.5, 8.5),  # a literal of Python, unlike 08
    ("[[00]]", 0, None),
    ("[[ 8 / 10 ]]", None, 8),
    ("[[7.5/10.0]]", None, 7.5),
    ("[[8/100]]", None, None),
    ("[[8/5]]", None, None),
    ("[[-3]]", None, None),
    ("[[8,5]]", None, None),
    ("[[rating]]", None, None),
    ("[[Rating: 8]]", None, None),
    ("[[7]] of [[95]]", 7, 7),
    ("[[95]] or rather [[7]]", 95, 7),
    ("[[[8]]]", 8, 8),
    ("**[[8]]**", 8, 8),
    ("[[8]", 8, None),
    ("[[8\n]]", None, 8),
    ("[[1e1]]", None, None),
    ("[[8]] [[8/10]] [[ 9 ]]", 8, 9),
    ("[[\u0668]]", None, None),  # a digit that \d takes and Python does not
    ("[[" + "9" * 400 + "]]", None, None),
    ("[[" + "9" * 400 + ".0]]", None, None),
    ("[[" + "9" * 5000 + "]]", None, None),  # more digits than Python reads
    ("x[0] = 1; the rating is [[4]]", 4, 4),
]
VERDICTS = [
    # text, FastChat's, strict
    ("[[A]]", "A", "A"),
    ("Therefore [[B]]", "B", "B"),
    ("[[C]]", "tie", "tie"),
    ('"[[A]]" if A is better, "[[B]]" if B: [[B]]', "A", "B"),
    ("[[B]] and [[C]]", "B", "tie"),
    ("[[C]], no, [[B]]", "B", "B"),
    ("[A]", None, None),
    ("[[a]]", None, None),
    ("[[ A ]]", None, None),
    ("[[D]]", None, None),
    ("[[tie]]", None, None),
    ("", None, None),
    ("[[[A]]]", "A", "A"),
    ("Assistant A is better.", None, None),
]


@pytest.mark.parametrize(("text", "fastchat", "strict"), RATINGS)
def test_ratings(text: str, fastchat: float | None, strict: float | None) -> None:
    assert fastchat_rating(text) == fastchat
    assert strict_rating(text) == strict


@pytest.mark.parametrize(("text", "fastchat", "strict"), VERDICTS)
def test_verdicts(text: str, fastchat: str | None, strict: str | None) -> None:
    assert fastchat_verdict(text) == fastchat
    assert strict_verdict(text) == strict


def score_of_fastchat(judgment: str) -> float:
    """run_judge_single's lines after the judge has spoken, in other words. -1: no match."""
    match = re.search(r"\[\[(\d+\.?\d*)\]\]", judgment)
    if not match:
        match = re.search(r"\[(\d+\.?\d*)\]", judgment)
    return ast.literal_eval(match.groups()[0]) if match else -1


def winner_of_fastchat(judgment: str) -> str:
    """run_judge_pair's."""
    if "[[A]]" in judgment:
        return "A"
    if "[[B]]" in judgment:
        return "B"
    return "tie" if "[[C]]" in judgment else "error"


PIECES = ["[", "]", "[[", "]]", "8", "08", ".", "5", "/10", " ", "A", "[[C]]", "10"]


def test_any_text_reads_as_in_fastchat() -> None:
    """Every text of up to four pieces that judgments are made of."""
    texts = ["".join(parts) for length in range(1, 5) for parts in itertools.product(PIECES, repeat=length)]
    texts += [text for text, _, _ in (*RATINGS, *VERDICTS) if len(text) < 300]
    read = 0
    for text in texts:
        try:
            told: float | None = score_of_fastchat(text)
        except SyntaxError:
            told = None
        assert fastchat_rating(text) == (None if told == -1 else told), text
        winner = winner_of_fastchat(text)
        assert fastchat_verdict(text) == (None if winner == "error" else winner), text
        strict = strict_rating(text)
        assert strict is None or 1 <= strict <= 10
        read += told is not None and told != -1
    assert read > 100


def test_long_texts_take_no_time() -> None:
    for text in ("[[" * 50_000, "[[8" + " " * 100_000, "[[" + "1" * 50_000, "[[8/" * 50_000, "[" * 100_000):
        for reads in (fastchat_rating, strict_rating, fastchat_verdict, strict_verdict):
            assert reads(text) is None
