"""One request to an OpenAI-compatible endpoint: what is sent, and what is made of what comes.

The key is read from the environment when asking begins, and goes into the header of requests to the endpoint and
nowhere else: redirects are not followed with it, and as servers are known to repeat it in their error messages, it is
blotted out of all of their words.
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
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.judging.endpoint import Endpoint

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, OpenAI

    from bench.judging.prompts import Prompt

NO_KEY = "none"
"""Sent to a server of one's own that asks for no key; the header cannot be empty."""

TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 after which the same request may succeed."""
OF_EVERY_REQUEST = (401, 402, 403, 404)
"""Statuses that no other request would escape."""
NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""httpx's errors of requests that have not reached the server."""

CONNECTING_SECONDS = 10.0
MOST_WORDS = 300
"""Characters of a server's words that are repeated."""


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    model: str
    """As the server names it."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """None where the server does not say."""
    finish_reason: str
    """`length`: it was cut off at max_tokens."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request: a reply, a reason why there is none, or what ends all asking."""

    reply: Reply | None = None
    reason: str = ""
    again: bool = False
    """The same may be tried again, after `wait` seconds if the server said so."""
    wait: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    worked: bool = False
    """The server may have worked for it, and charge."""
    unreached: bool = False
    ending: BaseException | None = None


def key_of(endpoint: Endpoint) -> str:
    """The key, or NO_KEY for a server of one's own. Raises UserError where OpenAI's is missing or it cannot be one."""
    key = os.environ.get(endpoint.key_variable, "").strip() if endpoint.key_variable else ""
    if not key and endpoint.is_openai:
        raise UserError(
            f"{endpoint.address} needs a key, and the environment variable {endpoint.key_variable} is not set",
            "Set it, or give the address of an endpoint that needs none as base_url.",
        )
    # Such a key would fail as a header, in an error that repeats it.
    if not all("!" <= letter <= "~" for letter in key):
        raise UserError(
            f"what {endpoint.key_variable} holds is no key: it has spaces or letters beyond ASCII",
            "Set it to the key alone.",
        )
    return key or NO_KEY


def connect(endpoint: Endpoint, key: str) -> OpenAI:
    """A client of the endpoint, which may be used by many threads and is to be closed. Raises UserError without openai.

    The library's own retries are off: tries are counted by whoever asks.
    """
    try:
        import openai
    except ImportError:
        raise UserError(
            "an endpoint is asked with the package openai, which is not installed", 'pip install "bench-peft[judge]"'
        ) from None
    return openai.OpenAI(
        api_key=key,
        base_url=endpoint.url,
        timeout=openai.Timeout(endpoint.timeout, connect=min(CONNECTING_SECONDS, endpoint.timeout)),
        max_retries=0,
        http_client=openai.DefaultHttpxClient(follow_redirects=False),
    )


def ask(client: OpenAI, endpoint: Endpoint, key: str, prompt: Prompt) -> Outcome:
    """Send one request and say what came of it. An error that is none of the network's or the server's is raised."""
    import openai

    roles = {"system": prompt.system, "user": prompt.user}
    try:
        came = client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=[{"role": role, "content": text} for role, text in roles.items() if text],
            temperature=endpoint.temperature,
            max_tokens=endpoint.max_tokens,
            **({} if endpoint.seed is None else {"seed": endpoint.seed}),
        )
    except openai.APIConnectionError as error:  # a time-out is one
        return _lost(error, key)
    except openai.APIStatusError as error:
        return _refused(error, endpoint, key)
    except UnicodeEncodeError:  # the library's: the key is ASCII
        return Outcome(reason="the prompt holds half of a surrogate pair, which cannot be sent")
    # Not parsed by the library: it takes whatever comes for a completion.
    return read(came.http_response.content, endpoint.model, key)


def read(content: bytes, model: str, key: str) -> Outcome:
    """A body that came with status 200. It may be no JSON, have no choices, or a message without a text."""
    try:
        body = json.loads(content)
    except ValueError:
        return Outcome(reason="the reply is no valid JSON", again=True, worked=True)
    body = body if isinstance(body, dict) else {}
    usage = body.get("usage")
    counts = [
        found if isinstance(usage, dict) and isinstance(found := usage.get(name), int) else None
        for name in ("prompt_tokens", "completion_tokens")
    ]
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        choice, text = {}, None
    if not isinstance(text, str):
        said = _words(body["error"], key) if body.get("error") else f"finish_reason {choice.get('finish_reason')}"
        return Outcome(None, f"the reply has no text ({said})", True, None, *counts, worked=True)
    # Half of a surrogate pair, which JSON can hold and no file can, becomes a question mark.
    text = text.encode("utf-8", "replace").decode()
    reply = Reply(text, str(body.get("model") or model), *counts, str(choice.get("finish_reason") or ""))
    return Outcome(reply, "", False, None, *counts, worked=True)


def _lost(error: APIConnectionError, key: str) -> Outcome:
    """No whole reply came."""
    cause = error.__cause__ or error
    kind = type(cause).__name__
    said = _words(str(cause), key)
    unreached = kind in NOT_SENT
    return Outcome(reason=f"{kind}: {said}" if said else kind, again=True, worked=not unreached, unreached=unreached)


def _refused(error: APIStatusError, endpoint: Endpoint, key: str) -> Outcome:
    """A reply of another status than 200."""
    status, headers = error.status_code, error.response.headers
    reason = f"HTTP {status}: {_words(error.response.text, key)}"
    if 300 <= status < 400:
        target = _words(headers.get("location", "elsewhere"), key)
        problem = f"{endpoint.address} redirects to {target}, and the key is not sent after it"
        return Outcome(ending=UserError(problem, "If that is the endpoint, give its address as base_url."))
    # What OpenAI says with a 429 when no money is left: no waiting helps.
    if status in OF_EVERY_REQUEST or error.code == "insufficient_quota":
        return Outcome(ending=_of_every_request(endpoint, status, reason, key))
    again = status in TRANSIENT or status >= 500
    return Outcome(reason=reason, again=again, wait=_told_to_wait(headers) if again else None)


def _of_every_request(endpoint: Endpoint, status: int, reason: str, key: str) -> UserError:
    if status == 404:
        return UserError(
            f"{endpoint.address} is no endpoint of this kind, or has no model {endpoint.model!r} ({reason})",
            "Fix base_url, which usually ends in /v1, or the model's name.",
        )
    if status in (402, 429):
        return UserError(
            f"{endpoint.address} has no money left for the key in {endpoint.key_variable} ({reason})",
            "Top up, or give another key; what has come is kept, and the same command goes on from there.",
        )
    given = "a request without a key" if key == NO_KEY else f"the key in {endpoint.key_variable}"
    named = f"Set {endpoint.key_variable}" if endpoint.key_variable else "Name a variable by --key-variable and set it"
    return UserError(
        f"{endpoint.address} refuses {given} ({reason})",
        f"{named} to a key that may use the model {endpoint.model!r}.",
    )


def _words(said: Any, key: str) -> str:
    """What a server says went wrong, on one line, without the key."""
    if isinstance(said, str):
        with suppress(ValueError):
            said = json.loads(said)
    for name in ("error", "detail", "message"):  # OpenAI's {"error": {"message": ...}}, FastAPI's {"detail": ...}
        if isinstance(said, Mapping) and said.get(name):
            said = said[name]
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if key != NO_KEY:
        text = text.replace(key, "***")
    return " ".join(text.split())[:MOST_WORDS]


def _told_to_wait(headers: Mapping[str, str]) -> float | None:
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
