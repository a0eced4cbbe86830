"""Where a judging model is asked, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judging.prompts import Prompt

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked, and how. Raises UserError for settings that cannot work."""

    model: str
    base_url: str | None = None
    """None: OpenAI's own, whatever the library's environment variables say."""
    key_variable: str | None = "OPENAI_API_KEY"
    """The name of the environment variable that holds the key; None: none is sent."""
    temperature: float = 0.0
    max_tokens: int = 2048
    """Of one reply. Both are FastChat's."""
    concurrency: int = 8
    """Requests in flight at most."""
    timeout: float = 120.0
    """Seconds of one request: as long as a server may be silent before it counts as lost."""
    tries: int = 6
    price_in: float | None = None
    """Dollars for a million tokens of prompts."""
    price_out: float | None = None
    """Dollars for a million tokens of replies."""
    spending_limit: float | None = None
    """Dollars that one call of `ask_all` may spend. Needs both prices."""
    seed: int | None = None
    """Sent where it is given: some servers refuse fields that they do not know."""

    def __post_init__(self) -> None:
        # Neither message repeats what was given where it may hold a key or a password.
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.key_variable):
            raise UserError("key_variable is no name of an environment variable", "Give the name, and never the key.")
        if not is_address(self.url):
            raise UserError(
                f"base_url {self.url.rpartition('@')[2]!r} is no address", "Give one like http://localhost:8000/v1."
            )
        for name in ("max_tokens", "concurrency", "timeout", "tries"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}", "It must be above 0.")
        if self.spending_limit is not None and not self.priced:
            raise UserError("a spending limit needs both prices", "Give price_in and price_out, dollars a million.")

    @property
    def url(self) -> str:
        return OPENAI_URL if self.base_url is None else self.base_url

    @property
    def address(self) -> str:
        """The same for messages: without a user's name, a password or a query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"

    @property
    def is_openai(self) -> bool:
        return urlsplit(self.url).hostname == urlsplit(OPENAI_URL).hostname

    @property
    def priced(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost; 0 without prices."""
        return ((self.price_in or 0) * prompt_tokens + (self.price_out or 0) * completion_tokens) / 1e6

    def set_aside(self, prompt: Prompt) -> float:
        """Dollars that a request is taken to cost while in flight: four letters are a token, and all of max_tokens."""
        return self.dollars((len(prompt.system) + len(prompt.user)) / 4, self.max_tokens)


def is_address(url: str) -> bool:
    """Whether a text is an http address as far as can be seen."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
