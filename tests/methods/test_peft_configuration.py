"""PEFT's configurations as settings."""

from __future__ import annotations

import dataclasses
import enum
import json

import pytest

from bench.methods.peft_configuration import (
    NOT_SETTINGS,
    as_json,
    configuration_classes,
    configuration_fields,
    default_of,
)


class Letter(enum.Enum):
    A = "a"


@dataclasses.dataclass
class Inner:
    letters: tuple[Letter, ...] = (Letter.A,)
    names: frozenset[str] = frozenset({"b", "a"})


def test_values_are_json() -> None:
    assert as_json({1: Inner(), "none": None}) == {"1": {"letters": ["a"], "names": ["a", "b"]}, "none": None}
    with pytest.raises(TypeError, match="a object has no JSON form"):
        as_json(object())


def test_the_defaults_of_every_type_are_json() -> None:
    types = configuration_classes()
    assert "DVORA" in types and "LORA" in types
    for peft_type in types:
        fields = configuration_fields(peft_type)
        assert fields and not NOT_SETTINGS & fields.keys()
        json.dumps({name: as_json(default_of(field)) for name, field in fields.items()})
