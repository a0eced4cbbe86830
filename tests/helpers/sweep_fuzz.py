"""Sweep files that nobody should write: a valid sweep on a tiny model, changed at random places, from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.methods.registry import METHODS
from bench.sweep.schema import SECTIONS

RAW = "@raw@"
"""Begins a text that stands in the file as it is, without quotes."""

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "",
        "x",
        "8",
        "auto",
        "all",
        "none",
        "../x",
        "/nonexistent",
        "x" * 5000,
        "a\nb",
        "ü",
        "%",
        "{",
    ),
    *(-1, 0, 1, 2, 3, 8, 255, 2**31, 2**32, 2**63, 10**30, -(10**30)),
    *(0.5, -0.5, 8.0, 1e-5, 1e-300, 1e30, -1e30),
    *([], {}, [[]], [{}], [None], [True], [1, 2], [1, "x"], [[1, 2], [3]], ["x"], {"x": 1}, {"x": {}}, {"": 1}),
    *(
        f"{RAW}{text}"
        for text in (".inf", "-.inf", ".nan", "1e999", "040", "08", "1:30", "0x10", "0o17", "yes", "~", "1_0")
    ),
    *(
        f"{RAW}{text}"
        for text in ("2020-01-01", "!!python/name:os.system", "!!set {a}", "!!binary aaaa", "&a [*a]", "*b")
    ),
    *(
        f"{RAW}{text}"
        for text in ('"\\0"', '"\\ud800"', "9" * 5000, "[" * 200, "[" * 3000 + "]" * 3000, "- -", ": :", "? x")
    ),
    f"{RAW}[{','.join(map(str, range(3000)))}]",
)


def sweep_texts(seed: int, count: int, model: Path) -> Iterator[str]:
    """`count` texts of sweep files on this base model. No value names anything on a hub."""
    for number in range(count):
        draw = random.Random(f"{seed}:{number}")
        sweep = _valid(model)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _change(sweep, draw)
        text = _text(sweep)
        yield _cut(text, draw) if draw.random() < 0.15 else text


def _valid(model: Path) -> dict[str, Any]:
    return {
        "name": "fuzz",
        "base_model": {"id": str(model), "dtype": "float32"},
        "data": {"train": ["world_two"]},
        "methods": [{"method": "lora", "rank": 2}],
        "samples": [8],
        "seeds": [0],
        "training": {"batch_size": 4},
        "evaluation": {"limit": 2},
        "costs": {"inference": False},
    }


def _change(sweep: dict[str, Any], draw: random.Random) -> None:
    """One change: a key of some section, of a method, at a wrong place, or a value within what is there."""
    kind = draw.choice(("section", "section", "section", "method", "method", "misplaced", "removed", "within"))
    value = copy.deepcopy(draw.choice(VALUES))
    sections = {name: model for name, model in SECTIONS.items() if "NAME" not in name and model.model_fields}
    section = draw.choice(list(sections))
    key = draw.choice(list(sections[section].model_fields))
    if kind == "method":
        name = draw.choice(list(METHODS))
        fields = [*METHODS[name].Options.model_fields, "alpha", "dropout", "peft", "layers", "r", "x"]
        entry = {"method": draw.choice([name, name, name, value]), draw.choice(fields): value}
        methods = sweep.setdefault("methods", [])
        sweep["methods"] = [*methods, entry] if isinstance(methods, list) else [entry]
    elif kind == "removed":
        sweep.pop(draw.choice(list(sweep)), None) if sweep else None
    elif kind == "misplaced":
        sweep[key] = value
    elif kind == "within" and sweep:
        place = draw.choice(list(sweep))
        if isinstance(sweep[place], dict) and sweep[place]:
            sweep[place][draw.choice(list(sweep[place]))] = value
        else:
            sweep[place] = value
    else:
        target = sweep
        for part in section.split(".") if section else ():
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[key] = value


def _text(sweep: dict[str, Any]) -> str:
    """As YAML in flow style (which JSON is), with the raw texts without their quotes; one key a line."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in sweep.items()]
    text = "\n".join(lines) + "\n"
    for value in VALUES:
        if isinstance(value, str) and value.startswith(RAW):
            text = text.replace(json.dumps(value, ensure_ascii=False), value.removeprefix(RAW))
    return text


def _cut(text: str, draw: random.Random) -> str:
    """A line twice, a part missing, or characters that have a meaning in YAML in between."""
    lines = text.splitlines(keepends=True)
    kind = draw.randrange(3)
    place = draw.randrange(len(text) + 1)
    if kind == 0 and lines:
        lines.insert(draw.randrange(len(lines)), draw.choice(lines))
        return "".join(lines)
    if kind == 1:
        return text[:place] + text[place + draw.randrange(20) :]
    return (
        text[:place]
        + draw.choice(("{", "}", "[", ":", "\t", "#", "&", "*", "!", "\0", "\x85", "---\n", "<<: "))
        + text[place:]
    )
