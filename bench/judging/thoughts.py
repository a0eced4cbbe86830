"""Separates a reasoning model's thoughts from its answer, where a server leaves both in one text.

Thoughts weigh several ratings before one is given; a number in them is not the score. A reply that was cut off has none
either, whatever it says up to there: `finish_reason` decides.
"""

from __future__ import annotations

import re

INCOMPLETE = frozenset(
    {
        *("length", "max_tokens", "max_output_tokens", "model_length", "token_limit", "incomplete", "pause_turn"),
        *("content_filter", "content-filter", "safety", "recitation"),
        *("abort", "aborted", "cancelled", "canceled", "error"),
        *("tool_calls", "tool_use", "function_call"),
    }
)
"""Finish reasons, in lower case, of replies that do not end where the model ended them."""

_NAMES = "think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|seed:think"
_OPENING = re.compile(
    rf"^[ \t]*(?:<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|thinking|think|START_THINKING)\|>"
    r"|<\|channel\|>analysis|<\|channel>thought)",
    re.IGNORECASE | re.MULTILINE,
)
"""Thoughts begin a line: a tag within a line is quoted from the answer that is judged."""
_CLOSING = re.compile(
    rf"(?<![`'\"])(?:</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|/thinking|/think|END_THINKING)\|>"
    r"|<\|channel\|>final<\|message\|>|<channel\|>)",
    re.IGNORECASE,
)
"""Not behind a quotation mark, where it is quoted as well."""


def incomplete(finish_reason: str) -> bool:
    """True if a reply with this finish reason was cut off."""
    return finish_reason.strip().lower() in INCOMPLETE


def text_after_thoughts(text: str, finish_reason: str) -> str:
    """The part of a reply that may hold a verdict: what follows its thoughts; empty where it is not complete.

    Everything up to the last closing tag is thoughts: some chat templates write the opening one into the prompt.
    """
    if incomplete(finish_reason):
        return ""
    closings = list(_CLOSING.finditer(text))
    answer = text[closings[-1].end() :] if closings else text
    opening = _OPENING.search(answer)
    return answer[: opening.start()] if opening else answer
