"""How a rating or a verdict is read out of what a judge wrote.

There are two readings of everything. FastChat's is kept to be comparable with what others published; it has known
faults (`[[8/10]]` is missed, `As in [1] ... Rating: 7` is a 1, of two ratings the first counts, `[[95]]` is a 95). The
strict one is for everything else. A text without a rating has none: it is never a number.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Literal

Verdict = Literal["A", "B", "tie"]

LOWEST, HIGHEST = 1.0, 10.0

# FastChat has `\d+\.?\d*`, which takes the same texts but, for n digits without a bracket after them, n squared steps.
_FASTCHAT = re.compile(r"\[\[(\d+(?:\.\d*)?)\]\]")
_FASTCHAT_BACKUP = re.compile(r"\[(\d+(?:\.\d*)?)\]")
_STRICT = re.compile(r"\[\[\s*(\d+(?:\.\d*)?)(?:\s*/\s*10(?:\.0*)?)?\s*\]\]", re.ASCII)
_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_VERDICTS: dict[str, Verdict] = {"A": "A", "B": "B", "C": "tie"}


def fastchat_rating(text: str) -> float | None:
    """The rating that FastChat reads (fastchat/llm_judge/common.py, run_judge_single), whatever number that is.

    None where FastChat has -1 (no match) or raises (`[[08]]` is no literal of Python), and for a number so large that
    a float cannot hold it.
    """
    match = _FASTCHAT.search(text) or _FASTCHAT_BACKUP.search(text)
    if match is None:
        return None
    try:
        found = float(ast.literal_eval(match.group(1)))
    except (SyntaxError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def strict_rating(text: str) -> float | None:
    """The last `[[x]]` whose x is a number from 1 to 10, also `[[ x ]]`, `[[x/10]]` and `[[08]]`; None without one."""
    ratings = [float(found) for found in _STRICT.findall(text)]
    return next((one for one in reversed(ratings) if LOWEST <= one <= HIGHEST), None)


def fastchat_verdict(text: str) -> Verdict | None:
    """The winner that FastChat reads (run_judge_pair): `[[A]]` anywhere goes before `[[B]]`, and that before `[[C]]`.

    None where FastChat has "error".
    """
    return next((verdict for letter, verdict in _VERDICTS.items() if f"[[{letter}]]" in text), None)


def strict_verdict(text: str) -> Verdict | None:
    """The last of `[[A]]`, `[[B]]` and `[[C]]` (a tie); None without one."""
    found = _VERDICT.findall(text)
    return _VERDICTS[found[-1]] if found else None
