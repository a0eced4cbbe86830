"""The settings of an endpoint: its address, its model, its limits and its prices."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.judging.prompts import Prompt

OPENAI_URL = "https://api.openai.com/v1"

TokenLimit = Literal["max_tokens", "max_completion_tokens"]
TOKEN_LIMITS: tuple[TokenLimit, ...] = ("max_tokens", "max_completion_tokens")
"""The names of the parameter that limits a reply's tokens. OpenAI's newer models refuse the first; older servers do not
know the second."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible endpoint. Raises UserError for settings that cannot work."""

    model: str
    base_url: str | None = None
    """None: OpenAI's own address, whatever the openai package reads from the environment."""
    key_variable: str | None = "OPENAI_API_KEY"
    """The name of the environment variable that holds the key; None: no key is sent."""
    temperature: float | None = 0.0
    """FastChat's default. None: not sent, so that the server's own applies."""
    max_tokens: int = 2048
    """The largest number of tokens in a reply, a reasoning model's thoughts included; FastChat's default."""
    token_limit: TokenLimit = "max_tokens"
    """The name of that parameter in a request. The other name is tried where the endpoint refuses this one."""
    concurrency: int = 8
    """The largest number of requests in flight."""
    timeout: float = 120.0
    """Seconds from the start of a request to its complete reply; after that it counts as lost."""
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
                f"base_url {self.url.partition('?')[0].rpartition('@')[2]!r} is not an http address",
                "Give an address such as http://localhost:8000/v1, or http://localhost:8000/v1?api-version=1.",
            )
        if not self.model.isprintable():
            raise UserError(f"the model's name {self.model!r} has characters that cannot be shown", "Correct it.")
        parse_token_limit(self.token_limit)
        for name in ("max_tokens", "concurrency", "timeout", "tries"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}", "It must be a number above 0.")
        for name in ("temperature", "price_in", "price_out", "spending_limit"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name} is {value}", "It must be 0 or a number above 0.")
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

    def reserve(self, prompt: Prompt, max_tokens: int) -> float:
        """Dollars reserved for a request while it is in flight; the reply is assumed to have `max_tokens`."""
        return self.dollars(estimated_tokens(prompt), max_tokens)

    @property
    def url_secrets(self) -> tuple[str, ...]:
        """What may be secret in the address: the user's name, the password, the values of the query."""
        parts = urlsplit(self.url)
        return (unquote(parts.username or ""), unquote(parts.password or ""), *self.query.values())

    @property
    def query(self) -> dict[str, str]:
        """The parameters that the address gives every request, such as `api-version`."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))


def estimated_tokens(prompt: Prompt) -> float:
    """The tokens of a prompt: one for four characters of ASCII, and one for two bytes of any others (a Chinese
    character has three bytes, and takes one to two tokens)."""
    texts = prompt.system + prompt.user
    others = len(texts.encode("utf-8", "replace")) - (ascii_letters := sum(map(str.isascii, texts)))
    return ascii_letters / 4 + others / 2


def parse_token_limit(text: str) -> TokenLimit:
    """Raises UserError for a text that is not one of the names."""
    for name in TOKEN_LIMITS:
        if text == name:
            return name
    raise unknown("name of the token limit", text, TOKEN_LIMITS)


def is_address(url: str) -> bool:
    """True for the form of an http address; nothing is contacted."""
    if not url.isprintable() or " " in url:  # urlsplit removes line breaks, and the HTTP client refuses them
        return False
    try:
        parts = urlsplit(url)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))  # raises ValueError for what is no name=value
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
