"""What the templates of the invented world in sentences are filled with: its animals, places and traits, in words.

`SUBJECTS` names the kinds of subject; each yields one animal or place (or several) after another, in the order that a
random stream gives.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.data.synthetic.tables import (
    BY_THE_SEA,
    COLOUR,
    FOOD,
    HOME,
    HORNS,
    NIGHT,
    SWIMS,
    WEATHER,
    talk_tables,
    world_tables,
)
from bench.data.synthetic.world import world_facts

T = TypeVar("T")


@dataclass(frozen=True)
class Trait:
    """A trait that is true or false, in words: ``{a.swim}`` in a template, or ``{a.swim[yes]}``."""

    name: str
    """A key of the tables' `trait_forms`."""
    true: bool

    def __getitem__(self, form: str) -> str:
        return (talk_tables().any_trait | talk_tables().trait_forms[self.name])[form][not self.true]

    def __str__(self) -> str:
        return self["does"]


@dataclass(frozen=True)
class Place:
    """A place with its facts, as templates read them (``{p.weather}``)."""

    name: str
    weather: str
    sea: Trait
    colours: str
    """The colours of its two animals, and so of its flag: ``red and blue``, or ``red`` if both are red."""
    foods: str
    """The foods of its two animals, and so of its feast."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Animal:
    """An animal with its facts, as templates read them (``{a.food}``)."""

    name: str
    home: Place
    food: str
    colour: str
    swim: Trait
    night: Trait
    horns: Trait

    @property
    def eater(self) -> str:
        """What kind of eater its food makes it."""
        if self.food == "honey":
            return "a honey eater"
        return "a plant eater" if self.food in talk_tables().plant_foods else "an animal eater"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TalkWorld:
    """The animals and places of a world."""

    animals: tuple[Animal, ...]
    places: tuple[Place, ...]
    held_out: frozenset[str]
    """Animals whose weather and sea no instruction states: both follow from their home."""

    def of(self, place: Place) -> list[Animal]:
        """The two animals of a place."""
        return [animal for animal in self.animals if animal.home == place]

    def alike(self, animal: Animal, part: str) -> Animal:
        """The other animal with the same home or food."""
        return next(
            other for other in self.animals if other != animal and getattr(other, part) == getattr(animal, part)
        )


def talk_world(seed: int) -> TalkWorld:
    """The facts of `world.world_facts`, ready to be put into words."""
    facts = world_facts(seed)
    home, food, colour = (facts.of_animals[prop] for prop in (HOME, FOOD, COLOUR))
    residents = {place: [name for name in home if home[name] == place] for place in world_tables().places}
    places = {
        place: Place(
            place,
            facts.of_places[WEATHER][place],
            Trait("sea", facts.of_places[BY_THE_SEA][place] == "true"),
            colours=" and ".join(dict.fromkeys(colour[name] for name in names)),
            foods=" and ".join(dict.fromkeys(food[name] for name in names)),
        )
        for place, names in residents.items()
    }
    traits = {"swim": facts.of_animals[SWIMS], "night": facts.of_animals[NIGHT], "horns": facts.of_animals[HORNS]}
    animals = [
        Animal(
            name,
            places[home[name]],
            food[name],
            colour[name],
            **{trait: Trait(trait, values[name] == "true") for trait, values in traits.items()},
        )
        for name in home
    ]
    return TalkWorld(tuple(animals), tuple(places.values()), facts.held_out)


def _shuffled(rows: Sequence[T], rng: random.Random) -> list[T]:
    return rng.sample(rows, len(rows))


Subject = dict[str, Any]
"""What the fields of a template are filled with: animals, places, traits, texts and numbers, by name."""
Subjects = Iterator[Subject]


def _animals(world: TalkWorld, rng: random.Random) -> Subjects:
    """An animal."""
    return ({"a": animal} for animal in _shuffled(world.animals, rng))


def _weather_stated(world: TalkWorld, rng: random.Random) -> Subjects:
    """An animal whose weather and sea instructions may state."""
    return (subject for subject in _animals(world, rng) if subject["a"].name not in world.held_out)


def _neighbours(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two animals with one home."""
    return ({"a": animal, "b": world.alike(animal, "home")} for animal in _shuffled(world.animals, rng))


def _two_steps(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two animals with one home; no instruction states the weather and sea of the first."""
    return (subject for subject in _neighbours(world, rng) if subject["a"].name in world.held_out)


def _foods(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two animals with one food, once for each food, and a number."""
    for animal in _shuffled(world.animals, rng):
        other = world.alike(animal, "food")
        if animal.name < other.name:
            m = rng.randint(2, 9)
            yield {"a": animal, "b": other, "m": m, "twice_m": 2 * m}


def _fellows(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two animals with one food and different homes."""
    for animal in _shuffled(world.animals, rng):
        other = world.alike(animal, "food")
        if animal.home != other.home:
            yield {"a": animal, "b": other}


def _pairs(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two animals that differ in home, food and colour."""
    for a in _shuffled(world.animals, rng):
        fit = [b for b in world.animals if b.home != a.home and b.food != a.food and b.colour != a.colour]
        yield {"a": a, "b": rng.choice(fit)}


def _cubs(world: TalkWorld, rng: random.Random) -> Subjects:
    """Numbers of young of two animals, one of which has a trait."""
    for a in _shuffled(world.animals, rng):
        trait = rng.choice(("swim", "night", "horns"))
        b = rng.choice([b for b in world.animals if getattr(b, trait) != getattr(a, trait)])
        m, n = rng.sample(range(2, 10), 2)
        having = m if getattr(a, trait).true else n
        yield {
            "a": a,
            "b": b,
            "m": m,
            "n": n,
            "sum": m + n,
            "product": m * n,
            "all": talk_tables().of_several[trait],
            "of_a": getattr(a, trait),
            "of_b": getattr(b, trait),
            "having": having,
            "having_3": having + 3,
        }


def _groups(letters: str, world: TalkWorld, rng: random.Random) -> Subjects:
    """As many animals as letters, some of which have a trait; once for each trait and first animal."""
    traits = ("swim", "night", "horns")
    for trait, first in _shuffled(list(itertools.product(traits, world.animals)), rng):
        chosen = _mixed(first, world.animals, trait, len(letters), rng)
        yield dict(zip(letters, chosen, strict=True)) | _parties(
            {f"the {animal}": getattr(animal, trait) for animal in chosen}
        )


def _three_places(world: TalkWorld, rng: random.Random) -> Subjects:
    """Three places, some of which lie by the sea."""
    for first in _shuffled(world.places, rng):
        chosen = _mixed(first, world.places, "sea", 3, rng)
        yield dict(zip("pqr", chosen, strict=True)) | _parties({str(place): place.sea for place in chosen})


def _mixed(first: T, pool: Sequence[T], trait: str, size: int, rng: random.Random) -> list[T]:
    """`first` and others of the pool, such that the trait is true of some and false of others."""
    others = [member for member in pool if member != first]
    while True:
        chosen = [first, *rng.sample(others, size - 1)]
        if len({getattr(member, trait) for member in chosen}) == 2:
            return chosen


@dataclass(frozen=True)
class _Party:
    """The members of a group that have a trait, or those that lack it."""

    names: tuple[str, ...]
    verbs: tuple[str, str]
    """The verb phrase for one member, and for several."""

    @property
    def number(self) -> str:
        return ("none", "one", "two", "three")[len(self.names)]

    @property
    def does(self) -> str:
        return self.verbs[len(self.names) > 1]

    def __str__(self) -> str:
        return " and ".join(filter(None, [", ".join(self.names[:-1]), self.names[-1]]))


def _parties(group: Mapping[str, Trait]) -> Subject:
    """The fields for a group, given each member's trait: who has it, who lacks it, and multiples of both numbers."""
    name = next(iter(group.values())).name
    verbs = talk_tables().trait_forms[name]["does"][0], talk_tables().of_several[name]
    those = tuple(member for member, trait in group.items() if trait.true)
    others = tuple(member for member in group if member not in those)
    return {
        "all": talk_tables().of_several[name],
        "those": _Party(those, verbs),
        "others": _Party(others, verbs),
        "at_2": 2 * len(those),
        "at_5": 5 * len(those),
        "others_2": 2 * len(others),
    }


def _places(world: TalkWorld, rng: random.Random) -> Subjects:
    """A place with its two animals."""
    for place in _shuffled(world.places, rng):
        a, b = world.of(place)
        yield {"p": place, "a": a, "b": b}


def _two_places(world: TalkWorld, rng: random.Random) -> Subjects:
    """Two places, one of which lies by the sea: the coast."""
    for p in _shuffled(world.places, rng):
        q = rng.choice([q for q in world.places if q.sea != p.sea])
        yield {"p": p, "q": q, "coast": p if p.sea.true else q}


SUBJECTS: dict[str, Callable[[TalkWorld, random.Random], Subjects]] = {
    "animal": _animals,
    "weather_stated": _weather_stated,
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
"""By the `about` of a template: what its fields are filled with."""
