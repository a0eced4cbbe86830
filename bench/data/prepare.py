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
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bench.data import loaders, placeholders
from bench.data.examples import Dialogue, Example, TrainingRow, example
from bench.data.open_questions import OpenQuestion, Turn
from bench.data.open_questions import fingerprint as open_fingerprint
from bench.data.questions import Question, Rendered, Wording, render
from bench.data.synthetic.talk import NOTE as TALK_NOTE
from bench.data.synthetic.talk import TALK, instructions
from bench.data.synthetic.talk import questions as talk_questions
from bench.data.synthetic.world import TASK_NOTE, WORLD_TASKS, build
from bench.data.tasks import Task, commonsense_tasks
from bench.data.templates import template
from bench.errors import UserError, unknown
from bench.sweep.schema import Sweep
from bench.sweep.sections import DataConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_DEVELOPMENT_SHARE = 0.2
"""Of any one training set: a small set is not emptied for the development split, nor for instructions held out."""
ALPACA = "alpaca"
HELD_OUT = "held_out"
"""The set of open questions that is made of the instructions held out."""
INSTRUCTION_SETS = (ALPACA, TALK)
"""Those that need no entry in `data.sets`."""


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
    open_questions: dict[str, tuple[OpenQuestion, ...]] = field(default_factory=dict)
    """What every cell answers in words, by set."""
    stand_ins: tuple[str, ...] = ()
    """Sets whose rows only stand for those of a hub: to plan with, and for nothing else."""

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

    def open_fingerprint(self, name: str) -> str:
        """Hash of the open questions of a set, in their order."""
        return open_fingerprint(self.open_questions[name])

    @cached_property
    def instructs(self) -> bool:
        """Whether instructions are among what cells learn from."""
        return any(isinstance(row, Dialogue) for pool in self.pools.values() for row in pool[:1])

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

    def subset(self, samples: int, seed: int, tokenizer: PreTrainedTokenizerBase | None = None) -> list[Example]:
        """The training examples of a cell, as text. Nested: a smaller count is the beginning of a larger one.

        The tokenizer is the base model's, where its chat template may be asked for; without one, instructions are in
        Alpaca's words.
        """
        seed = seed if self.config.subset_seed is None else self.config.subset_seed
        words = template(self.config.template, tokenizer if self.instructs else None)
        return [
            example(row, self.tasks[row.task].wording, self.config.format, words)
            for row in self._sequence(seed)[:samples]
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


def prepare(sweep: Sweep, stand_in: bool = False) -> Data:
    """Read, draw and clean the data of a sweep. With `stand_in`, rows that stand for those of a hub are made up.

    Raises UserError for data that is unknown, missing or malformed; OutOfReach, which is one, for what a hub has and
    cannot be had.
    """
    config = sweep.data
    tasks = _tasks(config)
    training = _training_sets(config, tasks)
    asked, harness = sweep.evaluation.tasks, sweep.evaluation.of_lm_eval  # lm-eval's own hold their data themselves
    scored = tuple(name for name in training if _scorable(name, config)) if asked is None else asked
    scored = tuple(name for name in scored if name not in harness)
    if not scored and not harness and sweep.answers is None:
        raise UserError(
            "nothing to be scored on",
            "Give evaluation.tasks, or answers: prompts and instructions are scored by no choice among answers.",
        )
    for name in scored:
        if name not in tasks:
            raise unknown("task", name, tasks)
        if not _scorable(name, config):
            raise UserError(f"{name} cannot be scored on: it has no test set of questions")

    made_up: dict[str, None] = {}

    def load(name: str, split: loaders.Split) -> list:
        if not (stand_in and _of_a_hub(name, config)):
            return _canonical(_load(name, split, tasks, config))
        made_up[name] = None
        return _canonical(placeholders.alpaca(name) if name == ALPACA else placeholders.questions(name, split))

    pools = {name: load(name, "train") for name in training}
    tests = {name: load(name, "test") for name in sorted({*scored, *training} & _with_test(tasks, config))}
    for name, rows in (*pools.items(), *tests.items()):
        if not rows:
            raise UserError(f"the data set {name} is empty")

    held_out = _held_out(pools, config)
    asked_openly = _open_questions(sweep, held_out, stand_in)
    if stand_in and "mt_bench" in asked_openly:
        made_up["mt_bench"] = None
    development: dict[str, tuple[Question, ...]] = {}
    share = -(-config.development // len(training)) if training else 0
    asked_in_tests = {row.normalized for rows in tests.values() for row in rows}
    for name, pool in pools.items():
        fresh = [row for row in pool if isinstance(row, Question) and row.normalized not in asked_in_tests]
        taken = _shuffled(fresh, f"{config.seed}:{name}:development")
        taken = taken[: min(share, int(len(pool) * MAX_DEVELOPMENT_SHARE))]
        development[name] = tuple(taken)
    drawn = {name: (*development[name], *held_out.get(name, ())) for name in pools}
    in_words = {name: [_opening(one) for one in rows] for name, rows in asked_openly.items() if name != HELD_OUT}
    pools, overlap = _clean(pools, drawn, {**tests, **in_words}, remove=config.deduplicate)
    for name, pool in pools.items():
        if not pool:
            raise UserError(f"no training row of {name} is left after the removal of duplicates")

    questions = {}
    for name in scored:
        drawn = _shuffled(tests[name], f"{config.seed}:{name}:limit")
        questions[name] = tuple(drawn[: sweep.evaluation.limit])
    used = {*training, *scored}
    notes = (TASK_NOTE,) if used & set(WORLD_TASKS) else ()
    notes += (TALK_NOTE,) if TALK in {*training, *asked_openly} else ()
    known = {name: tasks[name] for name in sorted(used)}
    return Data(config, known, pools, development, questions, overlap, notes, asked_openly, tuple(made_up))


def _held_out(pools: dict[str, list[TrainingRow]], config: DataConfig) -> dict[str, tuple[Dialogue, ...]]:
    """Of each set of instructions those that no cell learns from. Only what has one turn can be asked alike."""
    sets = {name: pool for name, pool in pools.items() if pool and isinstance(pool[0], Dialogue)}
    share = -(-config.held_out // len(sets)) if sets else 0
    found = {}
    for name, pool in sets.items():
        alone = {
            row.normalized: row for row in pool if isinstance(row, Dialogue) and len(row.turns) == 1 and not row.system
        }  # one of those that ask the same
        fitting = sorted(alone.values(), key=lambda row: row.key)
        taken = _shuffled(fitting, f"{config.seed}:{name}:held out")
        found[name] = tuple(taken[: min(share, int(len(pool) * MAX_DEVELOPMENT_SHARE))])
    return found


def _of_a_hub(name: str, config: DataConfig) -> bool:
    """Whether a built-in set comes from a hub as it stands."""
    return config.alpaca is None if name == ALPACA else name in commonsense_tasks() and config.dir is None


def _open_questions(
    sweep: Sweep, held_out: dict[str, tuple[Dialogue, ...]], stand_in: bool
) -> dict[str, tuple[OpenQuestion, ...]]:
    """What every cell answers in words, by set, in canonical order."""
    if sweep.answers is None:
        return {}
    config, found = sweep.answers, {}
    for name in dict.fromkeys(config.questions):
        own = config.sets.get(name)
        if stand_in and name == "mt_bench" and (own is None or own.questions is None):
            rows = placeholders.mt_bench(own is not None and own.references is not None)
        elif name in config.sets or name == "mt_bench":
            rows = loaders.open_questions(name, config.sets.get(name))
        elif name == HELD_OUT:
            rows = tuple(
                OpenQuestion(row.key, task, row.turns, (row.answers,)) for task, own in held_out.items() for row in own
            )
            if not rows:
                raise UserError(
                    "answers.questions has held_out, and no instruction is held out of the training sets",
                    "Train on a set of instructions (alpaca, world_talk, one of your own) with data.held_out above 0.",
                )
        elif name == TALK:
            rows = talk_questions()
        else:
            raise unknown("set of open questions", name, [HELD_OUT, "mt_bench", TALK, *config.sets])
        if config.with_reference:
            rows = tuple(one for one in rows if one.references)
        if not rows:
            raise UserError(
                f"no question of {name} has a reference answer",
                f"Give answers.sets.{name}.references (MT-Bench's: FastChat's reference_answer/gpt-4.jsonl), or leave "
                "out answers.with_reference.",
            )
        if config.limit is not None and config.limit < len(rows):
            kept = {one.id for one in _shuffled(rows, f"{sweep.data.seed}:{name}:limit")[: config.limit]}
            rows = tuple(one for one in rows if one.id in kept)
        found[name] = rows
    return found


def _opening(question: OpenQuestion) -> Dialogue:
    """A question as training rows are compared with it: by what is asked at first."""
    return Dialogue("", question.turns, ("",) * len(question.turns))


def _tasks(config: DataConfig) -> dict[str, Task]:
    """Every task that this sweep may name."""
    known = {**commonsense_tasks(), **{name: Task(name, wording) for name, wording in WORLD_TASKS.items()}}
    known |= {name: Task(name, Wording()) for name in INSTRUCTION_SETS}
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
    if name in INSTRUCTION_SETS:
        return False
    own = config.sets.get(name)
    return own is None or (own.test is not None and "question" in own.columns)


def _with_test(tasks: dict[str, Task], config: DataConfig) -> set[str]:
    return {name for name in tasks if _scorable(name, config)}


def _load(name: str, split: loaders.Split, tasks: dict[str, Task], config: DataConfig) -> Sequence[TrainingRow]:
    if name in config.sets:
        return loaders.own(name, config.sets[name], split)
    if name == ALPACA:
        return loaders.alpaca(name, config.alpaca)
    if name == TALK:
        return [Dialogue(name, (Turn(one.instruction, one.input),), (one.output,)) for one in instructions()]
    if name in WORLD_TASKS:
        world = build()
        return (world.train if split == "train" else world.test)[name]
    return loaders.commonsense(tasks[name], split, config.dir)


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
    drawn_of: dict[str, tuple[TrainingRow, ...]],
    tests: dict[str, list[TrainingRow]],
    remove: bool,
) -> tuple[dict[str, tuple[TrainingRow, ...]], dict[str, Overlap]]:
    """Pools without the rows drawn from them (for development, to be answered), and - where asked - without any other
    row that asks the same as these or a test question does."""
    held_out = [row for rows in (*tests.values(), *drawn_of.values()) for row in rows]
    texts = {row.normalized for row in held_out}
    whole = {row.normalized_with_choices for row in held_out}
    cleaned, overlap = {}, {}
    for name, pool in pools.items():
        drawn = Counter(row.key for row in drawn_of[name])
        never = {row.key for row in drawn_of[name] if isinstance(row, Dialogue)}
        kept: list[TrainingRow] = []
        by_question = by_whole = removed = 0
        for row in pool:
            if row.key in never:  # nor a copy of it
                continue
            if drawn[row.key]:  # the drawn row itself, not a duplicate of it
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
