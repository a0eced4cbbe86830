"""What the methods learn from and are scored on: `prepare` reads it all, once, for a whole sweep.

The order of events is fixed, and no cell changes it: every set is put into canonical order (by content hash, so
that its origin does not matter); the development split and the questions are drawn by the data seed; training
rows whose question stands in a test or development set are removed. A cell then takes a seeded, nested subset.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bench.data import sources
from bench.data.examples import Example, Pair, TrainingRow, example
from bench.data.questions import Question, Rendered, Wording, render
from bench.data.tasks import Task, commonsense_tasks
from bench.data.world import TASK_NOTE, WORLD_TASKS, build
from bench.errors import UserError, unknown
from bench.sweep import DataConfig, Sweep

__all__ = ["Data", "Example", "Pair", "Question", "Rendered", "Task", "prepare"]

MAX_DEVELOPMENT_SHARE = 0.2
"""Of any one training set: a small set is not emptied for the development split."""


@dataclass(frozen=True)
class Overlap:
    """Training rows whose question also stands in a test or development set of the sweep."""

    by_question: int
    by_question_and_choices: int
    removed: int


@dataclass(frozen=True)
class Data:
    """The data of a sweep, drawn and cleaned."""

    config: DataConfig
    tasks: dict[str, Task]
    pools: dict[str, tuple[TrainingRow, ...]]
    """What cells may learn from, by training set."""
    development: dict[str, tuple[Question, ...]]
    questions: dict[str, tuple[Question, ...]]
    """What every cell is scored on, by task."""
    overlap: dict[str, Overlap]
    notes: tuple[str, ...]
    """What every report made with these data must say."""

    @cached_property
    def developing(self) -> Data:
        """The same, scored on the development questions: for choices that must not be made on the test set."""
        return replace(self, questions={task: rows for task, rows in self.development.items() if rows})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the training pools and their wording: equal content, equal fingerprint, whatever its origin."""
        digest = hashlib.sha256()
        for name in sorted(self.pools):
            digest.update(f"{name}:{self.tasks[name].wording}".encode())
            for row in self.pools[name]:
                digest.update(row.key.encode())
        return digest.hexdigest()[:16]

    def questions_fingerprint(self, task: str) -> str:
        """Hash of the questions that a task is scored on, in their order, with their wording and format."""
        digest = hashlib.sha256(f"{self.config.format}:{self.tasks[task].wording}".encode())
        for question in self.questions[task]:
            digest.update(question.key.encode())
        return digest.hexdigest()[:16]

    def available(self) -> int:
        """The most samples that a cell can have under the sweep's mix."""
        sizes = [len(pool) for pool in self.pools.values()]
        return sum(sizes) if self.config.mix == "proportional" else min(sizes) * len(sizes)

    def resolve_samples(self, samples: int | str) -> int:
        """`all` as a number. Raises UserError beyond what there is."""
        most = self.available()
        if samples == "all":
            return most
        if int(samples) > most:
            sizes = ", ".join(f"{name} {len(pool)}" for name, pool in self.pools.items())
            raise UserError(
                f"{samples} samples asked for, {most} exist under mix: {self.config.mix} ({sizes})",
                "Ask for fewer, add training sets, or set data.mix: proportional.",
            )
        return int(samples)

    def subset(self, samples: int, seed: int) -> list[Example]:
        """The training examples of a cell, as text. Nested: a smaller count is the beginning of a larger one."""
        seed = seed if self.config.subset_seed is None else self.config.subset_seed
        return [
            example(row, self.tasks[row.task].wording, self.config.format) for row in self._sequence(seed)[:samples]
        ]

    def rendered(self, task: str) -> list[tuple[Question, Rendered]]:
        """The questions of a task with their texts, in order."""
        wording = self.tasks[task].wording
        return [(question, render(question, wording, self.config.format)) for question in self.questions[task]]

    def _sequence(self, seed: int) -> list[TrainingRow]:
        """All rows in the order in which this seed takes them."""
        if self.config.mix == "proportional":
            union = [row for name in sorted(self.pools) for row in self.pools[name]]
            return _shuffled(union, f"{seed}:subset")
        shuffled = [_shuffled(self.pools[name], f"{seed}:subset:{name}") for name in sorted(self.pools)]
        shortest = min(map(len, shuffled))
        return [pool[i] for i in range(shortest) for pool in shuffled]


def prepare(sweep: Sweep) -> Data:
    """Read, draw and clean the data of a sweep.

    Raises UserError for data that is unknown, missing or malformed.
    """
    config = sweep.data
    tasks = _tasks(config)
    training = _training_sets(config, tasks)
    asked, harness = sweep.evaluation.tasks, sweep.evaluation.of_lm_eval  # lm-eval's own hold their data themselves
    scored = tuple(name for name in training if _scorable(name, config)) if asked is None else asked
    scored = tuple(name for name in scored if name not in harness)
    if not scored and not harness:
        raise UserError("nothing to be scored on", "Give evaluation.tasks; prompt-and-answer data cannot be scored.")
    for name in scored:
        if name not in tasks:
            raise unknown("task", name, tasks)
        if not _scorable(name, config):
            raise UserError(f"{name} cannot be scored on: it has no test set of questions")

    pools = {name: _canonical(_load(name, "train", tasks, config)) for name in training}
    tests = {
        name: _canonical(_load(name, "test", tasks, config))
        for name in sorted({*scored, *training} & _with_test(tasks, config))
    }
    for name, rows in (*pools.items(), *tests.items()):
        if not rows:
            raise UserError(f"the data set {name} is empty")

    development: dict[str, tuple[Question, ...]] = {}
    share = -(-config.development // len(training)) if training else 0
    asked_in_tests = {row.normalized for rows in tests.values() for row in rows}
    for name, pool in pools.items():
        fresh = [row for row in pool if isinstance(row, Question) and row.normalized not in asked_in_tests]
        taken = _shuffled(fresh, f"{config.seed}:{name}:development")
        taken = taken[: min(share, int(len(pool) * MAX_DEVELOPMENT_SHARE))]
        development[name] = tuple(taken)
    pools, overlap = _clean(pools, development, tests, remove=config.deduplicate)
    for name, pool in pools.items():
        if not pool:
            raise UserError(f"no training row of {name} is left after the removal of duplicates")

    questions = {}
    for name in scored:
        drawn = _shuffled(tests[name], f"{config.seed}:{name}:limit")
        questions[name] = tuple(drawn[: sweep.evaluation.limit])
    used = {*training, *scored}
    notes = (TASK_NOTE,) if used & set(WORLD_TASKS) else ()
    return Data(config, {name: tasks[name] for name in sorted(used)}, pools, development, questions, overlap, notes)


def _tasks(config: DataConfig) -> dict[str, Task]:
    """Every task that this sweep may name."""
    known = {**commonsense_tasks(), **{name: Task(name, wording) for name, wording in WORLD_TASKS.items()}}
    for name in config.sets:
        if name in known or name in ("world", "commonsense"):
            raise UserError(f"data.sets.{name}: the name is taken by a built-in set", "Choose another name.")
        known[name] = Task(name, Wording())
    return known


def _training_sets(config: DataConfig, tasks: dict[str, Task]) -> list[str]:
    """The training sets by name, in order, groups spelled out."""
    groups = {"world": list(WORLD_TASKS), "commonsense": list(commonsense_tasks())}
    names: list[str] = []
    for name in config.train:
        if name not in groups and name not in tasks:
            raise unknown("training set", name, [*groups, *tasks])
        names.extend(groups.get(name, [name]))
    return sorted(set(names))


def _scorable(name: str, config: DataConfig) -> bool:
    own = config.sets.get(name)
    return own is None or (own.test is not None and "question" in own.columns)


def _with_test(tasks: dict[str, Task], config: DataConfig) -> set[str]:
    return {name for name in tasks if _scorable(name, config)}


def _load(name: str, split: sources.Split, tasks: dict[str, Task], config: DataConfig) -> Sequence[TrainingRow]:
    if name in config.sets:
        return sources.own(name, config.sets[name], split)
    if name in WORLD_TASKS:
        world = build()
        return (world.train if split == "train" else world.test)[name]
    return sources.commonsense(tasks[name], split, config.dir)


def _canonical(rows: Sequence[TrainingRow]) -> list:
    """By content hash: two origins that hold the same rows in another order draw the same subsets."""
    return sorted(rows, key=lambda row: row.key)


def _shuffled(rows: Sequence, seed: str) -> list:
    # Seeded by a text: Python seeds from it by hashing, the same on every machine and version since 3.2.
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return rows


def _clean(
    pools: dict[str, list[TrainingRow]],
    development: dict[str, tuple[Question, ...]],
    tests: dict[str, list[Question]],
    remove: bool,
) -> tuple[dict[str, tuple[TrainingRow, ...]], dict[str, Overlap]]:
    """Pools without the development questions, and - where asked - without any held-out question."""
    held_out = [row for rows in (*tests.values(), *development.values()) for row in rows]
    texts = {row.normalized for row in held_out}
    whole = {row.normalized_with_choices for row in held_out}
    cleaned, overlap = {}, {}
    for name, pool in pools.items():
        drawn = Counter(row.key for row in development[name])
        kept: list[TrainingRow] = []
        by_question = by_whole = removed = 0
        for row in pool:
            if drawn[row.key]:  # the development question itself, not a duplicate of it
                drawn[row.key] -= 1
                continue
            doubled = row.normalized in texts
            by_question += doubled
            by_whole += row.normalized_with_choices in whole
            removed += doubled and remove
            if not (doubled and remove):
                kept.append(row)
        cleaned[name] = tuple(kept)
        overlap[name] = Overlap(by_question, by_whole, removed)
    return cleaned, overlap
