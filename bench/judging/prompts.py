"""The prompts of judging models: FastChat's eight prompts, and its rule for choosing one.

The texts are data of lm-sys/FastChat (Apache-2.0, commit 0e6d3e4, fastchat/llm_judge/data/judge_prompts.jsonl),
unchanged in judge_prompts.jsonl. The rule is that of FastChat's gen_judgment.py and common.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.hashing import short_hash

if TYPE_CHECKING:
    from bench.data.open_questions import OpenQuestion

NEED_REFERENCE = ("math", "reasoning", "coding", "arena-hard-200")
"""Categories whose judge is shown a reference answer; FastChat's NEED_REF_CATS."""


@dataclass(frozen=True)
class Prompt:
    """A prompt for a judging model."""

    name: str
    """FastChat's name of the prompt, e.g. `single-math-v1-multi-turn`."""
    system: str
    user: str

    @property
    def hash(self) -> str:
        """Of both texts, 16 hex digits."""
        return _hash([self.system, self.user])


def rating_prompt(question: OpenQuestion, turn: int, answers: Sequence[str], reference: bool = True) -> Prompt:
    """Asks for a rating, 1 to 10, of the answer to a turn (1 or 2); `answers` are those to the turns up to it.

    A reference answer is shown if the category calls for one, the question has one and `reference` is true; of several,
    the first. Raises ValueError for a turn without a question or an answer.
    """
    return _filled("single-v1", "single-math-v1", question, turn, {"answer": answers}, reference)


def comparison_prompt(
    question: OpenQuestion, turn: int, first: Sequence[str], second: Sequence[str], reference: bool = True
) -> Prompt:
    """Asks which of two answers to a turn is better: `[[A]]` the first, `[[B]]` the second, `[[C]]` neither.

    References and errors are those of `rating_prompt`.
    """
    return _filled("pair-v2", "pair-math-v1", question, turn, {"answer_a": first, "answer_b": second}, reference)


def lacks_reference(category: str, prompt: str) -> bool:
    """True for a judgment of a category that calls for a reference answer, by a prompt that shows none. FastChat
    refuses to judge such a question."""
    return category in NEED_REFERENCE and "-math-" not in prompt


def templates_hash() -> str:
    """Hash of all eight prompts, 16 hex digits."""
    return _hash(_templates())


def _filled(
    general: str,
    with_reference: str,
    question: OpenQuestion,
    turn: int,
    answers: Mapping[str, Sequence[str]],
    reference: bool,
) -> Prompt:
    """`answers`: by their placeholders in the prompts of one turn; the prompts of two turns append `_1` and `_2`."""
    with_reference_shown = reference and question.category in NEED_REFERENCE and bool(question.references)
    texts = {"question": [part.full_text for part in question.turns], **answers}
    if with_reference_shown:
        texts["ref_answer"] = question.references[0]
    values = {}
    for placeholder, turns in texts.items():
        if turn not in (1, 2) or len(turns) < turn:
            raise ValueError(
                f"turn {turn} of question {question.id}: {placeholder} has {len(turns)} turns, and a prompt 1 or 2"
            )
        for number in range(1, turn + 1):
            values[f"{placeholder}_{number}"] = turns[number - 1]
        values[placeholder] = turns[0]
    name = (with_reference if with_reference_shown else general) + ("-multi-turn" if turn == 2 else "")
    system, template = _templates()[name]
    # Only the template is searched for placeholders: braces in the inserted texts have no meaning.
    return Prompt(name, system, template.format(**values))


@functools.cache
def _templates() -> dict[str, tuple[str, str]]:
    """(system prompt, template of the user's message) by the prompt's name."""
    with Path(__file__).with_name("judge_prompts.jsonl").open(encoding="utf-8") as file:
        return {row["name"]: (row["system_prompt"], row["prompt_template"]) for row in map(json.loads, file)}


def _hash(content: object) -> str:
    return short_hash(json.dumps(content, sort_keys=True))
