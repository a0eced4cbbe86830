"""Multiple-choice questions, and how they become text.

A `Question` has a text, choices and the index of the right choice. A `Wording` says how the questions of a task are put
into words. Training and scoring both use `render`, so that a model is scored on exactly the kind of text that it was
trained on (same prompt, same boundary between prompt and answer).

Four formats, as docs/protocols.md has them:

- ``question``      the question alone (``Question: ...\\nAnswer:``); an answer is a choice's text;
- ``lm_eval``       the text of lm-eval's task file, where lm-eval has the task; else like ``question``;
- ``llm_adapters``  LLM-Adapters' wrapper with the choices listed; an answer is
                    ``the correct answer is answer3`` (arXiv 2304.01933; strings as in its data files);
- ``loreft``        the same instruction and answer without a wrapper, a line each (pyreft, examples/loreft).
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from bench.hashing import short_hash

Format = Literal["question", "lm_eval", "llm_adapters", "loreft"]

# The authors' literals, white space included (LLM-Adapters finetune.py, generate_prompt):
# two spaces after "request.", 16 spaces of indentation, an indented empty line before the response.
_INDENT = " " * 16
LLM_ADAPTERS_PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.  \n\n"
    + _INDENT
    + "### Instruction:\n"
    + _INDENT
    + "{instruction}\n"
    + _INDENT
    + "\n"
    + _INDENT
    + "### Response:\n"
    + _INDENT
)
# Its other literal, for evaluation (commonsense_evaluate.py): one space after "request.", an empty line before the
# response. The protocol `llm-adapters-v1` asks with this literal models that were trained with the first.
LLM_ADAPTERS_EVALUATION_PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n"
    + _INDENT
    + "### Instruction:\n"
    + _INDENT
    + "{instruction}\n\n"
    + _INDENT
    + "### Response:\n"
    + _INDENT
)

TRIGGER = "the correct answer is "
"""What every answer of the formats `llm_adapters` and `loreft` begins with: in LLM-Adapters' data it opens `output`,
and pyreft puts it before `answer` (its `trigger_tokens`). The model must generate it: it is supervised, and never in a
prompt."""


@dataclass(frozen=True)
class Question:
    """One multiple-choice question.

    `text` holds no answer and no choice; for a fill-in form it holds one ``_`` where a choice goes.
    """

    task: str
    text: str
    choices: tuple[str, ...]
    label: int
    lm_eval_text: str = field(default="", compare=False, repr=False)
    """The text in lm-eval's task, where that cannot be made of `text` (HellaSwag's, from the hub's columns). Not part
    of the question's identity: it follows from the same row."""

    @cached_property
    def key(self) -> str:
        """Content hash, 16 hex digits: the question's identity, and its position in the canonical order."""
        content = json.dumps([self.task, self.text, self.choices, self.label], ensure_ascii=False)
        return short_hash(content)

    @cached_property
    def normalized(self) -> str:
        """The text as duplicates are looked for: without case, extra white space and punctuation at the ends."""
        return normalize(self.text)

    @cached_property
    def normalized_with_choices(self) -> str:
        """The same with the choices, in any order: a stricter notion of "the same question"."""
        return "\x1f".join([self.normalized, *sorted(normalize(choice) for choice in self.choices)])


def normalize(text: str) -> str:
    """Unicode-folded, lower-cased, single spaces, no punctuation at the ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .,:;?!\"'")


@dataclass(frozen=True)
class Wording:
    """How the questions of a task are put into words. Its repr is part of the data's fingerprint: do not rename fields.

    form: ``question`` (``Question: {text}\\nAnswer:`` and the choice), ``completion`` (the text itself and the
        ending) or ``blank`` (the text up to ``_`` with the choice in it, scored on what follows).
    instruction: LLM-Adapters' sentence before the question.
    noun: what LLM-Adapters calls a choice (``Answer1: ...``); empty where the choices are the answers (true/false).
    between, before_format: its white space between choices, and before ``Answer format``.
    strip_brackets: in the ``question`` and ``lm_eval`` formats, drop WikiHow's ``[header]`` marks as lm-eval's
        hellaswag does.
    lm_eval_prompt: the prompt of lm-eval's task file, with the text at ``{}``; empty where it is that of ``question``.
        Not in the repr: the fingerprints of other formats stay what they are.
    """

    form: Literal["question", "completion", "blank"] = "question"
    instruction: str = "Please choose the correct answer to the question: "
    noun: str = "Answer"
    between: str = " "
    before_format: str = "\n\n"
    strip_brackets: bool = False
    lm_eval_prompt: str = field(default="", repr=False)

    def llm_adapters_instruction(self, text: str, choices: tuple[str, ...]) -> str:
        """The `instruction` field of LLM-Adapters' JSON for this question, character for character."""
        names = self.answer_names(choices)
        listed = self.between.join(f"{self.noun}{number}: {choice}" for number, choice in enumerate(choices, start=1))
        body = f"{listed}{self.before_format}" if self.noun else ""
        return f"{self.instruction}{text}\n\n{body}Answer format: {'/'.join(names)}"

    def answer_names(self, choices: tuple[str, ...]) -> tuple[str, ...]:
        """What LLM-Adapters has the model say for each choice: ``answer1`` ..., or the choice itself."""
        if not self.noun:
            return choices
        return tuple(f"{self.noun.lower()}{number}" for number in range(1, len(choices) + 1))


@dataclass(frozen=True)
class Rendered:
    """A question as text: `contexts[i] + continuations[i]` is the whole text of choice i.

    The contexts are all the same; in a fill-in question the continuations are all the same instead.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    label: int


def render(question: Question, wording: Wording, format: Format) -> Rendered:
    """Put a question into words.

    Raises ValueError for a format that is unknown, or a fill-in question without its blank.
    """
    n = len(question.choices)
    if format in ("llm_adapters", "loreft"):
        instruction = wording.llm_adapters_instruction(question.text, question.choices)
        # pyreft's task_prompt_template is "%s\n". White space at the end of a prompt is supervised with the answer
        # (`encoding.encode_pair`), so the tokens of the prompt are those of the instruction alone.
        context = (
            LLM_ADAPTERS_PROMPT.format(instruction=instruction) if format == "llm_adapters" else f"{instruction}\n"
        )
        answers = tuple(TRIGGER + name for name in wording.answer_names(question.choices))
        return Rendered((context,) * n, answers, question.label)
    if format not in ("question", "lm_eval"):
        raise ValueError(f"unknown format {format!r}")
    if wording.form == "blank":
        before, blank, after = question.text.partition("_")
        if not blank:
            raise ValueError(f"a fill-in question of {question.task} has no '_': {question.text!r}")
        contexts = tuple(before + choice for choice in question.choices)
        return Rendered(contexts, (" " + after.strip(),) * n, question.label)
    text, choices = question.text, question.choices
    if format == "lm_eval":
        text = question.lm_eval_text or text
    if wording.strip_brackets:
        text, choices = _without_brackets(text), tuple(_without_brackets(choice) for choice in choices)
    context = text if wording.form == "completion" else f"Question: {text}\nAnswer:"
    if format == "lm_eval" and wording.lm_eval_prompt:
        context = wording.lm_eval_prompt.replace("{}", text)
    return Rendered((context,) * n, tuple(" " + choice for choice in choices), question.label)


def _without_brackets(text: str) -> str:
    """As lm-eval cleans HellaSwag (lm_eval/tasks/hellaswag/utils.py)."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")
