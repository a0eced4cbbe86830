"""Every use of a library's private parts, one file per library and subject: `compat/peft.py`, `compat/lm_eval.py`.

The rule of this package:

- Code outside it uses only what a library documents. A private attribute, a patched method, a replaced class or a
  signature that the library may change without notice belongs here.
- Each file names the upstream file (a GitHub link) and calls `require` for what it relies on, when it is imported or
  before its first use. A new version of the library then fails with one clear error, not with wrong numbers.
- Nothing here knows of sweeps, cells or methods: the functions take and return the library's own objects.

Importing this package loads no library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType


class IncompatibleLibrary(Exception):
    """The installed version of a library lacks a private part that the harness relies on."""


@contextmanager
def replaced(module: ModuleType, **functions: Callable[..., object]) -> Iterator[None]:
    """While entered, functions of a library's module are others. Not for several threads at once."""
    before = {name: vars(module)[name] for name in functions}
    vars(module).update(functions)
    try:
        yield
    finally:
        vars(module).update(before)


def require(condition: bool, library: str, what: str, link: str) -> None:
    """Check an assumption about the private parts of a library.

    `library` is the name of the installed distribution (`lm-eval`), `what` says what the harness relies on, and `link`
    is the upstream file. Raises IncompatibleLibrary, naming the installed version, if `condition` is false.
    """
    if condition:
        return
    try:
        installed = version(library)
    except PackageNotFoundError:
        installed = "of unknown version"
    raise IncompatibleLibrary(
        f"{library} {installed} does not fit this harness: {what} is not as expected. Upstream: {link}. "
        f"Install the version of {library} that requirements.lock names."
    )
