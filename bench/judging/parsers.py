"""Parsers that read a rating or a verdict from a judge's reply.

There are two of each. FastChat's make results comparable with published ones; they have known faults (`[[8/10]]` is
missed, `As in [1] ... Rating: 7` gives 1, the first of two ratings counts, `[[95]]` gives 95). The strict ones are used
for everything else. A reply without a rating gives None, never a number.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Literal

Verdict = Literal["A", "B", "tie"]

LOWEST, HIGHEST = 1.0, 10.0

# FastChat has `\d+\.?\d*`. It matches the same texts, but takes quadratic time on many digits without a bracket.
_FASTCHAT = re.compile(r"\[\[(\d+(?:\.\d*)?)\]\]")
_FASTCHAT_BACKUP = re.compile(r"\[(\d+(?:\.\d*)?)\]")
_STRICT = re.compile(r"\[\[\s*(\d+(?:\.\d*)?)(?:\s*/\s*10(?:\.0*)?)?\s*\]\]", re.ASCII)
_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_VERDICTS: dict[str, Verdict] = {"A": "A", "B": "B", "C": "tie"}


def fastchat_rating(text: str) -> float | None:
    """The rating that FastChat reads (fastchat/llm_judge/common.py, run_judge_single), whatever the number.

    None where FastChat has -1 (no match) or raises (`[[08]]` is not a Python literal), and for a number too large for a
    float.
    """
    match = _FASTCHAT.search(text) or _FASTCHAT_BACKUP.search(text)
    if match is None:
        return None
    try:
        rating = float(ast.literal_eval(match.group(1)))
    except (SyntaxError, ValueError, OverflowError):
        return None
    return rating if math.isfinite(rating) else None


def strict_rating(text: str) -> float | None:
    """The last `[[x]]` with x from 1 to 10, also `[[ x ]]`, `[[x/10]]` and `[[08]]`; None without one."""
    ratings = [float(number) for number in _STRICT.findall(text)]
    return next((rating for rating in reversed(ratings) if LOWEST <= rating <= HIGHEST), None)


def fastchat_verdict(text: str) -> Verdict | None:
    """The winner that FastChat reads (run_judge_pair): `[[A]]` anywhere takes precedence over `[[B]]`, and that over
    `[[C]]`. None where FastChat has "error".
    """
    return next((verdict for letter, verdict in _VERDICTS.items() if f"[[{letter}]]" in text), None)


def strict_verdict(text: str) -> Verdict | None:
    """The last of `[[A]]`, `[[B]]` and `[[C]]` (a tie); None without one."""
    letters = _VERDICT.findall(text)
    return _VERDICTS[letters[-1]] if letters else None
