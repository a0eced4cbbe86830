"""The prepared data of a sweep, as cells use them: training subsets, questions with their texts, fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.data.duplicates import clusters
from bench.data.examples import Dialogue, Example, TrainingRow, render_example
from bench.data.open_questions import OpenQuestion, open_questions_fingerprint
from bench.data.ordering import seeded_shuffle
from bench.data.questions import Question, Rendered, render
from bench.data.tasks import Task
from bench.data.templates import make_template
from bench.errors import UserError
from bench.hashing import short_hash
from bench.sweep.sections import DataConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Overlap:
    """Training rows whose question also occurs in a test or development set of the sweep."""

    by_question: int
    by_question_and_choices: int
    removed: int


@dataclass(frozen=True)
class SweepData:
    """The data of a sweep after drawing and cleaning. `bench.data.prepare` makes it, once for all cells."""

    config: DataConfig
    tasks: dict[str, Task]
    pools: dict[str, tuple[TrainingRow, ...]]
    """Rows that cells may be trained on, by training set."""
    development: dict[str, tuple[Question, ...]]
    """Questions of each training set that choose learning rates and check merging."""
    questions: dict[str, tuple[Question, ...]]
    """Questions that every cell is scored on, by task."""
    overlap: dict[str, Overlap]
    notes: tuple[str, ...]
    """Sentences that every report on these data must contain."""
    open_questions: dict[str, tuple[OpenQuestion, ...]] = field(default_factory=dict)
    """Questions that every cell answers in free text, by set."""
    readings: dict[str, str] = field(default_factory=dict)
    """How the columns of each of the user's own sets were read, for the plan."""
    placeholders: tuple[str, ...] = ()
    """Sets whose rows are placeholders for a hub's: good for a plan only."""
    development_answers: dict[str, tuple[TrainingRow, ...]] = field(default_factory=dict)
    """Rows without choices that choose learning rates where there are no development questions."""

    @cached_property
    def development_view(self) -> SweepData:
        """The same data, scored on the development questions: for choices that must not be made on the test set."""
        return replace(self, questions={task: rows for task, rows in self.development.items() if rows})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the training pools and their wording, 16 hex digits: equal content has an equal fingerprint,
        whatever its origin."""
        parts: list[str] = []
        for name in sorted(self.pools):
            parts += [f"{name}:{self.tasks[name].wording}", *(row.key for row in self.pools[name])]
        return short_hash(*parts)

    @cached_property
    def development_answers_fingerprint(self) -> str:
        """Hash of `development_answers` and their wording, 16 hex digits; empty without any."""
        rows = [row.key for name in sorted(self.development_answers) for row in self.development_answers[name]]
        return short_hash(self.config.template, *rows) if rows else ""

    def rendered_development_answers(self, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
        """The rows that choose learning rates by their answers, as text."""
        template = make_template(self.config.template, tokenizer if self.has_instructions else None)
        return [
            render_example(row, self.tasks[row.task].wording, self.config.format, template)
            for rows in self.development_answers.values()
            for row in rows
        ]

    def questions_fingerprint(self, task: str) -> str:
        """Hash of the questions that a task is scored on, in their order, with their wording and format."""
        wording = f"{self.config.format}:{self.tasks[task].wording}"
        return short_hash(wording, *(question.key for question in self.questions[task]))

    def clusters(self, task: str) -> dict[str, str]:
        """By question of a task, the id of the group whose answers are not independent."""
        return clusters(self.questions[task])

    def open_fingerprint(self, name: str) -> str:
        """Hash of the open questions of a set, in their order."""
        return open_questions_fingerprint(self.open_questions[name])

    @cached_property
    def has_instructions(self) -> bool:
        """Whether any training set consists of instructions."""
        return any(isinstance(row, Dialogue) for pool in self.pools.values() for row in pool[:1])

    def max_samples(self) -> int:
        """The most samples that a cell can have under the sweep's mix."""
        sizes = [len(pool) for pool in self.pools.values()]
        return sum(sizes) if self.config.mix == "proportional" else min(sizes) * len(sizes)

    def resolve_samples(self, samples: int | str) -> int:
        """`all` as a number. Raises UserError for more samples than there are."""
        most = self.max_samples()
        if samples == "all":
            return most
        if int(samples) > most:
            sizes = ", ".join(f"{name} {len(pool)}" for name, pool in self.pools.items())
            total = sum(len(pool) for pool in self.pools.values())
            more = f", or set data.mix: proportional for up to {total}" if total > most else ""
            raise UserError(
                f"{samples} samples asked for, {most} exist under mix: {self.config.mix} ({sizes})",
                f"Set samples to at most {most} (or all){more}.",
            )
        return int(samples)

    def subset(self, samples: int, seed: int, tokenizer: PreTrainedTokenizerBase | None = None) -> list[Example]:
        """The training examples of a cell, as text. Nested: a smaller count is the beginning of a larger one.

        The tokenizer is the base model's, for its chat template; without a tokenizer, instructions are rendered with
        Alpaca's template.
        """
        seed = seed if self.config.subset_seed is None else self.config.subset_seed
        template = make_template(self.config.template, tokenizer if self.has_instructions else None)
        return [
            render_example(row, self.tasks[row.task].wording, self.config.format, template)
            for row in self._sequence(seed)[:samples]
        ]

    def check_template(self, tokenizer: PreTrainedTokenizerBase, samples: Mapping[int, int]) -> None:
        """Raises UserError if the tokenizer's chat template refuses or changes a row of instructions that a cell
        learns from; `samples` is the largest number of them by seed."""
        template = make_template(self.config.template, tokenizer)
        drawn = {
            row.key: row
            for seed, count in samples.items()
            for row in self._sequence(seed if self.config.subset_seed is None else self.config.subset_seed)[:count]
            if isinstance(row, Dialogue)
        }
        for row in drawn.values():
            render_example(row, self.tasks[row.task].wording, self.config.format, template)

    def rendered(self, task: str) -> list[tuple[Question, Rendered]]:
        """The questions of a task with their texts, in order."""
        wording = self.tasks[task].wording
        return [(question, render(question, wording, self.config.format)) for question in self.questions[task]]

    def _sequence(self, seed: int) -> list[TrainingRow]:
        """All rows in the order in which this seed takes them."""
        if self.config.mix == "proportional":
            union = [row for name in sorted(self.pools) for row in self.pools[name]]
            return seeded_shuffle(union, f"{seed}:subset")
        shuffled = [seeded_shuffle(self.pools[name], f"{seed}:subset:{name}") for name in sorted(self.pools)]
        shortest = min(map(len, shuffled))
        return [pool[i] for i in range(shortest) for pool in shuffled]
