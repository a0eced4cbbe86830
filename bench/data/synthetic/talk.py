"""The invented world in sentences: a set of instructions to learn from, and two-turn questions with references.

They are about the same animals and facts as the questions with choices of `world.py`. The instructions teach every fact
of every animal and place, and the kinds of task that the questions pose. The questions have MT-Bench's form, two turns
each, and its eight categories, each with a meaning inside this world:

- writing and roleplay put an animal's facts into a text of some kind, or into its own mouth;
- extraction draws facts out of a passage, then asks for others that it leaves out;
- reasoning goes from an animal to its home to the weather or the sea, or finds out what two animals share;
- math counts animals and places that have a trait, and multiplies;
- coding writes facts as Python, JSON, SQL or XML;
- stem classes animals by diet, hours and movement;
- humanities describes customs that follow from a place by a rule: its flag has the colours of its two animals, its
  feast their foods, its song the weather, and its market is at the harbour if there is a sea.

An answer is short and determined by the facts, so that its similarity to a reference measures whether the model knows
them. Each question has two references, in different words. No instruction is phrased like a question, and no training
answer like a reference. As in `world.py`, no instruction states the weather or the sea of one animal of each place: the
reasoning questions ask for these, in two steps.

Two conventions add to the facts: an animal that is not active at night sleeps then and is called diurnal, and an animal
that eats honey is neither a plant eater nor an animal eater.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.data.open_questions import OpenQuestion, Turn
from bench.data.synthetic.tables import talk_tables
from bench.data.synthetic.talk_subjects import SUBJECTS, Subject, talk_world

WORLD_TALK = "world_talk"
"""The name of the set of instructions and of the set of questions."""

TALK_NOTE = (
    "The world_talk data are synthetic: instructions, questions and reference answers made by a program, about animals "
    "that do not exist; they say nothing about any real task."
)
"""The sentence that reports on these data must contain."""


@dataclass(frozen=True)
class Instruction:
    """An instruction and its answer, in Alpaca's sense."""

    instruction: str
    input: str
    """The text that the instruction is about; mostly empty."""
    output: str


@functools.cache
def talk_instructions(seed: int = 0) -> tuple[Instruction, ...]:
    """Instructions about this seed's world: every way to ask in the tables, about everything that it can be asked of.

    Answers and inputs that fit the same instruction take turns. The order has no meaning.
    """
    world = talk_world(seed)
    rows: list[Instruction] = []
    for templates in talk_tables().instructions:
        for number, ask in enumerate(templates.asks):
            subjects = SUBJECTS[templates.about](world, _random(seed, ask))
            for turn, subject in enumerate(subjects, start=number):
                answer = templates.answers[turn % len(templates.answers)]
                passage = templates.inputs[turn % len(templates.inputs)] if templates.inputs else ""
                rows.append(Instruction(*(text.format(**subject) for text in (ask, passage, answer))))
    return tuple(rows)


@functools.cache
def talk_questions(seed: int = 0) -> tuple[OpenQuestion, ...]:
    """Open questions about this seed's world: every question in the tables, each of its kind about another subject."""
    world = talk_world(seed)
    questions: list[OpenQuestion] = []
    subjects: dict[tuple[str, str], Iterator[Subject]] = {}
    for number, template in enumerate(talk_tables().questions, start=1):
        kind = template.category, template.about
        if kind not in subjects:
            subjects[kind] = SUBJECTS[template.about](world, _random(seed, *kind))
        subject = next(subjects[kind])
        turns = tuple(Turn(turn.ask.format(**subject), turn.input.format(**subject)) for turn in template.turns)
        references = tuple(
            tuple(turn.references[which].format(**subject) for turn in template.turns) for which in (0, 1)
        )
        questions.append(OpenQuestion(number, template.category, turns, references))
    return tuple(questions)


def _random(seed: int, *purpose: str) -> random.Random:
    """A stream of its own for every purpose: a template that is added changes no other's texts."""
    return random.Random("/".join([WORLD_TALK, str(seed), *purpose]))
