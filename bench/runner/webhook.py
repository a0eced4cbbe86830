"""Tells a URL how a sweep goes."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from bench.errors import UserError
from bench.progress import Listener

WAITING_SECONDS = 10


def check(url: str) -> None:
    """Raises UserError for what is no URL that can be posted to."""
    if not url.startswith(("https://", "http://")):
        raise UserError(f"--notify {url!r} is no URL", "Give one that takes a POST of JSON: https://...")


def post(url: str, content: Mapping[str, Any], listener: Listener) -> None:
    """POST as JSON. What goes wrong is told and nothing more: a sweep does not end because nobody listens."""
    data = json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=WAITING_SECONDS).close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        listener.line(f"--notify: could not be told: {error}")
