"""One request to an OpenAI-compatible endpoint, and what its failure means; `bench.judging.reply` reads its reply.

The key is read from the environment and goes into the header of requests to the endpoint, nowhere else. Redirects are
not followed. The key is removed from every text of the server (`bench.judging.redaction`). A request has one deadline,
and the body of its response a largest size.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint
from bench.judging.redaction import Redactor
from bench.judging.reply import MESSAGE_LENGTH, Redact, RequestOutcome, error_message, one_line, parse_reply
from bench.judging.request_form import SYSTEM_ROLE, RequestForm, refused_parameters

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

    from bench.judging.prompts import Prompt

NO_KEY = "none"
"""Sent to a local server that asks for no key; the header cannot be empty."""

TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 after which the same request may succeed."""
OF_EVERY_REQUEST = (401, 402, 404)
"""Statuses that every other request would meet too."""
FORBIDDEN = 403
"""The status of a key without the right, and of a single prompt that a moderation stopped."""
MODERATION = re.compile(r"moderat|flagged|content.{0,20}(?:policy|filter|management)|safety", re.IGNORECASE)
NAMING_PARAMETERS = (400, 422, 500)
"""Statuses whose message may name a parameter that the endpoint does not take."""
NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""httpx's errors for requests that have not reached the server."""

CONNECTING_SECONDS = 10.0
READ_LENGTH = 10_000
"""Characters of an error message that are searched."""


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


class Connection:
    """A connection to an endpoint, which threads may share. Close it after use.

    The openai client is its asynchronous one, on an event loop in a thread of its own: only there can a deadline cover
    the whole request. The time-outs of the HTTP client begin anew with every byte that arrives.

    Raises UserError without the package openai.
    """

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint, self._key = endpoint, key
        self._redact = Redactor([*([] if key == NO_KEY else [key]), *endpoint.url_secrets])
        self._client = make_client(endpoint, key)
        self._loop = asyncio.new_event_loop()
        # A daemon: after Ctrl-C the process does not wait for a reply that may take minutes.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give up the requests in flight."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        sending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await self._client.close()

    def send(self, prompt: Prompt, form: RequestForm, max_tokens: int) -> RequestOutcome:
        """Send one request. Errors other than the network's and the server's are raised."""
        return asyncio.run_coroutine_threadsafe(self._send(prompt, form, max_tokens), self._loop).result()

    async def _send(self, prompt: Prompt, form: RequestForm, max_tokens: int) -> RequestOutcome:
        import openai

        from bench.judging.body_limit import UnreadableBody

        endpoint = self._endpoint
        parameters = form.parameters(endpoint, max_tokens)
        try:
            async with asyncio.timeout(endpoint.timeout):
                response = await self._client.chat.completions.with_raw_response.create(
                    model=endpoint.model,
                    messages=form.messages(prompt),
                    extra_body=parameters,
                )
        except TimeoutError:
            reason = f"no complete reply within {endpoint.timeout:g} seconds"
            return RequestOutcome(reason=reason, retryable=True, billable=True)
        except UnreadableBody as error:
            return RequestOutcome(reason=one_line(str(error), self._redact, MESSAGE_LENGTH), billable=True)
        except openai.APIConnectionError as error:  # time-outs are connection errors too
            return _lost(error, self._redact)
        except openai.APIStatusError as error:
            sent = {*parameters, *([SYSTEM_ROLE] if prompt.system else [])}
            return _refused(error, endpoint, self._key, sent, self._redact)
        except UnicodeEncodeError:  # of the prompt: the key is ASCII
            return RequestOutcome(reason="the prompt holds half of a surrogate pair, which cannot be sent")
        # Parsed here: the client would accept any JSON as a completion.
        outcome = parse_reply(response.http_response.content, endpoint.model, max_tokens, self._redact)
        if outcome.reply is None or not form.refused:
            return outcome
        return replace(outcome, reply=replace(outcome.reply, refused_parameters=tuple(sorted(form.refused))))


def make_client(endpoint: Endpoint, key: str) -> AsyncOpenAI:
    """A client of the endpoint; the caller closes it. Raises UserError without openai.

    The client's own retries are off: `bench.judging.request_queue` says why.
    """
    try:
        import openai
    except ImportError:
        raise UserError(
            "judging by an endpoint needs the package openai, which is not installed",
            'pip install "bench-peft[judge]"',
        ) from None
    from httpx2 import InvalidURL

    from bench.judging.body_limit import ACCEPTED, ONE_REQUEST, limit_body

    # Below the deadline, so that a server that cannot be reached is told from a slow one.
    connecting = min(CONNECTING_SECONDS, 0.9 * endpoint.timeout)
    try:
        return openai.AsyncOpenAI(
            api_key=key,
            # Without its query, which the client would leave in front of the path of a request.
            base_url=urlsplit(endpoint.url)._replace(query="", fragment="").geturl(),
            default_query=endpoint.query,
            timeout=openai.Timeout(endpoint.timeout, connect=connecting),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, headers=ACCEPTED, event_hooks={"response": [limit_body]}, limits=ONE_REQUEST
            ),
        )
    except (ImportError, OSError) as error:  # for a SOCKS proxy; for a file of certificates
        reason = str(error)
    except (ValueError, InvalidURL):  # of the address or of a proxy's, whose password the message may repeat
        reason = "an address is not valid"
    raise UserError(
        f"cannot prepare requests to {endpoint.address}: {reason}",
        "Check base_url, and the environment variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE.",
    )


def _lost(error: APIConnectionError, redact: Redact) -> RequestOutcome:
    """The outcome of a request without a complete response."""
    cause = error.__cause__ or error
    kind = type(cause).__name__
    message = one_line(str(cause), redact, MESSAGE_LENGTH)
    unreached = kind in NOT_SENT
    reason = f"{kind}: {message}" if message else kind
    return RequestOutcome(reason=reason, retryable=True, billable=not unreached, unreached=unreached)


def _refused(
    error: APIStatusError, endpoint: Endpoint, key: str, parameters: Collection[str], redact: Redact
) -> RequestOutcome:
    """The outcome of a response with an error status to a request with these parameters."""
    status, headers = error.status_code, error.response.headers
    reason = f"HTTP {status}: {error_message(error.response.text, redact)}"
    details = error.response.text[:READ_LENGTH]
    if 300 <= status < 400:
        target = one_line(headers.get("location", "another address"), redact, MESSAGE_LENGTH)
        problem = f"{endpoint.address} redirects to {target}; the key is not sent to another address"
        return RequestOutcome(fatal=UserError(problem, "If that is the endpoint, give its address as base_url."))
    # OpenAI's 429 for an account without credit: waiting does not help.
    if status in OF_EVERY_REQUEST or error.code == "insufficient_quota":
        return RequestOutcome(fatal=_of_every_request(endpoint, status, reason, key))
    if status == FORBIDDEN:
        refusal = None if MODERATION.search(details) else _of_every_request(endpoint, status, reason, key)
        return RequestOutcome(reason=reason, refusal=refusal)
    refused = refused_parameters(details).intersection(parameters) if status in NAMING_PARAMETERS else frozenset()
    retryable = status in TRANSIENT or status >= 500
    wait = _retry_after(headers) if retryable else None
    return RequestOutcome(reason=reason, retryable=retryable, wait=wait, refused_parameters=refused)


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
