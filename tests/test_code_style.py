"""Rules of the code that a linter does not check: names of the field, and `Any` at the boundaries only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.paths import ROOT

FILES = sorted((ROOT / "bench").rglob("*.py"))
DIALECT = frozenset(["one", "own", "found", "made", "said", "told", "mine", "asked", "whole", "known"])
"""Names that say nothing of what they stand for, where a noun exists."""
ANY_PER_THOUSAND_LINES = 5
LONGEST_FUNCTION = 60
LONGEST_FILE = 420


def names(tree: ast.AST) -> dict[str, int]:
    """Every name that a file gives to a variable, an argument, an attribute, a function or a class, with its line."""
    given: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            given.setdefault(node.id, node.lineno)
        elif isinstance(node, ast.arg):
            given.setdefault(node.arg, node.lineno)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            given.setdefault(node.attr, node.lineno)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            given.setdefault(node.name, node.lineno)
    return given


def too_long(tree: ast.AST) -> dict[str, int]:
    """The functions of a file with more lines than a screen has, their docstring left out."""
    lengths = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = node.end_lineno - body[0].lineno + 1 if body and node.end_lineno else 0
            if length > LONGEST_FUNCTION:
                lengths[node.name] = length
    return lengths


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_nouns_functions_fit_a_screen_and_files_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= LONGEST_FILE
    assert {name: line for name, line in names(tree).items() if name.lstrip("_") in DIALECT} == {}
    assert too_long(tree) == {}


def test_any_is_rare() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    uses = sum(len(re.findall(r"\bAny\b", text)) for text in texts)
    lines = sum(text.count("\n") for text in texts)
    assert lines and uses <= ANY_PER_THOUSAND_LINES * lines / 1000


def test_the_rules_catch_what_they_are_for() -> None:
    tree = ast.parse("def f(one):\n    for found in one: pass\n    self.made = 1\n" + "    x = 1\n" * LONGEST_FUNCTION)
    assert {name for name in names(tree) if name in DIALECT} == {"one", "found", "made"}
    assert set(too_long(tree)) == {"f"}


def test_no_public_name_is_given_twice() -> None:
    """A class or public function of one name in two modules is a homonym."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT / "bench")))
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1 and "api.py" not in paths}
    # Each file of a figure has the one verb `draw`.
    assert all(path.startswith("report/figures/") for path in twice.pop("draw"))
    assert twice == {}
