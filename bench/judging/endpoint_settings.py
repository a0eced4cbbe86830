"""The settings of an endpoint: its address, its model, its limits and its prices."""

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
    """A model behind an OpenAI-compatible endpoint. Raises UserError for settings that cannot work."""

    model: str
    base_url: str | None = None
    """None: OpenAI's own address, whatever the openai package reads from the environment."""
    key_variable: str | None = "OPENAI_API_KEY"
    """The name of the environment variable that holds the key; None: no key is sent."""
    temperature: float = 0.0
    """FastChat's default."""
    max_tokens: int = 2048
    """The largest number of tokens in a reply; FastChat's default."""
    concurrency: int = 8
    """The largest number of requests in flight."""
    timeout: float = 120.0
    """Seconds that a server may be silent before the request counts as lost."""
    tries: int = 6
    """How often a request is sent before it is given up."""
    price_in: float | None = None
    """Dollars per million prompt tokens."""
    price_out: float | None = None
    """Dollars per million completion tokens."""
    spending_limit: float | None = None
    """Dollars that one call of `send_all` may spend. Needs both prices."""
    seed: int | None = None
    """Sent only where it is set: some servers refuse fields that they do not know."""

    def __post_init__(self) -> None:
        # Neither message repeats the value in a place where a key or a password may have been put.
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.key_variable):
            raise UserError(
                "key_variable is not the name of an environment variable",
                "Give the name of the variable, never the key itself.",
            )
        if not is_address(self.url):
            raise UserError(
                f"base_url {self.url.rpartition('@')[2]!r} is not an http address",
                "Give an address such as http://localhost:8000/v1.",
            )
        for name in ("max_tokens", "concurrency", "timeout", "tries"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}", "It must be above 0.")
        if self.spending_limit is not None and not self.priced:
            raise UserError(
                "a spending limit needs both prices", "Give price_in and price_out, in dollars per million tokens."
            )

    @property
    def url(self) -> str:
        return OPENAI_URL if self.base_url is None else self.base_url

    @property
    def address(self) -> str:
        """The address for messages and records: without user name, password and query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}"

    @property
    def is_openai(self) -> bool:
        return urlsplit(self.url).hostname == urlsplit(OPENAI_URL).hostname

    @property
    def priced(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of a request in dollars; 0 without prices."""
        return ((self.price_in or 0) * prompt_tokens + (self.price_out or 0) * completion_tokens) / 1e6

    def reserve(self, prompt: Prompt) -> float:
        """Dollars reserved for a request while it is in flight: four characters count as a token, and the reply is
        assumed to have `max_tokens`."""
        return self.dollars((len(prompt.system) + len(prompt.user)) / 4, self.max_tokens)


def is_address(url: str) -> bool:
    """True for the form of an http address; nothing is contacted."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
