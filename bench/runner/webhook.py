"""Posts the progress of a sweep to a URL."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Mapping

from bench.errors import UserError
from bench.progress import Listener

TIMEOUT_SECONDS = 10


def check_url(url: str) -> None:
    """Raises UserError for a URL that cannot be posted to."""
    if not url.startswith(("https://", "http://")):
        raise UserError(f"--notify {url!r} is not a URL", "Give a URL that takes a POST of JSON: https://...")


def post(url: str, content: Mapping[str, str | int], listener: Listener) -> None:
    """POST as JSON. A failure is reported in a line and nothing more: the sweep goes on."""
    data = json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        listener.line(f"--notify: POST failed: {error}")
