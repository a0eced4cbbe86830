"""PEFT's configuration classes as settings: their fields, defaults and values as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from bench.methods.peft_base import no_warnings

if TYPE_CHECKING:
    from peft import PeftConfig
    from pydantic import JsonValue

    from bench.sweep.cell import Settings

NOT_SETTINGS = {
    *("peft_type", "task_type", "auto_mapping", "peft_version"),
    *("base_model_name_or_path", "revision", "inference_mode"),
}
"""Fields of every PEFT configuration that say where it comes from, not what it does."""


def configuration_classes() -> dict[str, type[PeftConfig]]:
    """The configuration classes of the installed PEFT by type, and our DVoRA's."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    import bench.methods.dvora  # noqa: F401  (registers it)

    return {peft_type.value: configuration for peft_type, configuration in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def build_configuration(peft_type: str, settings: Settings) -> PeftConfig:
    """The configuration of a causal language model's adapter. Raises TypeError or ValueError as its class does."""
    configuration: Callable[..., PeftConfig] = configuration_classes()[peft_type]
    with no_warnings():
        return configuration(task_type="CAUSAL_LM", **settings)


LARGEST = 1e10
"""Of any number in a configuration."""


def checked_values(peft_type: str, settings: Settings) -> Settings:
    """The settings with numbers that are written as texts (`'8'`) or as `8.0` as what their fields take.

    Raises ValueError for a value that is no number, or no boolean, where the field takes nothing else, and for a number
    that no configuration has.
    """
    hints = get_type_hints(configuration_classes()[peft_type])
    return {name: _checked_value(name, value, _kinds(hints.get(name))) for name, value in settings.items()}


def _checked_value(name: str, value: JsonValue, kinds: set[object]) -> JsonValue:
    if value is None or not kinds:
        return value
    if kinds == {bool}:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: {value!r} is neither true nor false")
        return value
    if not kinds <= {int, float}:
        return value
    number: JsonValue = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"{name}: {value!r} is not a number")
    if not abs(number) <= LARGEST:
        raise ValueError(f"{name}: {value!r} is not between {-LARGEST:g} and {LARGEST:g}")
    if kinds == {int}:
        if number == int(number):
            return int(number)
        if "alpha" not in name:  # PEFT only divides it
            raise ValueError(f"{name}: {value!r} is not a whole number")
    return number


def _kinds(annotation: object) -> set[object]:
    """The types that a field takes, without null; empty if they are not known."""
    parts = get_args(annotation)
    if not parts:
        return {annotation} - {None, type(None)}
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in parts for kind in _kinds(part)}
    return {annotation}


def tuner_classes() -> dict[str, type]:
    """The tuner classes by type."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return {peft_type.value: tuner for peft_type, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()}


def configuration_fields(peft_type: str) -> dict[str, dataclasses.Field[object]]:
    """The fields of a type's configuration that are settings."""
    fields = dataclasses.fields(configuration_classes()[peft_type])
    return {field.name: field for field in fields if field.init and field.name not in NOT_SETTINGS}


def default_of(field: dataclasses.Field[object]) -> object:
    """The default value of a field; `dataclasses.MISSING` for a field without one."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def as_json(value: object) -> JsonValue:
    """A setting as JSON. Raises TypeError for a value that has no JSON form."""
    if isinstance(value, enum.Enum):
        return as_json(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return as_json(sorted(value))
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} has no JSON form")
