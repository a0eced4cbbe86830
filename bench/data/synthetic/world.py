"""An invented world: a field guide to animals that do not exist, as multiple-choice questions.

No base model can know the answers, so that the score measures what fine-tuning has taught.

How it is made. There are 24 animals with names like "velmor". Each has a home (one of 12 invented places),
a food and a colour (one of 12 values each) and three traits that are true of it or not (it swims, is active
at night, has horns). All are drawn at random, each value equally often, so that one fact says nothing about
another and every fact has to be learnt. Each place has a weather (one of 12) and lies by the sea or not,
and so has every animal that lives there. Training asks for every fact in several phrasings; the test asks
in phrasings that training never uses. For one of the two animals of each place, training states the home but
never the weather or the sea, which then takes two steps: where does it live, and what is the weather there?
72 of the 504 test questions are of this kind.

Six tasks have the forms of the real ones: true or false (the traits), a question with two, three or four
choices, a sentence's ending (four), a blank to fill in (two animals). Questions come in groups that have
the same choices in the same order, each choice being right once. So the labels are balanced exactly, and a
scorer that sees only the choices is at chance exactly, however it uses their lengths or their frequency in
training. The primary metric is accuracy by log-likelihood (`acc`) in every task; dividing by
length changes little, the choices being single words.

Measured on world 0 with SmolLM2-135M-Instruct in bfloat16, as the mean of the six tasks' `acc` in
per cent (chance is 38.9). The untuned model is at 38.9 on all 504 questions, and in every task within one
standard error (5 points) of chance. LoRA on all linear layers but the head, alpha = 2 * rank, no dropout,
AdamW at 2e-3 with 5 % warm-up and linear decay, batch 16, one epoch, as many training questions from each
task; one figure for each training seed (the world was fixed before DoRA was run):

    questions (steps)    rank 1    rank 2    rank 4        rank 8    rank 16              rank 32
     300 (19)                                                        39.7
    1200 (75)                      41.4      41.9          43.3                           76.7
    1500 (94)            40.7 41.3           48.8 55.8               80.2 61.7 70.2

In batches of 8 (1000 questions, 125 steps, seed 0, 60 questions a task; the quickstart's setting, chosen on LoRA):
rank 8 59.7, rank 16 62.5, rank 32 68.3; the same questions in 63 steps of 16 gave 45.3, 48.3 and 43.3.

The standard error of one figure is 2 points from the questions alone, but the three figures of rank 16 (which also
draw other training questions) differ by up to 18: one seed shows the trend, and a difference between methods needs
several. More questions in one epoch are also more steps, and with alpha = 2 * rank a higher rank also learns faster
per step, so the table shows speed of learning, not capacity. At rank 16 and 1500 questions the two-step questions
(49 and 38, chance 39) and true or false (58 and 61, chance 50) are not clearly above chance. On a smaller draft
of this world, rank 16 diverged at 5e-3 (40, where 2e-3 reached 81).
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.data.questions import Question, Wording
from bench.data.synthetic.tables import HOME, Phrasings, Property, world_tables

WORLD_TASKS: dict[str, Wording] = {
    "world_true_false": Wording(
        instruction="Please answer the following question with true or false, question: ", noun=""
    ),
    "world_two": Wording(instruction="Please choose the correct solution to the question: ", noun="Solution"),
    "world_three": Wording(),
    "world_four": Wording(),
    "world_ending": Wording(
        form="completion",
        instruction="Please choose the correct ending to complete the given sentence: ",
        noun="Ending",
    ),
    "world_blank": Wording(
        form="blank",
        instruction="Please choose the correct answer to fill in the blank to complete the given sentence: ",
        noun="Option",
        before_format=" ",
    ),
}

TASK_NOTE = (
    "The world_* data are synthetic: facts about animals that do not exist, made by a program and designed "
    "so that accuracy responds to rank and to training samples. They say nothing about any real task."
)

ANIMALS = 24
"""A multiple of 12, the number of a property's values, so that every value is equally frequent."""
TESTED = 24
"""Test questions for each property and task, where there are so many."""

_CHOICES = {
    "world_true_false": 2,
    "world_two": 2,
    "world_three": 3,
    "world_four": 4,
    "world_ending": 4,
    "world_blank": 2,
}
TRUTH = ("true", "false")
# These tasks share out a property's questions: each has phrasings of its own.
_QUESTION_TASKS = ("world_two", "world_three", "world_four")


@dataclass(frozen=True)
class World:
    """The questions of each task; their order has no meaning."""

    train: dict[str, tuple[Question, ...]]
    test: dict[str, tuple[Question, ...]]


@dataclass(frozen=True)
class WorldFacts:
    """What is true in a world: by property, a value for each name."""

    of_animals: dict[str, dict[str, str]]
    of_places: dict[str, dict[str, str]]
    held_out: frozenset[str]
    """One animal of every place. Training never says what follows from its home: it is asked about in two steps."""


def world_facts(seed: int = 0) -> WorldFacts:
    """The animals of this seed's world, and all facts about them and about the places."""
    tables = world_tables()
    names = _random(seed, "names").sample(
        [start + end for start in tables.name_starts for end in tables.name_ends], ANIMALS
    )
    of_animals = {name: _assign(names, prop, _random(seed, name)) for name, prop in tables.of_animals.items()}
    of_places = {name: _assign(tables.places, prop, _random(seed, name)) for name, prop in tables.of_places.items()}
    home, rng = of_animals[HOME], _random(seed, "held out")
    held_out = frozenset(rng.choice([name for name in names if home[name] == place]) for place in tables.places)
    return WorldFacts(of_animals, of_places, held_out)


@functools.cache
def build_world(seed: int = 0) -> World:
    """The world of this seed: other seeds have other animals and other facts, in the same phrasings."""
    facts = world_facts(seed)
    train: dict[str, tuple[Question, ...]] = {}
    test: dict[str, tuple[Question, ...]] = {}
    for task in WORLD_TASKS:
        train[task], test[task] = _task_questions(task, facts, _random(seed, "questions", task))
    return World(train, test)


def _task_questions(
    task: str, facts: WorldFacts, rng: random.Random
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """The training and the test questions of a task."""
    tables, home = world_tables(), facts.of_animals[HOME]
    train: list[Question] = []
    test: list[Question] = []
    for name, values in facts.of_animals.items():
        prop = tables.of_animals[name]
        if _belongs(prop, task):
            train += _every(task, prop.trained, values, rng)
            test += _some(task, prop.held_out, values, rng)
    for name, values in facts.of_places.items():
        prop = tables.of_places[name]
        if _belongs(prop, task):
            shown = {animal: values[home[animal]] for animal in home if animal not in facts.held_out}
            hidden = {animal: values[home[animal]] for animal in home if animal in facts.held_out}
            train += _every(task, prop.trained, shown, rng)
            train += _every(task, prop.of_place, values, rng)
            test += _some(task, prop.held_out, hidden, rng)
    rng.shuffle(train)
    rng.shuffle(test)
    return tuple(train), tuple(test)


def _random(seed: int, *what: str) -> random.Random:
    """A stream of its own for every purpose; a string seeds alike in every process."""
    return random.Random("/".join(["world", str(seed), *what]))


def _assign(names: Sequence[str], prop: Property, rng: random.Random) -> dict[str, str]:
    """A value for each name at random, but every value equally often, so that nothing can be inferred."""
    values = list(prop.values) * (len(names) // len(prop.values))
    rng.shuffle(values)
    return dict(zip(names, values, strict=True))


def _belongs(prop: Property, task: str) -> bool:
    """Traits belong to the true-or-false task, properties with more values to the others."""
    return prop.is_trait == (task == "world_true_false")


def _phrasings(task: str, phrasings: Phrasings) -> tuple[str, ...]:
    if task not in _QUESTION_TASKS:
        return phrasings.stems
    return phrasings.questions[_QUESTION_TASKS.index(task) :: len(_QUESTION_TASKS)]


def _every(task: str, phrasings: Phrasings, facts: Mapping[str, str], rng: random.Random) -> Iterator[Question]:
    """Every fact in every phrasing of the task."""
    for phrasing in _phrasings(task, phrasings):
        for group in _groups(facts, _CHOICES[task], rng):
            yield from _ask(task, phrasing, group)


def _some(task: str, phrasings: Phrasings, facts: Mapping[str, str], rng: random.Random) -> Iterator[Question]:
    """At most `TESTED` facts; the phrasings take turns."""
    size = _CHOICES[task]
    groups = itertools.islice(_groups(facts, size, rng), TESTED // size)
    for phrasing, group in zip(itertools.cycle(_phrasings(task, phrasings)), groups, strict=False):
        yield from _ask(task, phrasing, group)


def _groups(facts: Mapping[str, str], size: int, rng: random.Random) -> Iterator[list[tuple[str, str]]]:
    """All the facts as (name, value), in groups of `size` different values."""
    named: dict[str, list[str]] = {}
    for name, value in facts.items():
        named.setdefault(value, []).append(name)
    for names in named.values():
        rng.shuffle(names)
    for column in zip(*named.values(), strict=True):
        row = list(zip(column, named, strict=True))
        rng.shuffle(row)
        for start in range(0, len(row), size):
            yield row[start : start + size]


def _ask(task: str, phrasing: str, group: list[tuple[str, str]]) -> Iterator[Question]:
    """One question for each fact of the group, all with the same choices in the same order.

    So each choice is right once, and a scorer that sees only the choices is right once in `len(group)`.
    """
    names, values = tuple(name for name, _ in group), tuple(value for _, value in group)
    for label, (name, value) in enumerate(group):
        if task == "world_true_false":
            yield Question(task, phrasing.format(name), TRUTH, TRUTH.index(value))
        elif task == "world_blank":
            yield Question(task, f"{phrasing.format('_')} {value}.", names, label)
        else:
            yield Question(task, phrasing.format(name), values, label)
