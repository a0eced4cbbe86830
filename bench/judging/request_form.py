"""How a request is written: some endpoints refuse parameters that others need.

OpenAI's newer models take `max_completion_tokens` instead of `max_tokens`, and no temperature but their own. Some
servers refuse fields that they do not know, such as `seed`, and some chat templates have no system role. An endpoint
that refuses a parameter by its name is sent the request once more without it, or with its other name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.judging.endpoint_settings import TOKEN_LIMITS, Endpoint, TokenLimit

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

    from bench.judging.prompts import Prompt

SYSTEM_ROLE = "system role"
ADAPTABLE = (*TOKEN_LIMITS, "temperature", "seed", SYSTEM_ROLE)

_REFUSAL = re.compile(
    r"unsupported|not? (?:be )?(?:supported|support|permitted|allowed|recognized|recognised|accepted)"
    r"|n't (?:be )?(?:supported|support|allowed|accept)|unrecogni[sz]ed|unknown|unexpected|forbidden|deprecated"
    r"|extra (?:input|field)|only the default|invalid (?:parameter|argument|field)|instead"
    r"|must alternate|only user|only \S+ (?:is|are) (?:allowed|supported|accepted)",
    re.IGNORECASE,
)
"""The words of a server that does not take a parameter at all."""
_WRONG_VALUE = re.compile(
    r"too (?:large|big|high|long|many|small|low)|at most|at least|exceed|context length|must be|greater than|less than"
    r"|between \S+ and",
    re.IGNORECASE,
)
"""The words of a server that takes the parameter, but not this value: leaving it out would hide the user's mistake."""
_SYSTEM = re.compile(
    r"system.{0,40}(?:role|message|prompt|instruction)|roles?\b.{0,40}\bsystem|roles must alternate|only user and",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class RequestForm:
    """Which parameters a request has, and what they are called."""

    token_limit: TokenLimit = "max_tokens"
    refused: frozenset[str] = frozenset()
    """Parameters that the endpoint has refused."""

    def without(self, refused: Collection[str]) -> RequestForm | None:
        """The form for an endpoint that refuses some parameters of this one; None where there is no other form."""
        # A message that refuses one name of the token limit may recommend the other.
        names = {name for name in refused if name == self.token_limit or name not in TOKEN_LIMITS}
        others = [name for name in TOKEN_LIMITS if name not in {*self.refused, self.token_limit}]
        if self.token_limit in names and not others:
            return None
        limit = others[0] if self.token_limit in names else self.token_limit
        return RequestForm(limit, self.refused | names) if names - self.refused else None

    def messages(self, prompt: Prompt) -> list[ChatCompletionMessageParam]:
        """The messages of a request. Without a system role, its text stands before the user's."""
        if prompt.system and SYSTEM_ROLE in self.refused:
            return [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        return messages

    def parameters(self, endpoint: Endpoint, max_tokens: int) -> dict[str, int | float]:
        """The parameters of a request besides the model and the messages."""
        optional = {"temperature": endpoint.temperature, "seed": endpoint.seed}
        sent = {name: value for name, value in optional.items() if value is not None and name not in self.refused}
        return {self.token_limit: max_tokens, **sent}


def refused_parameters(message: str) -> frozenset[str]:
    """The parameters that an error message refuses by their names; none where it refuses their value."""
    if not _REFUSAL.search(message) or _WRONG_VALUE.search(message):
        return frozenset()
    names = {name for name in ADAPTABLE if re.search(rf"(?<!\w){name}(?!\w)", message)}
    if _SYSTEM.search(message):
        names.add(SYSTEM_ROLE)
    return frozenset(names)
