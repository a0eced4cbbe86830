"""One request to an OpenAI-compatible endpoint, and what its reply or its failure means.

The key is read from the environment and goes into the header of requests to the endpoint, nowhere else. Redirects are
not followed. Servers are known to repeat the key in error messages, so it is removed from every text of theirs.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, OpenAI
    from openai.types.chat import ChatCompletionMessageParam

    from bench.judging.prompts import Prompt

NO_KEY = "none"
"""Sent to a local server that asks for no key; the header cannot be empty."""

TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 after which the same request may succeed."""
OF_EVERY_REQUEST = (401, 402, 403, 404)
"""Statuses that every other request would meet too."""
NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""httpx's errors for requests that have not reached the server."""

CONNECTING_SECONDS = 10.0
MESSAGE_LENGTH = 300
"""Characters of a server's error message that are repeated."""


@dataclass(frozen=True)
class Reply:
    """A model's reply."""

    text: str
    model: str
    """The model's name as the server gives it."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """None where the server does not count tokens."""
    finish_reason: str
    """`length`: the reply was cut off at max_tokens."""


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
    fatal: BaseException | None = None


def read_key(endpoint: Endpoint) -> str:
    """The key from the environment, or NO_KEY for a local server.

    Raises UserError where OpenAI's key is missing, or where the value cannot be a key.
    """
    key = os.environ.get(endpoint.key_variable, "").strip() if endpoint.key_variable else ""
    if not key and endpoint.is_openai:
        raise UserError(
            f"{endpoint.address} needs a key, and the environment variable {endpoint.key_variable} is not set",
            "Set the variable, or give the address of an endpoint that needs no key as base_url.",
        )
    # Such a key would fail as a header, in an error that repeats it.
    if not all("!" <= letter <= "~" for letter in key):
        raise UserError(
            f"the value of {endpoint.key_variable} is not a key: it has spaces or characters beyond ASCII",
            "Set the variable to the key alone.",
        )
    return key or NO_KEY


def make_client(endpoint: Endpoint, key: str) -> OpenAI:
    """A client of the endpoint. Threads may share it; the caller closes it. Raises UserError without openai.

    The client's own retries are off: `bench.judging.request_queue` says why.
    """
    try:
        import openai
    except ImportError:
        raise UserError(
            "judging by an endpoint needs the package openai, which is not installed",
            'pip install "bench-peft[judge]"',
        ) from None
    return openai.OpenAI(
        api_key=key,
        base_url=endpoint.url,
        timeout=openai.Timeout(endpoint.timeout, connect=min(CONNECTING_SECONDS, endpoint.timeout)),
        max_retries=0,
        http_client=openai.DefaultHttpxClient(follow_redirects=False),
    )


def send(client: OpenAI, endpoint: Endpoint, key: str, prompt: Prompt) -> RequestOutcome:
    """Send one request. Errors other than the network's and the server's are raised."""
    import openai

    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt.user}]
    if prompt.system:
        messages.insert(0, {"role": "system", "content": prompt.system})
    try:
        response = client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=messages,
            temperature=endpoint.temperature,
            max_tokens=endpoint.max_tokens,
            seed=openai.omit if endpoint.seed is None else endpoint.seed,
        )
    except openai.APIConnectionError as error:  # time-outs are connection errors too
        return _lost(error, key)
    except openai.APIStatusError as error:
        return _refused(error, endpoint, key)
    except UnicodeEncodeError:  # of the prompt: the key is ASCII
        return RequestOutcome(reason="the prompt holds half of a surrogate pair, which cannot be sent")
    # Parsed here: the client would accept any JSON as a completion.
    return parse_reply(response.http_response.content, endpoint.model, key)


def parse_reply(content: bytes, model: str, key: str) -> RequestOutcome:
    """The outcome of a body with status 200, which may be invalid JSON, have no choices, or have no text."""
    try:
        body: JsonValue = json.loads(content)
    except ValueError:
        return RequestOutcome(reason="the reply is not valid JSON", retryable=True, billable=True)
    fields = body if isinstance(body, dict) else {}
    usage = fields.get("usage")
    prompt_tokens, completion_tokens = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    choice, text = _first_choice(fields.get("choices"))
    reply = None
    reason = ""
    if text is None:
        error = fields.get("error")
        cause = _message(error, key) if error else f"finish_reason {choice.get('finish_reason')}"
        reason = f"the reply has no text ({cause})"
    else:
        # Half of a surrogate pair, which JSON can hold and a file cannot, becomes a question mark.
        text = text.encode("utf-8", "replace").decode()
        finish_reason = str(choice.get("finish_reason") or "")
        reply = Reply(text, str(fields.get("model") or model), prompt_tokens, completion_tokens, finish_reason)
    return RequestOutcome(
        reply,
        reason,
        retryable=reply is None,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        billable=True,
    )


def _count(usage: JsonValue, name: str) -> int | None:
    """A number of tokens; None where the server does not give it."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _first_choice(choices: JsonValue) -> tuple[dict[str, JsonValue], str | None]:
    """The first choice of a reply and its text; empty and None where the reply has no message."""
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict) or "content" not in message:
        return {}, None
    text = message["content"]
    return choice, text if isinstance(text, str) else None


def _lost(error: APIConnectionError, key: str) -> RequestOutcome:
    """The outcome of a request without a complete response."""
    cause = error.__cause__ or error
    kind = type(cause).__name__
    message = _message(str(cause), key)
    unreached = kind in NOT_SENT
    reason = f"{kind}: {message}" if message else kind
    return RequestOutcome(reason=reason, retryable=True, billable=not unreached, unreached=unreached)


def _refused(error: APIStatusError, endpoint: Endpoint, key: str) -> RequestOutcome:
    """The outcome of a response with an error status."""
    status, headers = error.status_code, error.response.headers
    reason = f"HTTP {status}: {_message(error.response.text, key)}"
    if 300 <= status < 400:
        target = _message(headers.get("location", "another address"), key)
        problem = f"{endpoint.address} redirects to {target}; the key is not sent to another address"
        return RequestOutcome(fatal=UserError(problem, "If that is the endpoint, give its address as base_url."))
    # OpenAI's 429 for an account without credit: waiting does not help.
    if status in OF_EVERY_REQUEST or error.code == "insufficient_quota":
        return RequestOutcome(fatal=_of_every_request(endpoint, status, reason, key))
    retryable = status in TRANSIENT or status >= 500
    return RequestOutcome(reason=reason, retryable=retryable, wait=_retry_after(headers) if retryable else None)


def _of_every_request(endpoint: Endpoint, status: int, reason: str, key: str) -> UserError:
    """The error for a status that every request would meet."""
    if status == 404:
        return UserError(
            f"{endpoint.address} is not an OpenAI-compatible endpoint, or has no model {endpoint.model!r} ({reason})",
            "Correct base_url, which usually ends in /v1, or the model's name.",
        )
    if status in (402, 429):
        return UserError(
            f"{endpoint.address} reports no credit for the key in {endpoint.key_variable} ({reason})",
            "Add credit, or use another key; finished judgments are kept, run the same command to resume.",
        )
    refused = "a request without a key" if key == NO_KEY else f"the key in {endpoint.key_variable}"
    advice = f"Set {endpoint.key_variable}" if endpoint.key_variable else "Name a variable with --key-variable, set it"
    return UserError(
        f"{endpoint.address} refuses {refused} ({reason})",
        f"{advice} to a key that may use the model {endpoint.model!r}.",
    )


def _message(content: JsonValue, key: str) -> str:
    """A server's error message on one line, without the key."""
    if isinstance(content, str):
        with suppress(ValueError):
            content = json.loads(content)
    for name in ("error", "detail", "message"):  # OpenAI's {"error": {"message": ...}}, FastAPI's {"detail": ...}
        if isinstance(content, dict) and content.get(name):
            content = content[name]
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    if key != NO_KEY:
        text = text.replace(key, "***")
    return " ".join(text.split())[:MESSAGE_LENGTH]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header (a number or a date) or of OpenAI's retry-after-ms; None without either."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
