"""The invented world in sentences: a set of instructions to learn from, and two-turn questions with references.

What `world.py` asks with choices, this asks in words, about the same animals and the same facts. The instructions teach
every fact of every animal and place, and the kinds of task that the questions are. The questions have MT-Bench's form,
two turns each, and its eight categories, each with a sense inside this world:

- writing and roleplay put an animal's facts into a text of some kind, or into its own mouth;
- extraction draws facts out of a passage, then asks for others that it leaves out;
- reasoning goes from an animal to its home to the weather or the sea, or finds out what two animals share;
- math counts animals and places that have a trait, and multiplies;
- coding writes facts as Python, JSON, SQL or XML;
- stem classes animals by diet, hours and movement;
- humanities describes customs that follow from a place by a rule: its flag has the colours of its two animals, its
  feast their foods, its song the weather, and its market is at the harbour if there is a sea.

An answer is short and fixed by the facts, so that its likeness to a reference says whether the facts are known. Each
question has two references, in different words. No instruction is phrased like a question, and no answer to learn from
like a reference. As in `world.py`, one animal of each place is never told of together with its weather or sea: the
reasoning questions ask for these, in two steps.

Two conventions go beyond the facts: an animal that is not active at night sleeps then and is called diurnal, and honey
makes an animal neither a plant eater nor an animal eater.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.data.open_questions import OpenQuestion, Turn
from bench.data.synthetic import talk_tables as tables
from bench.data.synthetic.world import world_facts
from bench.data.synthetic.world_tables import BY_THE_SEA, COLOUR, FOOD, HOME, HORNS, NIGHT, PLACES, SWIMS, WEATHER

WORLD_TALK = "world_talk"
"""The name of the set of instructions and of the set of questions."""

TALK_NOTE = (
    "The world_talk data are synthetic: instructions, questions and reference answers made by a program, about animals "
    "that do not exist; they say nothing about any real task."
)
"""What reports must say that use these data."""

T = TypeVar("T")


@dataclass(frozen=True)
class Instruction:
    """What is asked and what is answered, in Alpaca's sense."""

    instruction: str
    input: str
    """What the instruction is about; mostly empty."""
    output: str


@functools.cache
def talk_instructions(seed: int = 0) -> tuple[Instruction, ...]:
    """About this seed's world: every way to ask in the tables, of everything that it can be asked of.

    Answers, and passages to read, that fit the same instruction take turns. The order means nothing.
    """
    known = _world(seed)
    made: list[Instruction] = []
    for block in tables.INSTRUCTIONS:
        for number, ask in enumerate(block.asks):
            subjects = SUBJECTS[block.about](known, _random(seed, ask))
            for turn, subject in enumerate(subjects, start=number):
                answer = block.answers[turn % len(block.answers)]
                passage = block.inputs[turn % len(block.inputs)] if block.inputs else ""
                made.append(Instruction(*(text.format(**subject) for text in (ask, passage, answer))))
    return tuple(made)


@functools.cache
def talk_questions(seed: int = 0) -> tuple[OpenQuestion, ...]:
    """About this seed's world: every question in the tables, of something that no other like it is asked of."""
    known = _world(seed)
    made: list[OpenQuestion] = []
    waiting: dict[tuple[str, str], Iterator[dict[str, Any]]] = {}
    for number, block in enumerate(tables.QUESTIONS, start=1):
        kind = block.category, block.about
        if kind not in waiting:
            waiting[kind] = SUBJECTS[block.about](known, _random(seed, *kind))
        subject = next(waiting[kind])
        asks, passages, answers = (
            [text.format(**subject) for text in texts] for texts in (block.asks, block.inputs, block.answers)
        )
        turns = tuple(Turn(*both) for both in itertools.zip_longest(asks, passages, fillvalue=""))
        references = tuple(zip(answers[:2], answers[2:], strict=True))
        made.append(OpenQuestion(number, block.category, turns, references))
    return tuple(made)


@dataclass(frozen=True)
class _Trait:
    """Something that is so or not, in words: ``{a.swim}`` in a template, or ``{a.swim[yes]}``."""

    name: str
    """A key of `TRAIT_FORMS`."""
    true: bool

    def __getitem__(self, form: str) -> str:
        return (tables.ANY_TRAIT | tables.TRAIT_FORMS[self.name])[form][not self.true]

    def __str__(self) -> str:
        return self["does"]


@dataclass(frozen=True)
class _Place:
    name: str
    weather: str
    sea: _Trait
    colours: str
    """Of its two animals, and so of its flag: ``red and blue``, or one alone."""
    foods: str
    """Of its two animals, and so of its feast."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Animal:
    name: str
    home: _Place
    food: str
    colour: str
    swim: _Trait
    night: _Trait
    horns: _Trait

    @property
    def eater(self) -> str:
        """What its food makes of it."""
        if self.food == "honey":
            return "a honey eater"
        return "a plant eater" if self.food in tables.PLANTS else "an animal eater"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _World:
    animals: tuple[_Animal, ...]
    places: tuple[_Place, ...]
    held_out: frozenset[str]
    """Animals of which nothing tells what follows from their home."""

    def of(self, place: _Place) -> list[_Animal]:
        """The two animals of a place."""
        return [animal for animal in self.animals if animal.home == place]

    def alike(self, animal: _Animal, part: str) -> _Animal:
        """The other animal with the same home or food."""
        return next(one for one in self.animals if one != animal and getattr(one, part) == getattr(animal, part))


def _world(seed: int) -> _World:
    """The facts of `world.world_facts`, ready to be put into words."""
    known = world_facts(seed)
    home, food, colour = (known.of_animals[prop] for prop in (HOME, FOOD, COLOUR))
    residents = {place: [name for name in home if home[name] == place] for place in PLACES}
    places = {
        place: _Place(
            place,
            known.of_places[WEATHER][place],
            _Trait("sea", known.of_places[BY_THE_SEA][place] == "true"),
            colours=" and ".join(dict.fromkeys(colour[name] for name in names)),
            foods=" and ".join(dict.fromkeys(food[name] for name in names)),
        )
        for place, names in residents.items()
    }
    traits = {"swim": known.of_animals[SWIMS], "night": known.of_animals[NIGHT], "horns": known.of_animals[HORNS]}
    animals = [
        _Animal(
            name,
            places[home[name]],
            food[name],
            colour[name],
            **{trait: _Trait(trait, values[name] == "true") for trait, values in traits.items()},
        )
        for name in home
    ]
    return _World(tuple(animals), tuple(places.values()), known.held_out)


def _random(seed: int, *what: str) -> random.Random:
    """A stream of its own for every purpose: a template that is added changes no other's texts."""
    return random.Random("/".join([WORLD_TALK, str(seed), *what]))


def _shuffled(rows: Sequence[T], rng: random.Random) -> list[T]:
    return rng.sample(rows, len(rows))


# What templates speak of: each of these yields what they are filled with, for one animal or place after another.
_Subjects = Iterator[dict[str, Any]]


def _animals(known: _World, rng: random.Random) -> _Subjects:
    """An animal."""
    return ({"a": animal} for animal in _shuffled(known.animals, rng))


def _told(known: _World, rng: random.Random) -> _Subjects:
    """An animal that may be told of together with its weather and sea."""
    return (subject for subject in _animals(known, rng) if subject["a"].name not in known.held_out)


def _neighbours(known: _World, rng: random.Random) -> _Subjects:
    """Two animals with one home."""
    return ({"a": animal, "b": known.alike(animal, "home")} for animal in _shuffled(known.animals, rng))


def _two_steps(known: _World, rng: random.Random) -> _Subjects:
    """The same, the first being one that is never told of together with its weather and sea."""
    return (subject for subject in _neighbours(known, rng) if subject["a"].name in known.held_out)


def _foods(known: _World, rng: random.Random) -> _Subjects:
    """Two animals with one food, once for each food, and a number."""
    for animal in _shuffled(known.animals, rng):
        other = known.alike(animal, "food")
        if animal.name < other.name:
            m = rng.randint(2, 9)
            yield {"a": animal, "b": other, "m": m, "twice_m": 2 * m}


def _fellows(known: _World, rng: random.Random) -> _Subjects:
    """Two animals with one food and different homes."""
    for animal in _shuffled(known.animals, rng):
        other = known.alike(animal, "food")
        if animal.home != other.home:
            yield {"a": animal, "b": other}


def _pairs(known: _World, rng: random.Random) -> _Subjects:
    """Two animals of which home, food and colour differ."""
    for a in _shuffled(known.animals, rng):
        fit = [b for b in known.animals if b.home != a.home and b.food != a.food and b.colour != a.colour]
        yield {"a": a, "b": rng.choice(fit)}


def _cubs(known: _World, rng: random.Random) -> _Subjects:
    """So many of two animals, of which one has a trait."""
    for a in _shuffled(known.animals, rng):
        trait = rng.choice(("swim", "night", "horns"))
        b = rng.choice([b for b in known.animals if getattr(b, trait) != getattr(a, trait)])
        m, n = rng.sample(range(2, 10), 2)
        having = m if getattr(a, trait).true else n
        yield {
            "a": a,
            "b": b,
            "m": m,
            "n": n,
            "sum": m + n,
            "product": m * n,
            "all": tables.SEVERAL[trait],
            "of_a": getattr(a, trait),
            "of_b": getattr(b, trait),
            "having": having,
            "having_3": having + 3,
        }


def _groups(letters: str, known: _World, rng: random.Random) -> _Subjects:
    """Some animals, of which some but not all have a trait; once for each trait and first animal."""
    traits = ("swim", "night", "horns")
    for trait, first in _shuffled(list(itertools.product(traits, known.animals)), rng):
        chosen = _mixed(first, known.animals, trait, len(letters), rng)
        yield dict(zip(letters, chosen, strict=True)) | _parties({f"the {one}": getattr(one, trait) for one in chosen})


def _three_places(known: _World, rng: random.Random) -> _Subjects:
    """Three places, of which some but not all lie by the sea."""
    for first in _shuffled(known.places, rng):
        chosen = _mixed(first, known.places, "sea", 3, rng)
        yield dict(zip("pqr", chosen, strict=True)) | _parties({str(one): one.sea for one in chosen})


def _mixed(first: T, pool: Sequence[T], trait: str, size: int, rng: random.Random) -> list[T]:
    """`first` and others of the pool, such that the trait is true of some."""
    others = [one for one in pool if one != first]
    while True:
        chosen = [first, *rng.sample(others, size - 1)]
        if len({getattr(one, trait) for one in chosen}) == 2:
            return chosen


@dataclass(frozen=True)
class _Party:
    """Those of a group that have a trait, or those that lack it."""

    names: tuple[str, ...]
    verbs: tuple[str, str]
    """Of one, of several."""

    @property
    def number(self) -> str:
        return ("none", "one", "two", "three")[len(self.names)]

    @property
    def does(self) -> str:
        return self.verbs[len(self.names) > 1]

    def __str__(self) -> str:
        return " and ".join(filter(None, [", ".join(self.names[:-1]), self.names[-1]]))


def _parties(group: Mapping[str, _Trait]) -> dict[str, Any]:
    """What templates say of a group, given each one's trait: who has it, who lacks it, and multiples of both."""
    name = next(iter(group.values())).name
    verbs = tables.TRAIT_FORMS[name]["does"][0], tables.SEVERAL[name]
    those = tuple(one for one, trait in group.items() if trait.true)
    others = tuple(one for one in group if one not in those)
    return {
        "all": tables.SEVERAL[name],
        "those": _Party(those, verbs),
        "others": _Party(others, verbs),
        "at_2": 2 * len(those),
        "at_5": 5 * len(those),
        "others_2": 2 * len(others),
    }


def _places(known: _World, rng: random.Random) -> _Subjects:
    """A place with its two animals."""
    for place in _shuffled(known.places, rng):
        a, b = known.of(place)
        yield {"p": place, "a": a, "b": b}


def _two_places(known: _World, rng: random.Random) -> _Subjects:
    """Two places, of which one lies by the sea: the coast."""
    for p in _shuffled(known.places, rng):
        q = rng.choice([q for q in known.places if q.sea != p.sea])
        yield {"p": p, "q": q, "coast": p if p.sea.true else q}


SUBJECTS: dict[str, Callable[[_World, random.Random], _Subjects]] = {
    "animal": _animals,
    "told": _told,
    "neighbours": _neighbours,
    "two_steps": _two_steps,
    "food": _foods,
    "fellows": _fellows,
    "pair": _pairs,
    "cubs": _cubs,
    "three": functools.partial(_groups, "abc"),
    "four": functools.partial(_groups, "abcd"),
    "place": _places,
    "places": _three_places,
    "two_places": _two_places,
}
"""What a block of the tables can be about."""
