"""What a method is trained on: a prompt and its answer, whatever they were made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Pair:
    """A row of one's own prompt-and-answer data: it can be trained on, not scored on."""

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
        return normalize(self.prompt)

    @cached_property
    def normalized_with_choices(self) -> str:
        return self.normalized


@dataclass(frozen=True)
class Dialogue:
    """An instruction and its answer, or several turns of them: the last answer is what is learnt."""

    task: str
    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    """One for each turn."""
    system: str = ""

    @cached_property
    def key(self) -> str:
        """Content hash, 16 hex digits."""
        turns = [[one.text, one.input] for one in self.turns]
        content = json.dumps([self.task, self.system, turns, self.answers], ensure_ascii=False)
        return short_hash(content)

    @cached_property
    def normalized(self) -> str:
        """What is asked at first: two dialogues that open alike count as one."""
        return normalize(self.turns[0].full_text)

    @cached_property
    def normalized_with_choices(self) -> str:
        """What is asked in all turns."""
        return "\x1f".join(normalize(one.full_text) for one in self.turns)


TrainingRow = Question | Pair | Dialogue


def render_example(row: TrainingRow, wording: Wording, format: Format, template: Template) -> Example:
    """The row as text: a question with its right choice, rendered exactly as scoring renders it; a dialogue as
    `template` has it, the prompt of its last turn being the one that is asked with."""
    if isinstance(row, Pair):
        return Example(row.prompt, row.answer)
    if isinstance(row, Dialogue):
        prompt = template.prompt(row.turns, row.answers[:-1], row.system)
        return Example(prompt, template.answer(row.turns, row.answers, row.system))
    rendered = render(row, wording, format)
    return Example(rendered.contexts[row.label], rendered.continuations[row.label])
