"""The rooms of the package and their order: a room imports only from rooms before it in docs/design.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from helpers.paths import ROOT

GROUND = ("errors", "progress", "environment", "hashing", "statistics")
FLOORS = (
    *("sweep", "store", "models", "methods", "data", "costs", "training", "evaluation", "judging"),
    *("planning", "runner", "analysis", "deciding", "report"),
)
TOP = ("api", "export", "cli")
HEIGHT = {**dict.fromkeys(GROUND, 0), **{room: height for height, room in enumerate((*FLOORS, *TOP), start=1)}}
FILES = sorted((ROOT / "bench").rglob("*.py"))
ENTRANCE = ROOT / "bench" / "__init__.py"
"""The package's own __init__ offers what bench.api has, and nothing imports from it."""


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "bench").with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, inside functions and for type checking too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bench.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "bench":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bench."):
            rooms.add(node.module.split(".")[1])
    return rooms


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in FILES if path != ENTRANCE} == set(HEIGHT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    if path == ENTRANCE:
        assert imported_rooms(path) == {"api"}
        return
    room = room_of(path)
    not_before = {other for other in imported_rooms(path) - {room} if HEIGHT[other] >= HEIGHT[room]}
    # The files of the first row do not import one another, but for a user's error, which any file may raise.
    assert not_before - ({"errors"} if room in GROUND else set()) == set()
