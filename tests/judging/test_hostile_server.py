"""A server that wants to do harm: replies without an end, bodies that grow, and random replies by the hundred."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.judge_server import KEY, Asked, Handler, Server, completion, good, says

from bench.data.open_questions import OpenQuestion, Turn
from bench.errors import UserError
from bench.judging.body_limit import LARGEST_BODY
from bench.judging.endpoint_settings import Endpoint
from bench.judging.judges import EndpointJudge
from bench.judging.judgment_records import AnswerToRate, ModelRating
from bench.judging.ledger import Ledger, cell_ratings
from bench.store.folder import CellFolder

pytestmark = pytest.mark.usefixtures("key_that_shows_nowhere")


@pytest.fixture(autouse=True)
def no_trace_of_headers(caplog: pytest.LogCaptureFixture) -> None:
    """The HTTP library's trace for debugging shows a server's headers as they are, the key in them included."""
    caplog.set_level(logging.INFO, logger="httpcore2")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def trickles(start: bytes, piece: bytes) -> Callable[[Handler], None]:
    """Sends a piece every 50 ms, until the client goes away or the test ends."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(start)
        while not handler.server.released.wait(0.05):
            handler.wfile.write(piece)
            handler.wfile.flush()

    return answer


TRICKLES = {
    "a body by the byte": trickles(HEAD + b"Content-Length: 1000000\r\n\r\n{", b" "),
    "a body of chunks": trickles(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers by the byte": trickles(HEAD + b"X-Header: ", b"x"),
    "header after header": trickles(HEAD, b"X-Header: x\r\n"),
    "a status line by the byte": trickles(b"HTTP/1.1 200 ", b"O"),
    "interim responses": trickles(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "an error by the byte": trickles(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("kind", TRICKLES)
def test_one_deadline_holds_for_the_whole_request(server: Server, kind: str) -> None:
    """Each piece comes long before the time-out."""
    server.script.extend([TRICKLES[kind]])
    asked = Asked(server, 2, timeout=0.6, tries=1)
    assert asked.failed == {0: "no complete reply within 0.6 seconds"} and list(asked.replies) == [1]


def test_a_request_that_missed_its_deadline_may_have_cost_its_reserve(server: Server) -> None:
    server.script.append(TRICKLES["a body by the byte"])
    asked = Asked(server, timeout=0.6, tries=2, price_in=0.0, price_out=1000.0, max_tokens=100)
    assert asked.usage.dollars == pytest.approx(0.1 + 0.05) and len(asked.replies) == 1


def endless(status: int, piece: bytes, coding: str = "identity") -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Encoding: {coding}\r\n\r\n".encode())
        while not handler.server.released.is_set():
            handler.wfile.write(piece)

    return answer


def bomb(status: int, coding: str, window: int) -> Callable[[Handler], None]:
    """A body of 3 MB that is decompressed to 3 GB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, window)
    first = compressor.compress(b"{" + b" " * 2**20) + compressor.flush(zlib.Z_FULL_FLUSH)
    repeated = compressor.compress(b" " * 2**20) + compressor.flush(zlib.Z_FULL_FLUSH)
    return says(status, first + repeated * 3000, Content_Encoding=coding)


LARGE = {
    "endless": (endless(200, b" " * 2**16), "larger than 4 MiB"),
    "endless error": (endless(500, b"x" * 2**16), "larger than 4 MiB"),
    "announced": (says(200, b'"' + b"x" * LARGEST_BODY + b'"'), "larger than 4 MiB"),
    "gzip bomb": (bomb(200, "gzip", 31), "larger than 4 MiB"),
    "gzip bomb as an error": (bomb(403, "gzip", 31), "larger than 4 MiB"),
    "deflate bomb": (bomb(200, "deflate", 15), "larger than 4 MiB"),
    "brotli": (says(200, b"x", Content_Encoding="br"), "is compressed by br, which was not asked for"),
    "twice": (says(200, b"x", Content_Encoding="gzip, gzip"), "is compressed by gzip, gzip, which was not asked for"),
    "not gzip": (says(200, b"{}" * 100, Content_Encoding="gzip"), "is not compressed by gzip, as it says"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_body_has_a_largest_size_compressed_and_decompressed(server: Server, kind: str) -> None:
    """Such a request is not repeated."""
    answer, reason = LARGE[kind]
    server.script.append(answer)
    Asked(server)  # imports what a first request imports
    server.script.clear()
    server.script.append(answer)
    tracemalloc.start()
    try:
        asked = Asked(server, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(asked.replies) == [1] and reason in asked.failed[0] and not asked.waits
    assert peak < 20 * LARGEST_BODY  # the body, its pieces and its text; the server's own copies included


def test_a_compressed_reply_is_read(server: Server) -> None:
    content = json.dumps(completion("fine\n")).encode()
    server.script.append(says(200, gzip.compress(content), Content_Encoding="gzip"))
    server.script.append(says(200, zlib.compress(content), Content_Encoding="deflate"))
    server.script.append(says(200, content, Content_Encoding="identity", Content_Type="text/html; charset=hex"))
    assert [reply.text for reply in Asked(server, 3).replies.values()] == ["fine\n"] * 3
    assert server.seen[0][1]["accept-encoding"] == "gzip, deflate"


FORMS = (KEY, KEY[::-1], KEY.encode().hex(), base64.b64encode(KEY.encode()).decode(), f" {KEY} ")
TEXTS = ("", "[[7]]", "Rating: [[95]]", "<think>[[9]]", "</think>[[3]]", "\ud83d", "\x00\x1b[2J", "é" * 300, "$ERROR$")
REASONS = ("stop", "length", "content_filter", "", None, "tool_calls", "\ud83d")
NUMBERS = (0, 1, -1, 10**30, 2**63, 1.5, True, None, "7", [], {})
STATUSES = (*[200] * 80, 201, 204, 206, 299, 400, 403, 405, 408, 409, 413, 418, 422, 425, 429, 451, 500, 503, 529, 599)
CHARSETS = ("utf-8", "hex", "undefined", "rot13", "utf-16", "idna", "no-such", KEY)


class RandomReply:
    """A random reply to one prompt: a completion that was changed at random places, in a response that was too."""

    def __init__(self, seed: str) -> None:
        self.draw = random.Random(seed)

    def text(self) -> str:
        return "".join(self.draw.choice((*TEXTS, *FORMS)) for _ in range(self.draw.randrange(1, 5)))

    def value(self, depth: int = 0) -> Any:
        kind = self.draw.randrange(8 if depth < 3 else 4)
        if kind < 3:
            return self.text()
        if kind < 5:
            return self.draw.choice(NUMBERS)
        if kind == 5:
            return [self.value(depth + 1) for _ in range(self.draw.randrange(3))]
        names = ("text", "type", "content", "message", "error", "code", "param", "detail", KEY)
        return {self.draw.choice(names): self.value(depth + 1) for _ in range(self.draw.randrange(4))}

    def body(self) -> Any:
        reply: dict[str, Any] = completion(self.text(), self.draw.choice(REASONS))  # type: ignore[arg-type]
        reply["usage"] = {name: self.draw.choice(NUMBERS) for name in ("prompt_tokens", "completion_tokens")}
        for _ in range(self.draw.randrange(4)):
            place: Any = reply
            while True:
                keys = list(range(len(place))) if isinstance(place, list) else list(place)
                key = self.draw.choice(keys) if keys else None
                if key is None or not isinstance(place[key], (dict, list)) or self.draw.random() < 0.2:
                    break
                place = place[key]
            if key is not None:
                place[key] = self.value()
        return reply if self.draw.random() < 0.9 else self.value()

    def content(self) -> bytes:
        content = json.dumps(self.body()).encode()
        damage = self.draw.randrange(12)
        if damage == 0:
            return content[: self.draw.randrange(len(content) + 1)]
        if damage == 1:
            return self.draw.randbytes(self.draw.randrange(200))
        if damage == 2:
            return content.replace(b"1", b"1" * 5000).replace(b"null", b"NaN")
        if damage == 3:
            return b'{"choices":' + b"[" * 50_000
        return content

    def __call__(self, handler: Handler) -> None:
        content, status = self.content(), self.draw.choice(STATUSES)
        headers = {"Content_Type": f"text/x; charset={self.draw.choice(CHARSETS)}", "X_Key": KEY}
        damage = self.draw.randrange(16)
        if damage == 0:
            content = gzip.compress(content)
        if damage <= 1:
            headers["Content_Encoding"] = "gzip"
        if damage == 2:
            headers["Content_Encoding"] = self.draw.choice(("br", "zstd", KEY, "identity, gzip"))
        if damage == 3:
            headers["Retry_After"] = self.draw.choice(
                ("-1", "nan", "1e400", "86400", KEY, "Thu, 01 Jan 1 00:00:00 GMT")
            )
        if damage == 4:
            headers["Set_Cookie"] = f"{KEY}={KEY}; expires=never; domain=.."
        if damage == 5:
            handler.wfile.write(self.draw.randbytes(self.draw.randrange(1, 60)) + KEY.encode())
            return
        handler.answer(status, content, missing=self.draw.choice((0, 0, 0, 10)) if damage == 6 else 0, **headers)


def judged_by_fuzz(server: Server, folder: Path, number: int, seed: int) -> None:
    """Every reply becomes a judgment in the ledger, or a reason."""

    def answer(handler: Handler) -> None:
        RandomReply(f"{seed}:{handler.body['messages'][-1]['content']}")(handler)

    server.usual = answer
    judge = EndpointJudge(Endpoint("judge", server.url, tries=1, timeout=20, price_in=1.0, price_out=1.0))
    question = OpenQuestion(1, "writing", (Turn("Who wrote it?"),))
    wanted = [AnswerToRate("set", question, 1, (f"Answer {count}.",), "cell") for count in range(number)]
    file = cell_ratings(CellFolder(folder / "cell"), judge.identity.label)
    result = judge.rate(wanted, Ledger(file).add, lambda *_: None)
    ratings = file.read()
    assert {rating.key for rating in ratings} | set(result.failed) == {answer.key for answer in wanted}
    assert len(ratings) + len(result.failed) == number and number / 5 < len(ratings) < number
    assert all(rating.reported_score is None or 1 <= rating.reported_score <= 10 for rating in ratings)
    assert any(rating.reported_score is not None for rating in ratings)
    assert result.usage is not None and 0 < (result.usage.dollars or 0) < number
    written = [file.path.read_text(), *result.failed.values()]
    for reason in written[1:]:
        assert reason and reason.isprintable() and len(reason) < 500
    for form in map(str.strip, FORMS):
        assert not any(form in text for text in written)
    assert any(isinstance(rating, ModelRating) and rating.cut_off for rating in ratings)


def test_every_random_reply_is_a_judgment_or_a_reason(server: Server, tmp_path: Path) -> None:
    judged_by_fuzz(server, tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_more_random_replies(server: Server, tmp_path: Path, seed: int) -> None:
    judged_by_fuzz(server, tmp_path, 500, seed)


FATAL = ("401", "402", "404", "301", "307")


@pytest.mark.parametrize("status", FATAL)
def test_an_error_that_ends_all_is_one_sentence_without_the_key(server: Server, status: str) -> None:
    for seed in range(20):
        content = RandomReply(f"{status}:{seed}").content()
        server.usual = says(int(status), content, Location=f"http://{KEY}@[::1/{KEY}", Set_Cookie=KEY)
        asked = Asked(server, 2)
        assert isinstance(asked.error, UserError)
        assert str(asked.error.problem).isprintable() and KEY[::-1] not in asked.error.problem


def twice(handler: Handler) -> None:
    """A reply, and at once another that nobody has asked for."""
    good(handler)
    handler.answer(200, completion("To nobody: [[1]]"))


def test_what_a_server_sends_beyond_a_reply_is_no_reply_to_the_next_prompt(server: Server) -> None:
    Handler.protocol_version, before = "HTTP/1.1", Handler.protocol_version  # keeps connections open
    try:
        server.usual = twice
        asked = Asked(server, 4)
    finally:
        Handler.protocol_version = before
    assert [reply.text for reply in asked.replies.values()] == [f"To question {number}: [[7]]" for number in range(4)]
