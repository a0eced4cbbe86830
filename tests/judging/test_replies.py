"""What the replies of judges look like today: thoughts, parts, no text, impossible counts; each is read or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from helpers.judge_server import KEY, Asked, Handler, Server, completion, good, refuses, says

from bench.data.open_questions import OpenQuestion, Turn
from bench.judging.endpoint_settings import Endpoint
from bench.judging.judges import EndpointJudge
from bench.judging.judgment_records import AnswerToRate, ModelRating, Rating
from bench.judging.prompts import Prompt
from bench.judging.thoughts import incomplete

pytestmark = pytest.mark.usefixtures("key_that_shows_nowhere")


def with_message(finish_reason: str = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    reply = completion("", finish_reason)
    reply["choices"][0]["message"] = {"role": "assistant", **message}
    return {**reply, "usage": usage} if usage is not None else reply


def rated(server: Server, answer: Callable[[Handler], None], **settings: Any) -> tuple[list[ModelRating], list[str]]:
    """The rating of one answer by a judge that answers so for ever, or the reason why there is none."""
    server.usual = answer
    server.seen.clear()
    judge = EndpointJudge(Endpoint("judge", **{"base_url": server.url, "concurrency": 1, **settings}))
    ratings: list[Rating] = []
    question = OpenQuestion(1, "writing", (Turn("Who wrote it?"),))
    result = judge.rate([AnswerToRate("set", question, 1, ("She did.",))], ratings.append, lambda *_: None)
    kept = [rating for rating in ratings if isinstance(rating, ModelRating)]
    assert len(kept) + len(result.failed) == 1
    return kept, list(result.failed.values())


def test_a_reply_that_was_cut_off_inside_its_thoughts_is_missing(server: Server) -> None:
    """It is asked for once more with more tokens, and then kept without a rating."""
    answer = says(200, completion("<think>Perhaps [[9]]. Or rather", "length"))
    (rating,), _ = rated(server, answer)
    assert (rating.score, rating.strict, rating.reported_score, rating.fastchat_score) == (None, None, None, None)
    assert rating.judgment.startswith("<think>") and incomplete(rating.finish_reason)
    assert [body["max_tokens"] for _, _, body in server.seen] == [2048, 8192]
    (rating,), _ = rated(server, says(200, completion("Perhaps [[9]]. Or rather", "length")))
    assert (rating.score, rating.strict) == (None, None) and len(server.seen) == 1
    (rating,), _ = rated(server, says(200, completion("<think>[[9]]</think> Rating: [[7]]")))
    assert (rating.score, rating.strict) == (7, 7) and len(server.seen) == 1


def test_a_rating_that_an_older_version_read_in_a_cut_reply_counts_for_nothing(server: Server) -> None:
    (rating,), _ = rated(server, good)
    old = rating.model_copy(update={"finish_reason": "length", "score": 9, "strict": 9})
    assert (old.reported_score, old.fastchat_score) == (None, None)


def test_a_server_that_counts_the_tokens_but_gives_no_reason_cut_the_reply_off(server: Server) -> None:
    reply = completion("Perhaps [[9]]. Or rather", usage=True)
    del reply["choices"][0]["finish_reason"]
    (rating,), _ = rated(server, says(200, reply), max_tokens=50)  # it counts 50
    assert (rating.finish_reason, rating.strict) == ("length", None)
    (rating,), _ = rated(server, says(200, reply), max_tokens=51)
    assert (rating.finish_reason, rating.strict) == ("", 9)


NO_TEXT = {
    "null": (with_message("length", content=None), "the reply has no text (finish_reason length)"),
    "empty": (with_message("length", content=""), "the reply has no text (finish_reason length)"),
    "blank": (with_message(content=" \n"), "the reply has no text (finish_reason stop)"),
    "no parts": (with_message(content=[]), "the reply has no text (finish_reason stop)"),
    "a number": (with_message(content=9), "the reply has no text (finish_reason stop)"),
    "refusal": (with_message(content=None, refusal="I can't\n judge this."), "the model refused (I can't judge this.)"),
    "filtered": (with_message("content_filter", content=None), "the reply has no text (finish_reason content_filter)"),
    "thoughts beside it": (
        with_message("length", content=None, reasoning_content="Perhaps [[9]]"),
        "the reply has no text (finish_reason length)",
    ),
    "thoughts as parts": (
        with_message("length", content=[{"type": "thinking", "thinking": [{"type": "text", "text": "[[9]]"}]}]),
        "the reply has no text (finish_reason length)",
    ),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_a_reply_without_text_is_asked_for_once_more_with_more_tokens_and_then_missing(
    server: Server, kind: str
) -> None:
    reply, reason = NO_TEXT[kind]
    assert rated(server, says(200, reply), max_tokens=100) == ([], [reason])
    assert [body["max_tokens"] for _, _, body in server.seen] == [100, 400]
    server.script.append(says(200, reply))
    (rating,), _ = rated(server, good)
    assert rating.strict == 7
    # The first reply of thoughts alone is kept where the second request fails.
    server.script.append(says(200, completion("<think>[[9]]", "length")))
    (rating,), _ = rated(server, refuses(400, "max_tokens is too large: 8192"))
    assert rating.judgment == "<think>[[9]]" and rating.strict is None


READ = {
    "parts": with_message(content=[{"type": "text", "text": "Fine. "}, {"type": "text", "text": "[[7]]"}]),
    "thinking part": with_message(
        content=[
            {"type": "thinking", "thinking": [{"type": "text", "text": "[[9]]"}]},
            {"type": "text", "text": "[[7]]"},
        ]
    ),
    "reasoning part": with_message(
        content=[{"type": "reasoning", "text": "[[9]]"}, {"type": "output_text", "text": "[[7]]"}]
    ),
    "plain parts": with_message(content=["[[7", "]]"]),
    "parts without type": with_message(content=[{"text": "[[7]]"}, {"type": "image_url"}, None, 3]),
    "thoughts beside it": with_message(content="[[7]]", reasoning_content="[[9]]"),
    "reasoning beside it": with_message(content="[[7]]", reasoning="[[9]]", reasoning_details=[{"text": "[[9]]"}]),
}


@pytest.mark.parametrize("shape", READ)
def test_a_reply_of_parts_or_with_thoughts_beside_it_is_read(server: Server, shape: str) -> None:
    (rating,), _ = rated(server, says(200, READ[shape]))
    assert (rating.score, rating.strict) == (7, 7) and "9" not in rating.judgment


DEEP = {"depth": b"[" * 100_000 + b"]" * 100_000, "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}


@pytest.mark.parametrize("shape", DEEP)
@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_deeply_nested_json_costs_one_judgment(server: Server, shape: str, status: int) -> None:
    server.script.extend([good, *[says(status, DEEP[shape])] * (2 if status == 200 else 1)])
    asked = Asked(server, 3, tries=2)
    if status == 401:
        assert asked.error is not None and list(asked.replies) == [0]
    else:
        assert list(asked.replies) == [0, 2] and len(asked.failed[1]) < 400
    message = json.dumps(completion("x")).encode().replace(b'"x"', b'"\\n"').replace(b'"stop"', DEEP[shape])
    server.script.extend([says(200, message)] * 2)
    assert not Asked(server, tries=2).replies


COUNTS = ["-32000000", "1" + "0" * 30, "9" * 4000, "1.5", '"50"', "null", "true", "[1]", "Infinity", "NaN", "{}"]


@pytest.mark.parametrize("count", COUNTS, ids=lambda count: count[:12])
def test_an_impossible_count_of_tokens_counts_as_none(server: Server, count: str) -> None:
    """So that the spending limit still holds: such a reply costs its reserve."""
    usage = json.dumps({"prompt_tokens": "count", "completion_tokens": "count"})
    body = json.dumps({**completion("fine\n"), "usage": "usage"}).replace(
        '"usage"}', usage.replace('"count"', count) + "}"
    )
    server.usual = says(200, body.encode())
    prices = {"price_in": 1000.0, "price_out": 1000.0, "max_tokens": 100}
    asked = Asked(server, [Prompt("p", "", "z" * 400)] * 10, spending_limit=1.0, **prices)
    assert asked.usage.dollars == pytest.approx(1.0)  # 0.2 each
    assert len(asked.replies) == 5 and set(asked.failed.values()) == {"spending limit reached"}
    assert (asked.usage.prompt_tokens, asked.usage.completion_tokens) == (0, 0)
    assert asked.replies[0].prompt_tokens is None


def test_the_key_is_blotted_out_in_every_field_of_a_reply(server: Server) -> None:
    reply = completion(f"{KEY} {KEY[::-1]} {KEY.encode().hex()} [[7]]", f"stop {KEY}")
    reply["model"] = f"judge of {KEY}"
    (rating,), _ = rated(server, says(200, reply))
    assert (rating.judgment, rating.served, rating.finish_reason) == ("*** *** *** [[7]]", "judge of ***", "stop ***")
    assert rating.strict == 7
    _, (reason,) = rated(server, says(200, with_message(content=None, refusal=f"No, {KEY[::-1]}.")))
    assert reason == "the model refused (No, ***.)"


def test_what_a_terminal_or_a_file_cannot_hold_is_replaced(server: Server) -> None:
    reply = completion("half a pair \ud83d\n", "stop\x1b[2J\ud83d")
    reply["model"] = {"name": "\ud83d\x1b]0;title\x07"}
    (rating,), _ = rated(server, says(200, reply))
    assert (rating.judgment, rating.finish_reason) == ("half a pair ?\n", "stop [2J?")
    assert rating.served.isprintable() and rating.served.encode()
    _, (reason,) = rated(server, refuses(400, "no \x1b[31m\ud83d\u202e"))
    assert reason == "HTTP 400: no [31m?"


def test_a_reply_with_an_error_beside_its_text_is_no_judgment(server: Server) -> None:
    """A router that loses its model in the midst of a reply sends status 200, the text up to there and the error."""
    broken = {
        **completion("[[9]] at first sight"),
        "error": {"message": f"upstream of {KEY} is gone", "code": 502},
    }
    (choice,) = (within := completion("[[9]] at first sight"))["choices"]
    choice["error"] = {"message": "upstream of *** is gone"}
    for reply in (broken, within):
        assert rated(server, says(200, reply), tries=1) == ([], ["the reply has no text (upstream of *** is gone)"])
    server.script.append(says(200, broken))
    server.usual = good
    assert Asked(server, tries=2).replies[0].text == "To question 0: [[7]]"


USAGES = {
    "both": ({"prompt_tokens": 100, "completion_tokens": 50}, 0.150),
    "thoughts in the total alone": ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 450}, 0.450),
    "a total that is too small": ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 7}, 0.150),
    "an impossible total": ({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 10**30}, 0.150),
    "only a large prompt": ({"prompt_tokens": 5000}, 5.500),
    "only a large reply": ({"completion_tokens": 5000}, 5.100),
    "neither": ({}, 0.600),
}


@pytest.mark.parametrize("kind", USAGES)
def test_what_a_server_does_not_count_costs_its_reserve(server: Server, kind: str) -> None:
    usage, dollars = USAGES[kind]
    server.usual = says(200, {**completion("fine\n"), "usage": usage})
    asked = Asked(server, [Prompt("p", "", "z" * 400)], price_in=1000.0, price_out=1000.0, max_tokens=500)
    assert asked.usage.dollars == pytest.approx(dollars) and asked.replies


def test_a_prompt_in_another_script_reserves_what_it_may_cost(server: Server) -> None:
    """A Chinese character is one to two tokens, not a quarter of one."""
    text = "\u6c34" * 1000
    server.usual = says(200, {**completion("fine\n"), "usage": {"prompt_tokens": 1300, "completion_tokens": 1}})
    prices = {"price_in": 1000.0, "price_out": 0.0, "spending_limit": 6.0}
    asked = Asked(server, [Prompt("p", "", text)] * 20, concurrency=8, **prices)
    assert asked.usage.dollars is not None and 3 < asked.usage.dollars <= 6.0
