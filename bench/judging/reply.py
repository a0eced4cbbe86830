"""Reads the body of a reply: its text, its token counts, and whether it is complete.

A server may send anything: invalid or deeply nested JSON, a list of parts as the content, no text, impossible counts.
Every body gives a `RequestOutcome`, never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import JsonValue

from bench.errors import UserError
from bench.judging.thoughts import text_after_thoughts

MOST_TOKENS = 10_000_000
"""A larger count of tokens is an error of the server: no model has such a context."""
NAME_LENGTH = 200
"""Characters of a model's name or of a finish reason that are kept."""
MESSAGE_LENGTH = 300
"""Characters of a server's error message that are repeated."""

TEXT_PARTS = ("text", "output_text")
"""The types of parts that are the answer itself; others are thoughts, refusals, images."""

Redact = Callable[[str], str]


@dataclass(frozen=True)
class Reply:
    """A model's reply."""

    text: str
    """Thoughts in tags included."""
    model: str
    """The model's name as the server gives it."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """None where the server does not count tokens."""
    finish_reason: str
    """`length`: the reply was cut off at the largest number of tokens."""
    refused_parameters: tuple[str, ...] = ()
    """Parameters that the endpoint refuses, so that the request was sent without them."""


@dataclass(frozen=True)
class RequestOutcome:
    """The result of a request: a reply, a reason why there is none, or an error that ends all requests."""

    reply: Reply | None = None
    reason: str = ""
    retryable: bool = False
    """The same request may succeed later, after `wait` seconds if the server said so."""
    wait: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    billable: bool = False
    """The server may have processed the request, and charge for it."""
    unreached: bool = False
    """The request did not reach the server."""
    refusal: UserError | None = None
    """The server refuses this prompt or the key. If it refuses every prompt, this error ends all requests."""
    refused_parameters: frozenset[str] = frozenset()
    """Parameters that the endpoint does not take."""
    without_answer: bool = False
    """The reply has no text besides thoughts: a larger number of tokens may give one."""
    fatal: BaseException | None = None


def parse_reply(content: bytes, model: str, max_tokens: int, redact: Redact) -> RequestOutcome:
    """The outcome of a body with status 200."""
    try:
        body: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        return RequestOutcome(reason="the reply is not valid JSON", retryable=True, billable=True)
    fields = body if isinstance(body, dict) else {}
    usage = fields.get("usage")
    prompt_tokens, completion_tokens = _count(usage, "prompt_tokens"), _completion_tokens(usage)
    choice, message = _first_choice(fields.get("choices"))
    broken = fields.get("error") or choice.get("error")  # with status 200, and maybe with the text up to there
    text = None if message is None or broken else _text(message.get("content"))
    finish_reason = one_line(choice.get("finish_reason") or "", redact, NAME_LENGTH)
    if not finish_reason and completion_tokens is not None and completion_tokens >= max_tokens:
        finish_reason = "length"  # some servers count, but give no reason
    reply = None
    if text is not None and text.strip():
        served = one_line(fields.get("model") or model, redact, NAME_LENGTH)
        # Half of a surrogate pair, which JSON can hold and a file cannot, becomes a question mark.
        text = redact(text.encode("utf-8", "replace").decode())
        reply = Reply(text, served, prompt_tokens, completion_tokens, finish_reason)
    answered = reply is not None and bool(text_after_thoughts(reply.text, "").strip())
    return RequestOutcome(
        reply,
        "" if reply else _why_without_text(broken, message, finish_reason, redact),
        retryable=message is None or bool(broken),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        billable=True,
        without_answer=message is not None and not broken and not answered,
    )


def _why_without_text(
    error: JsonValue, message: dict[str, JsonValue] | None, finish_reason: str, redact: Redact
) -> str:
    if error:
        return f"the reply has no text ({error_message(error, redact)})"
    if message is not None and isinstance(message.get("refusal"), str) and message["refusal"]:
        return f"the model refused ({one_line(message['refusal'], redact, MESSAGE_LENGTH)})"
    return f"the reply has no text (finish_reason {finish_reason or 'not given'})"


def _count(usage: JsonValue, name: str) -> int | None:
    """A number of tokens; None where the server does not give it, or gives an impossible one."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count <= MOST_TOKENS else None


def _completion_tokens(usage: JsonValue) -> int | None:
    """The tokens of a reply, thoughts included: some servers count these in the total alone."""
    given, total, prompt = (_count(usage, name) for name in ("completion_tokens", "total_tokens", "prompt_tokens"))
    if given is None or total is None or prompt is None:
        return given
    return max(given, total - prompt)


def _first_choice(choices: JsonValue) -> tuple[dict[str, JsonValue], dict[str, JsonValue] | None]:
    """The first choice of a reply and its message; empty and None where the reply has no message with a content."""
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict) or "content" not in message:
        return choice if isinstance(choice, dict) else {}, None
    return choice, message


def _text(content: JsonValue) -> str | None:
    """The text of a message's content: a text, or a list of parts. `reasoning_content` and the like are not read."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS else part
        if isinstance(text, str):
            texts.append(text)
    return "".join(texts) if texts else None


def error_message(content: JsonValue, redact: Redact) -> str:
    """A server's error message on one line, without secrets."""
    if isinstance(content, str):
        with suppress(ValueError, RecursionError):
            content = json.loads(content)
    for name in ("error", "detail", "message"):  # OpenAI's {"error": {"message": ...}}, FastAPI's {"detail": ...}
        if isinstance(content, dict) and content.get(name):
            content = content[name]
    return one_line(content, redact, MESSAGE_LENGTH)


def one_line(content: JsonValue, redact: Redact, length: int) -> str:
    """A server's text for a message or a record: one line of printable characters, without secrets."""
    try:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    except RecursionError:
        text = "deeply nested JSON"
    # Redacted before the other characters are removed: these may stand within a secret.
    text = redact(text.encode("utf-8", "replace").decode())
    text = redact("".join(letter if letter.isprintable() else " " for letter in text))
    return " ".join(text.split())[:length]
