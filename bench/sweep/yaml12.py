"""YAML as sweep files have it: the core schema of YAML 1.2, each key once, and nothing that could hang a reader.

PyYAML reads YAML 1.1, in which `040` is 32, `1:30` is 90, `yes` is true and `1e-4` is a text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import yaml
from pydantic import JsonValue
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
"""Of lists and mappings within one another. The reader calls itself for each."""
MAX_VALUES = 50_000
"""Once every alias is replaced by what it stands for."""
MAX_DIGITS = 30
MAX_TEXT = 2000
"""Characters of a text."""

TAG = "tag:yaml.org,2002:"
SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
    ("merge", r"<<", ("<",)),
)
"""The plain scalars that are no texts: tag, form, first characters. Of two that fit, the earlier one holds."""


def parse_yaml(text: str) -> JsonValue:
    """The value of one YAML document. Raises ValueError, with the line and what is wrong there in one line of text."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        _check_shape(text)
        value: JsonValue = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        context = f"{error.context}, " if error.context else ""
        raise ValueError(" ".join(f"{where}{context}{error.problem}".split())) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return value


def dump_yaml(value: JsonValue) -> str:
    """A YAML document that `parse_yaml`, and readers of YAML 1.1, read as this value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _check_shape(text: str) -> None:
    """Raises MarkedYAMLError for nesting that is too deep, and for aliases that expand to too much or to themselves."""
    sizes: dict[str, int] = {}
    open_sizes = [0]
    anchors: list[str | None] = []
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
            open_sizes.append(1)
            if len(anchors) > MAX_DEPTH:
                raise _problem(f"lists and mappings are nested more than {MAX_DEPTH} deep", event.start_mark)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = open_sizes.pop(), anchors.pop()
        elif isinstance(event, yaml.ScalarEvent):
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _problem(f"*{event.anchor} stands for nothing that is complete before it", event.start_mark)
            size, anchor = sizes[event.anchor], None
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        open_sizes[-1] += size
        if open_sizes[-1] > MAX_VALUES:
            raise _problem(f"it holds more than {MAX_VALUES:,} values", event.start_mark)


def _problem(text: str, mark: object) -> ConstructorError:
    return ConstructorError(None, None, text, mark)  # type: ignore[arg-type]  # libyaml's mark or PyYAML's


class _Loader(SafeLoader):
    """Only what JSON has: texts, numbers, booleans, null, lists, and mappings whose keys are texts."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's; none of those of YAML 1.1)
    yaml_constructors = {}  # noqa: RUF012

    def construct_mapping(self, node: Node, deep: bool = False) -> dict[Hashable, JsonValue]:
        seen = set()
        for key, _ in node.value if isinstance(node, MappingNode) else ():  # a tag can say that anything is a mapping
            if key.tag == f"{TAG}merge":
                continue
            if not isinstance(key, ScalarNode):
                raise _problem("a list or mapping cannot be a key", key.start_mark)
            key.tag = f"{TAG}str"  # as in JSON
            if key.value in seen:
                raise _problem(f"the key {key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)  # type: ignore[arg-type]  # which raises for another node


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that either version of YAML would read as something else."""


for _name, _form, _first in SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{TAG}{_name}", re.compile(rf"(?:{_form})$"), list(_first))


def _null(loader: _Loader, node: Node) -> None:
    return None


def _boolean(loader: _Loader, node: Node) -> bool:
    text = _characters(loader, node)
    if text.lower() not in ("true", "false"):
        raise _problem(f"{text} is neither true nor false", node.start_mark)
    return text.lower() == "true"


def _integer(loader: _Loader, node: Node) -> int:
    text = _characters(loader, node)
    if len(text) > MAX_DIGITS:
        raise _problem(f"a number of {len(text):,} digits is too long", node.start_mark)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    try:
        return int(text, base)
    except ValueError:
        raise _problem(f"{text} is not a whole number", node.start_mark) from None


def _number(loader: _Loader, node: Node) -> float:
    text = _characters(loader, node)
    try:
        value = float(text)
    except ValueError:
        value = float("inf")
    if abs(value) == float("inf"):
        raise _problem(f"{text[:MAX_DIGITS]} is not a finite number", node.start_mark)
    return value


def _characters(loader: _Loader, node: Node) -> str:
    return str(loader.construct_scalar(node))  # type: ignore[arg-type]


def _text(loader: _Loader, node: Node) -> str:
    text = _characters(loader, node)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _problem("a text holds half of a surrogate pair, which is no character", node.start_mark) from None
    if len(text) > MAX_TEXT:
        raise _problem(f"a text has {len(text):,} characters; at most {MAX_TEXT:,} are possible", node.start_mark)
    if "\0" in text:
        raise _problem("a text holds a null character", node.start_mark)
    return text


def _refused(loader: _Loader, node: Node) -> None:
    raise _problem(f"the tag {node.tag.replace(TAG, '!!')} has no place in a sweep", node.start_mark)


for _name, _constructor in {"null": _null, "bool": _boolean, "int": _integer, "float": _number, "str": _text}.items():
    _Loader.add_constructor(f"{TAG}{_name}", _constructor)
_Loader.add_constructor(f"{TAG}seq", _Loader.construct_yaml_seq)  # type: ignore[type-var]
_Loader.add_constructor(f"{TAG}map", _Loader.construct_yaml_map)  # type: ignore[type-var]
_Loader.add_constructor(None, _refused)
