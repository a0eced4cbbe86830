"""A reasoning model's thoughts hold numbers that are not the score."""

from __future__ import annotations

import pytest

from bench.judging.parsers import fastchat_rating, strict_rating
from bench.judging.thoughts import text_after_thoughts

REPLIES = [
    # text, finish reason, rating
    ("Rating: [[7]]", "stop", 7),
    ("Rating: [[7]]", "", 7),
    ("<think>Perhaps [[9]], perhaps [[2]].</think>\nRating: [[7]]", "stop", 7),
    ("Perhaps [[9]].\n</think>\n\nRating: [[7]]", "stop", 7),  # the chat template opened the thoughts
    ("<think>[[9]]</think> Or not. <think>[[2]]</think>[[7]]", "end_turn", 7),
    ("  <THINK>\n[[9]]\n</think>[[7]]", "EOS", 7),
    ("[THINK]a [[9]][/THINK]Rating: [[7]]", "stop", 7),
    ("◁think▷[[9]]◁/think▷[[7]]", "stop", 7),
    ("<seed:think>[[9]]</seed:think>[[7]]", "stop", 7),
    ("<|begin_of_thought|>[[9]]<|end_of_thought|>[[7]]", "stop", 7),
    ("<|channel|>analysis<|message|>[[9]]<|end|><|start|>assistant<|channel|>final<|message|>[[7]]", "stop", 7),
    # Unfinished thoughts, with and without the reason.
    ("<think>It could be [[9]], but", "length", None),
    ("<think>It could be [[9]], but", "stop", None),
    ("It could be [[9]], but", "length", None),
    ("Well.\n<thinking>\n[[9]]", "stop", None),
    ("<think>[[9]]</think>", "stop", None),
    # Cut off, or stopped by others than the model.
    ("Rating: [[9]], for", "LENGTH", None),
    ("Rating: [[9]]", "MAX_TOKENS", None),
    ("Rating: [[9]]", "content_filter", None),
    ("Rating: [[9]]", "SAFETY", None),
    ("Rating: [[9]]", "abort", None),
    # Tags that the judge quotes from the answer.
    ("The answer holds an unclosed <think> tag. [[3]]", "stop", 3),
    ("[[3]], because of a stray `</think>` in it.", "stop", 3),
]


@pytest.mark.parametrize(("text", "finish_reason", "rating"), REPLIES)
def test_only_what_follows_complete_thoughts_is_a_verdict(text: str, finish_reason: str, rating: float | None) -> None:
    answer = text_after_thoughts(text, finish_reason)
    assert strict_rating(answer) == rating
    assert fastchat_rating(answer) == rating


def test_long_thoughts_take_no_time() -> None:
    for text in ("<think>" * 100_000, "\n" * 500_000, " " * 500_000, "</think>" * 100_000, "<|" * 300_000):
        assert not text_after_thoughts(text, "stop").strip() or text.startswith("<|")
