"""Asking an endpoint: a server on the loopback does everything wrong that servers do, and the key stays where it is."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from helpers.judge_server import (
    KEY,
    SEEN_BY_ALL,
    Asked,
    Handler,
    Server,
    completion,
    drops,
    good,
    half,
    refuses,
    says,
    silent,
    slow,
)

from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint
from bench.judging.prompts import Prompt
from bench.judging.reply import Reply
from bench.judging.request import NO_KEY, make_client
from bench.judging.request_queue import FIRST_WAIT, Usage, send_all

pytestmark = pytest.mark.usefixtures("key_that_shows_nowhere")


def test_what_is_sent_and_what_comes_back(server: Server) -> None:
    server.script.append(good)
    server.script.append(says(200, completion("cut\n", "length", usage=False)))
    server.script.append(says(200, completion("half a pair: \ud83d\n")))
    asked = Asked(server, [Prompt("p", "Be fair.", "one"), Prompt("p", "", "two"), Prompt("p", "", "three")])
    first, second, third = (asked.replies[number] for number in range(3))
    assert first == Reply("To one: [[7]]", "judge-2026-01-01", 100, 50, "stop")
    assert second == Reply("cut\n", "judge-2026-01-01", None, None, "length")
    assert third.text == "half a pair: ?\n"
    assert asked.usage == Usage(3, 200, 100, None, 0, 0)
    assert not asked.failed and not asked.waits
    assert asked.notes[-1] == (3, 3, "judgments")
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert set(body) == SEEN_BY_ALL
    assert body["messages"] == [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "one"}]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0, 2048)
    assert server.seen[1][2]["messages"] == [{"role": "user", "content": "two"}]
    Asked(server, seed=3, temperature=0.5, max_tokens=9)
    assert server.seen[-1][2].items() >= {"seed": 3, "temperature": 0.5, "max_tokens": 9}.items()
    assert set(server.seen[-1][2]) == SEEN_BY_ALL | {"seed"}


def at(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


HEALED = {
    "429": (refuses(429), None),
    "429 with Retry-After": (refuses(429, Retry_After="7"), (7, 8)),
    "429 with a date": (lambda handler: refuses(429, Retry_After=at(20))(handler), (18, 21)),
    "429 with milliseconds": (refuses(429, retry_after_ms="2500"), (2.5, 3.5)),
    "429 with nonsense": (refuses(429, Retry_After="soon"), None),
    "503 with Retry-After": (refuses(503, Retry_After="0"), (0, 1)),
    "408": (refuses(408), None),
    "409": (refuses(409), None),
    "425": (refuses(425), None),
    "500": (says(500, b"<html>oops</html>"), None),
    "529": (refuses(529), None),
    "silence": (silent, None),
    "half a body": (half, None),
    "no answer": (drops, None),
    "invalid JSON": (says(200, b'{"choices": [{"mess'), None),
    "no JSON": (says(200, b"<html>hello</html>", Content_Type="text/html"), None),
    "no object": (says(200, b"[1, 2]"), None),
    "no choices": (says(200, {"error": {"message": "overloaded"}}), None),
    "empty choices": (says(200, {**completion(""), "choices": []}), None),
    "null message": (says(200, {**completion(""), "choices": [{"message": None}]}), None),
}


@pytest.mark.parametrize("fault", HEALED)
def test_what_passes_is_tried_again(server: Server, fault: str) -> None:
    answer, told = HEALED[fault]
    server.script.extend([answer, answer])
    asked = Asked(server, timeout=0.5 if fault == "silence" else 5.0)
    assert asked.error is None and not asked.failed
    assert asked.replies[0].text == "To question 0: [[7]]"
    assert (asked.usage.requests, asked.usage.retried, asked.usage.failed) == (3, 2, 0) == (len(server.seen), 2, 0)
    assert asked.notes[-1] == (1, 1, "judgments, 2 retried")
    for number, wait in enumerate(asked.waits):
        low, high = told or (FIRST_WAIT * 2**number / 2, FIRST_WAIT * 2**number * 3 / 2)
        assert low <= wait <= high
    assert len(asked.waits) == 2 or fault == "503 with Retry-After"


def test_what_does_not_pass_is_missing_and_says_why(server: Server) -> None:
    server.script.extend([refuses(500, f"ask again, {KEY}")] * 4)
    server.script.extend([refuses(429, Retry_After="86400")])
    asked = Asked(server, 3, tries=4)
    assert asked.failed == {0: "HTTP 500: ask again, ***", 1: "HTTP 429: no (the server asks to wait 86,400 seconds)"}
    assert list(asked.replies) == [2]
    assert (asked.usage.requests, asked.usage.retried, asked.usage.failed) == (6, 3, 2)
    assert asked.notes[-1] == (3, 3, "judgments, 3 retried, 2 failed")
    assert [round(wait / (FIRST_WAIT * 2**n)) in (0, 1, 2) for n, wait in enumerate(asked.waits)] == [True] * 3
    server.script.extend([says(200, completion(None, "content_filter"))] * 2)
    assert Asked(server, tries=2).failed == {0: "the reply has no text (finish_reason content_filter)"}
    server.script.extend([half] * 2)
    assert "without sending complete message body" in Asked(server, tries=2).failed[0]


def test_a_request_that_is_refused_fails_alone(server: Server) -> None:
    server.script.extend([refuses(400, f"your key\n {KEY} is fine, max_tokens is not"), good])
    server.script.append(says(422, {"detail": "Unexpected fields in the request: {'seed'}"}))
    server.script.append(says(413, b"too large " + b"x" * 1000))
    asked = Asked(server, 5)
    assert list(asked.replies) == [1, 4]
    assert asked.failed[0] == "HTTP 400: your key *** is fine, max_tokens is not"
    assert asked.failed[2] == "HTTP 422: Unexpected fields in the request: {'seed'}"
    assert asked.failed[3].startswith("HTTP 413: too large xxx") and len(asked.failed[3]) < 400
    assert not asked.waits and len(server.seen) == 5
    asked = Asked(server, [Prompt("p", "", "half a pair: \ud83d"), Prompt("p", "", "fine")])
    assert list(asked.replies) == [1] and "half of a surrogate pair" in asked.failed[0]


ENDING = {
    "401": (refuses(401, f"Incorrect API key provided: {KEY}."), "refuses the key in OPENAI_API_KEY"),
    "402": (refuses(402), "reports no credit for the key in OPENAI_API_KEY"),
    "404": (says(404, {"detail": "Not Found"}), "has no model 'judge' (HTTP 404: Not Found)"),
    "429 without credit": (
        says(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}),
        "You exceeded your quota",
    ),
}


@pytest.mark.parametrize("fault", ENDING)
def test_what_no_request_escapes_ends_all(server: Server, fault: str) -> None:
    """What is in flight is recorded first: the refusal comes while two replies are on their way."""
    answer, words = ENDING[fault]
    server.script.extend([slow(0.3), slow(0.3), slow(0.1, answer)])
    asked = Asked(server, 9, concurrency=3)
    assert asked.error is not None
    assert words in asked.error.problem and server.url in asked.error.problem and asked.error.fix
    assert len(asked.replies) == 2 and len(server.seen) == 3


def test_redirects_are_not_followed(server: Server, another: Callable[[], Server]) -> None:
    for status in (301, 302, 307, 308):
        other = another()
        server.script.append(says(status, b"", Location=f"{other.url}/chat/completions"))
        asked = Asked(server, 2)
        assert asked.error is not None and f"redirects to {other.url}/chat/completions" in asked.error.problem
        assert not other.seen
    assert len(server.seen) == 4


def test_nobody_there(server: Server, another: Callable[[], Server]) -> None:
    gone = another()
    gone.shutdown()
    gone.server_close()
    asked = Asked(gone, 20, concurrency=2, tries=3)
    assert asked.error is not None
    assert f"{gone.url} cannot be reached (ConnectError: " in asked.error.problem
    assert len(asked.waits) >= 4


def test_requests_fly_together_and_replies_come_to_the_caller(server: Server) -> None:
    together = threading.Barrier(4)

    def answer(handler: Handler) -> None:
        together.wait(10)
        good(handler)

    server.usual = answer
    asked = Asked(server, 12, concurrency=4)
    assert server.most_active == 4
    assert set(asked.replies) == set(range(12))
    assert asked.threads == {threading.get_ident()}
    assert [done for done, _, _ in asked.notes] == list(range(1, 13))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_spending_stays_within_its_limit(server: Server, concurrency: int) -> None:
    """100 + 50 tokens at 1,000 dollars a million are 0.15 dollars; 400 letters and 100 tokens set 0.2 aside."""
    prices = {"price_in": 1000.0, "price_out": 1000.0, "max_tokens": 100}
    prompts = [Prompt("p", "x" * 200, f"{n:03}" + "y" * 197) for n in range(10)]
    asked = Asked(server, prompts, concurrency=concurrency, spending_limit=1.02, **prices)
    assert len(asked.replies) == 6  # after which 0.9 are spent, and 1.1 might be
    assert asked.usage.dollars == pytest.approx(0.9)
    assert set(asked.failed.values()) == {"spending limit reached"}
    assert len(asked.failed) == asked.usage.failed == 4
    assert len(server.seen) == asked.usage.requests == 6
    assert asked.notes[-1][2].startswith("judgments, 0.90 dollars")
    assert Asked(server, prompts, spending_limit=0.0, **prices).usage.dollars == 0
    assert len(server.seen) == 6


def test_what_was_lost_may_have_cost_what_was_set_aside(server: Server) -> None:
    prices = {"price_in": 1000.0, "price_out": 1000.0, "max_tokens": 100}
    prompt = [Prompt("p", "", "z" * 400)]
    cost = {half: 0.2, refuses(500): 0.0, says(200, completion(None)): 0.15, drops: 0.2}
    for answer, dollars in cost.items():
        server.script.append(answer)
        assert Asked(server, prompt, **prices).usage.dollars == pytest.approx(dollars + 0.15)
    server.script.append(says(200, completion("no count\n", usage=False)))
    assert Asked(server, prompt, **prices).usage.dollars == pytest.approx(0.2)
    # Tries count against the limit too.
    server.script.extend([half] * 9)
    asked = Asked(server, prompt, spending_limit=0.5, **prices)
    assert asked.failed == {0: "spending limit reached"} and asked.usage.dollars == pytest.approx(0.4)


def test_spendings_add_up() -> None:
    assert Usage(1, 2, 3, 0.5, 4, 5) + Usage(10, 20, 30, 0.25, 40, 50) == Usage(11, 22, 33, 0.75, 44, 55)
    assert (Usage(1) + Usage(1)).dollars is None


def test_ctrl_c_records_what_has_come(server: Server) -> None:
    """It comes while the first reply is recorded, when the other three are there already."""
    recorded: list[int] = []

    def record(key: int, prompt: Prompt, reply: Reply) -> None:
        recorded.append(key)
        if len(recorded) == 1:
            deadline = time.monotonic() + 10
            while (len(server.seen) < 4 or server.active) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.8)  # until the threads have read them
            raise KeyboardInterrupt

    asked = ((number, Prompt("p", "", str(number))) for number in range(20))
    with pytest.raises(KeyboardInterrupt):
        send_all(Endpoint("judge", server.url, concurrency=4), asked, record)
    assert sorted(recorded) == [0, 1, 2, 3]
    time.sleep(0.1)
    assert len(server.seen) == 4


def test_an_error_of_the_caller_is_its_own(server: Server) -> None:
    def record(key: int, prompt: Prompt, reply: Reply) -> None:
        raise UserError("cannot write x", "Free some space.")

    with pytest.raises(UserError, match="cannot write x"):
        send_all(Endpoint("judge", server.url), [(0, Prompt("p", "", "q"))], record)

    def oversleep(seconds: float) -> None:
        raise RuntimeError("a bug in a thread")

    server.script.append(refuses(500))
    with pytest.raises(RuntimeError, match="a bug in a thread"):
        send_all(Endpoint("judge", server.url), [(0, Prompt("p", "", "q"))], record, sleep=oversleep)


CHILD = """
import json, signal, sys
from bench.judging.request_queue import send_all
from bench.judging.endpoint_settings import Endpoint
from bench.judging.prompts import Prompt

signal.signal(signal.SIGINT, signal.default_int_handler)
with open(sys.argv[2], "a", encoding="utf-8") as file:
    def record(key, prompt, reply):
        file.write(json.dumps({"key": key, "text": reply.text}) + "\\n")
        file.flush()
    asked = ((number, Prompt("p", "", f"question {number}")) for number in range(40))
    send_all(Endpoint("judge", sys.argv[1], concurrency=4), asked, record)
"""


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_nothing_that_has_come(
    server: Server, tmp_path: Path, signalled: signal.Signals
) -> None:
    server.usual = slow(0.1)
    path = tmp_path / "replies.jsonl"
    path.touch()
    command = [sys.executable, "-c", CHILD, server.url, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        deadline = time.monotonic() + 30
        while path.read_text().count("\n") < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signalled)
        output = child.communicate(timeout=10)[0]
    assert child.returncode != 0 and KEY not in output
    assert ("KeyboardInterrupt" in output) == (signalled is signal.SIGINT)
    there = [json.loads(line) for line in path.read_text().splitlines()]
    assert 10 <= len(there) < 40 and path.read_text().endswith("\n")
    assert all(row["text"] == f"To question {row['key']}: [[7]]" for row in there)
    time.sleep(0.2)  # the server still answers those that were in flight
    assert len(server.asked()) - len(there) <= 4
    # The second run.
    server.seen.clear()
    server.usual = good
    known = {row["key"] for row in there}
    rest = [number for number in range(40) if number not in known]
    Asked(server, [Prompt("p", "", f"question {number}") for number in rest], concurrency=4)
    assert sorted(server.asked()) == sorted(f"question {number}" for number in rest)


def test_keys(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Asked(server, 0).usage == Usage()
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert Asked(server, key_variable="MY_KEY").replies
    assert server.seen[-1][1]["authorization"] == f"Bearer {KEY}"
    for odd in (f"{KEY} {KEY}", f"{KEY}\u00e9", f"{KEY}\n{KEY}"):
        monkeypatch.setenv("MY_KEY", odd)
        asked = Asked(server, key_variable="MY_KEY")
        assert asked.error is not None and "the value of MY_KEY is not a key" in asked.error.problem
    # Nothing is asked without one, except where none may be needed.
    assert Asked(server, key_variable="NO_SUCH_KEY").replies
    assert server.seen[-1][1]["authorization"] == f"Bearer {NO_KEY}"
    server.script.append(refuses(401, "none here"))
    asked = Asked(server, key_variable="NO_SUCH_KEY")
    assert asked.error is not None and "refuses a request without a key (HTTP 401: none here)" in asked.error.problem
    for own in (None, "https://api.openai.com/v1/"):
        asked = Asked(server, base_url=own, key_variable="NO_SUCH_KEY")
        assert asked.error is not None and "NO_SUCH_KEY is not set" in asked.error.problem
    assert Asked(server, 0, base_url=None, key_variable="NO_SUCH_KEY").error is None


def test_openai_is_openai_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    client = make_client(Endpoint("judge"), KEY)
    assert str(client.base_url) == "https://api.openai.com/v1/"
    assert client.max_retries == 0


def test_without_the_package(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    asked = Asked(server)
    assert asked.error is not None and asked.error.fix == 'pip install "bench-peft[judge]"'


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000/v1"}, "base_url 'localhost:8000/v1' is not an http address"),
        ({"base_url": f"me:{KEY}@localhost/v1"}, "base_url 'localhost/v1' is not an http address"),
        ({"base_url": "http://localhost:port/v1"}, "is not an http address"),
        ({"base_url": "http:///v1"}, "is not an http address"),
        ({"base_url": ""}, "is not an http address"),
        ({"base_url": "http://localhost/v1\n"}, "is not an http address"),
        ({"base_url": f"http://localhost/v1?{KEY}"}, "is not an http address"),
        ({"key_variable": KEY}, "key_variable is not the name of an environment variable"),
        ({"tries": 0}, "tries is 0"),
        ({"concurrency": -1}, "concurrency is -1"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"price_in": -1.0}, "price_in is -1.0"),
        ({"token_limit": "max_output"}, "unknown name of the token limit 'max_output'"),
        ({"spending_limit": 1.0}, "needs both prices"),
        ({"spending_limit": 1.0, "price_in": 1.0}, "needs both prices"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as raised:
        Endpoint("judge", **settings)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "half a pair \udcff"])
def test_a_models_name_can_be_shown(name: str) -> None:
    with pytest.raises(UserError, match="characters that cannot be shown") as raised:
        Endpoint(name)
    assert str(raised.value).replace("\n", "").isprintable()


def test_an_address_is_shown_without_its_secrets() -> None:
    endpoint = Endpoint("judge", f"https://me:{KEY}@judges.example:8443/v1?key={KEY}")
    assert endpoint.address == "https://judges.example:8443/v1"


def test_the_query_of_an_address_is_that_of_each_request(server: Server) -> None:
    asked = Asked(server, base_url=f"{server.url}?api-version=2026-01&x=a%20b&y=#part")
    assert asked.replies
    path, _, query = server.seen[0][0].partition("?")
    assert path == "/v1/chat/completions"
    assert parse_qsl(query, keep_blank_values=True) == [("api-version", "2026-01"), ("x", "a b"), ("y", "")]


@pytest.mark.parametrize("name", ["me-and-my-secret", "me-and-my-secret:", "me:my-secret-word"])
def test_a_name_in_an_address_may_be_the_secret(server: Server, name: str) -> None:
    server.usual = lambda handler: refuses(400, f"{name} {handler.headers['Authorization']}")(handler)
    asked = Asked(server, base_url=server.url.replace("://", f"://{name}@"))
    (reason,) = asked.failed.values()
    assert "secret" not in reason and base64.b64encode(name.encode()).decode()[4:12] not in reason


ENVIRONMENTS = [
    ("ALL_PROXY", "garbage://me:the-password@proxy:1"),
    ("http_proxy", "socks5://me:the-password@proxy:1"),
    ("SSL_CERT_FILE", "/no/such/file"),
]


@pytest.mark.parametrize(("variable", "value"), ENVIRONMENTS)
def test_an_environment_that_allows_no_request_is_said_to_be_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    asked = Asked(server)
    assert asked.error is not None and "cannot prepare requests to http://127.0.0.1" in asked.error.problem
    assert variable.upper() in asked.error.fix and "the-password" not in str(asked.error)


def test_an_error_that_ends_all_waits_for_no_request_that_sleeps(server: Server) -> None:
    server.script.extend([refuses(429, Retry_After="250"), slow(0.5, refuses(401))])
    start = time.monotonic()
    with pytest.raises(UserError, match="refuses the key"):
        send_all(Endpoint("judge", server.url, concurrency=2), [(n, Prompt("p", "", "q")) for n in range(2)], ignore)
    assert time.monotonic() - start < 30


def ignore(key: int, prompt: Prompt, reply: Reply) -> None:
    """Keeps nothing."""
