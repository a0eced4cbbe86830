"""Training rows (questions, prompt-and-answer pairs, dialogues), and the prompt and answer that each becomes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property

from bench.data.open_questions import Turn
from bench.data.questions import Format, Question, Wording, normalize, render
from bench.data.templates import Template
from bench.hashing import short_hash


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that follows it, to train on. `prompt + answer` is the whole text."""

    prompt: str
    answer: str
    task: str = field(default="", compare=False)
    """The set that it comes from."""


@dataclass(frozen=True)
class PromptAnswer:
    """A row of a user's prompt-and-answer data: for training only, because it has no choices to score."""

    task: str
    prompt: str
    answer: str

    @cached_property
    def key(self) -> str:
        """Content hash, 16 hex digits."""
        content = json.dumps([self.task, self.prompt, self.answer], ensure_ascii=False)
        return short_hash(content)

    @cached_property
    def normalized(self) -> str:
        """The prompt, as duplicates are looked for."""
        return normalize(self.prompt)

    @cached_property
    def normalized_with_choices(self) -> str:
        """The same: it has no choices."""
        return self.normalized


@dataclass(frozen=True)
class Dialogue:
    """An instruction and its answer, or several turns of them. Training supervises the last answer only."""

    task: str
    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    """One for each turn."""
    system: str = ""

    @cached_property
    def key(self) -> str:
        """Content hash, 16 hex digits."""
        turns = [[turn.text, turn.input] for turn in self.turns]
        content = json.dumps([self.task, self.system, turns, self.answers], ensure_ascii=False)
        return short_hash(content)

    @cached_property
    def normalized(self) -> str:
        """The first turn, as duplicates are looked for: dialogues that open alike count as duplicates."""
        return normalize(self.turns[0].full_text)

    @cached_property
    def normalized_with_choices(self) -> str:
        """All turns: a stricter notion of a duplicate."""
        return "\x1f".join(normalize(turn.full_text) for turn in self.turns)


TrainingRow = Question | PromptAnswer | Dialogue


def render_example(row: TrainingRow, wording: Wording, format: Format, template: Template) -> Example:
    """The row as text: a question with its right choice, rendered exactly as scoring renders it; a dialogue in the
    `template`, whose prompt of the last turn is also the prompt of open questions."""
    if isinstance(row, PromptAnswer):
        return Example(row.prompt, row.answer, row.task)
    if isinstance(row, Dialogue):
        prompt = template.prompt(row.turns, row.answers[:-1], row.system)
        return Example(prompt, template.answer(row.turns, row.answers, row.system), row.task)
    rendered = render(row, wording, format)
    return Example(rendered.contexts[row.label], rendered.continuations[row.label], row.task)
