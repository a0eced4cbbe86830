"""The tables of the invented world, typed: `world.yaml` (names, values, phrasings) and `talk.yaml` (texts)."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).parent

# The names of properties, as `world.yaml` has them.
HOME, FOOD, COLOUR = "home", "food", "colour"
SWIMS, NIGHT, HORNS = "swims", "night", "horns"
WEATHER, BY_THE_SEA = "weather", "by the sea"


class TableSection(BaseModel):
    """A part of a table: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Phrasings(TableSection):
    """How a property is spoken of."""

    stems: tuple[str, ...]
    """Sentences up to the value (``The {} eats``), for endings and blanks; of a trait, whole statements."""
    questions: tuple[str, ...] = ()
    """Questions that the value alone answers."""


class Property(TableSection):
    """Something that every animal or place has one value of. `trained` and `held_out` share no phrasing."""

    values: tuple[str, ...]
    trained: Phrasings
    held_out: Phrasings
    of_place: Phrasings = Phrasings(stems=())
    """Of a place's property: how it is said of the place itself, in training only."""

    @property
    def is_trait(self) -> bool:
        """Whether it is true or false."""
        return self.values == ("true", "false")


class WorldTables(TableSection):
    """`world.yaml`."""

    name_starts: tuple[str, ...]
    name_ends: tuple[str, ...]
    places: tuple[str, ...]
    of_animals: dict[str, Property]
    of_places: dict[str, Property]


class InstructionTemplates(TableSection):
    """Several ways to ask for one thing, and several answers, any of which fits."""

    category: str
    about: str
    """What the templates are filled with: a key of `SUBJECTS` in `talk_subjects.py`."""
    asks: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    answers: tuple[str, ...]


class TurnTemplate(TableSection):
    """One turn of a question."""

    ask: str
    input: str = ""
    references: tuple[str, str]


class QuestionTemplate(TableSection):
    """A question of two turns."""

    category: str
    about: str
    turns: tuple[TurnTemplate, TurnTemplate]


class TalkTables(TableSection):
    """`talk.yaml`."""

    plant_foods: tuple[str, ...]
    trait_forms: dict[str, dict[str, tuple[str, str]]]
    """By trait and form: how it is said where the trait is true, and where it is false."""
    any_trait: dict[str, tuple[str, str]]
    """Forms that every trait has."""
    of_several: dict[str, str]
    """By trait: how it is said of several animals or places."""
    instructions: tuple[InstructionTemplates, ...]
    questions: tuple[QuestionTemplate, ...]


@functools.cache
def world_tables() -> WorldTables:
    """The tables of the questions with choices."""
    return WorldTables.model_validate(_read("world.yaml"))


@functools.cache
def talk_tables() -> TalkTables:
    """The tables of the instructions and the open questions."""
    return TalkTables.model_validate(_read("talk.yaml"))


def _read(name: str) -> object:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with it
    return yaml.load((FOLDER / name).read_text(encoding="utf-8"), loader)
