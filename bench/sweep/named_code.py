"""Code that is not of this package and that files of others name: it runs only if the caller allows it by its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bench.errors import UserError
from bench.sweep.schema import Sweep


def check_allowed(code: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raises UserError unless all of this code is allowed. `code` has what would run by the name that allows it."""
    refused = {name: what for name, what in code.items() if name not in allowed}
    if refused:
        raise UserError(
            f"this would run code: {'; '.join(f'{name} ({what})' for name, what in refused.items())}",
            f"Read that code first. To run it, add {' '.join(f'--allow-code {name}' for name in refused)} (in a "
            "program: the argument allow_code).",
        )


def check_recorded_sweep(path: Path, sweep: Sweep, allowed: Collection[str]) -> None:
    """For the sweep file of a results folder, which others may have written: raises UserError if it names code that is
    not allowed, classes of methods or the own code of a base model. A sweep file outside of one is the user's own."""
    if (path.parent / "plan.json").is_file():
        code = {base.id: "the base model's own Python code" for base in sweep.base_model if base.trust_remote_code}
        for name in sweep.method_names:
            code |= _code_of_method(name)
        check_allowed(code, allowed)


def check_class(method: str, allowed: Collection[str]) -> None:
    """Raises UserError for a method that is a class `package.module:Class` (alone or in a pair) and is not allowed."""
    check_allowed(_code_of_method(method), allowed)


def _code_of_method(name: str) -> dict[str, str]:
    module, colon, _ = name.rpartition("+")[2].partition(":")
    return {name: f"imports {module}"} if colon else {}
