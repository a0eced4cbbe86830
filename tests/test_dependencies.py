"""Every dependency that is declared is used, locked and importable; every import that is used is declared."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED = {"pip", "gguf"}
"""Used without an import of ours: pip as a program, gguf by transformers."""
OPTIONAL = ("reft", "galore", "quant", "energy", "ray", "judge", "serving")
"""Extras that the lock has: all whose use is tested, and the meter of a GPU's energy."""
OF_OTHERS = {"pyvene", "fastapi", "uvicorn"}
"""Of those extras, what is imported by others alone: pyreft's own, and what `transformers serve` is made of."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=! ]", name)[0]).lower()


def imported() -> set[str]:
    """Top-level modules imported anywhere in bench/, inside functions too."""
    found = set()
    for path in (ROOT / "bench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"bench"}


def test_every_import_is_declared_and_every_dependency_used() -> None:
    owners = packages_distributions()
    used = {canonical(owners[module][0]) for module in imported()}
    declared = {canonical(one) for one in PROJECT["dependencies"]}
    optional = {canonical(one) for extra in OPTIONAL for one in PROJECT["optional-dependencies"][extra]}
    assert used <= declared | optional
    assert declared <= used | NOT_IMPORTED
    assert optional <= used | OF_OTHERS


@pytest.mark.parametrize("module", sorted({*imported(), "gguf"}))
def test_every_dependency_imports(module: str) -> None:
    importlib.import_module(module)


def test_the_lock_is_exact_and_covers_what_is_declared() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "torch==2.13.0"
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
    locked = {canonical(line) for line in lines}
    extras = [one for extra in ("dev", *OPTIONAL) for one in PROJECT["optional-dependencies"][extra]]
    assert {canonical(one) for one in (*PROJECT["dependencies"], *extras)} - {"pip"} <= locked


def test_pip_check_complains_of_nothing_that_matters() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    ours = {canonical(one) for one in PROJECT["dependencies"]} | {"bench-peft"}
    complaints = [line for line in done.stdout.splitlines() if canonical(line.split(" ")[0]) in ours]
    assert not complaints
