"""The methods by name. A new method is one class (`bench.methods.method.Method`) and one entry in `METHODS`.

A user's own method needs no entry: the sweep file names it `package.module:Class`.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from bench.errors import UserError, first_line, unknown
from bench.hashing import short_hash
from bench.methods.full import Base, Full
from bench.methods.galore import Galore
from bench.methods.lora import LORA_METHODS
from bench.methods.method import Method
from bench.methods.peft_generic import PEFT_METHODS
from bench.methods.reft import REFT_METHODS
from bench.methods.stacked import Stacked

METHODS: dict[str, Method] = {
    method.name: method for method in (Base(), Full(), *LORA_METHODS, Galore(), *REFT_METHODS, *PEFT_METHODS)
}
METHODS |= {f"loreft+{other}": Stacked(METHODS["loreft"], METHODS[other]) for other in ("lora", "dora")}
"""By name, in the order in which they are listed. `get` builds any other pair `edit+weights`."""


def get(name: str) -> Method:
    """The method of this name, a pair `edit+weights` of them, or the user's own class `package.module:Class`.

    Raises UserError for a name that is none of these.
    """
    if name in METHODS:
        return METHODS[name]
    if "+" in name:
        return _stacked(name)
    if ":" in name:
        return _users_own(name)
    raise unknown("method", name, METHODS)


def _stacked(name: str) -> Stacked:
    edit, _, weights = name.partition("+")
    if edit not in {method.name for method in REFT_METHODS}:
        raise UserError(f"{edit!r} cannot be stacked on {weights!r}", "An edit of hidden states can: loreft+lora.")
    return Stacked(get(edit), get(weights))


def _users_own(name: str) -> Method:
    module, _, attribute = name.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a module may raise anything when it is imported
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"cannot import method {name!r}: {why}", "It is named package.module:Class.") from error
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(f"{name!r} is no bench.methods.Method", "Subclass it; the README shows an example.")
    if missing := [part for part in ("facts", "Options") if not hasattr(cls, part)]:
        lacking = " and no ".join(missing)
        raise UserError(f"method {name!r} is abstract: it has no {lacking}", "Name a complete subclass.")
    try:
        method = cls()
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"method {name!r} cannot be created: {why}", "It must need no arguments.") from error
    if not getattr(method, "name", ""):
        method.name = name
    # Nobody raises the version of a user's class: the hash of its source is its version.
    source = Path(inspect.getfile(cls)).read_bytes()
    method.version = f"sha256:{short_hash(source)}"
    return method
