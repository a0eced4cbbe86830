"""What a method is trained on: a prompt and its answer, whatever they were made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from bench.data.questions import Format, Question, Wording, normalize, render


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
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def normalized(self) -> str:
        return normalize(self.prompt)

    @cached_property
    def normalized_with_choices(self) -> str:
        return self.normalized


TrainingRow = Question | Pair


def example(row: TrainingRow, wording: Wording, format: Format) -> Example:
    """The row as text: a question with its right choice, rendered exactly as scoring renders it."""
    if isinstance(row, Pair):
        return Example(row.prompt, row.answer)
    rendered = render(row, wording, format)
    return Example(rendered.contexts[row.label], rendered.continuations[row.label])
