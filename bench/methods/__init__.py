"""How a base model is adapted: one small file per family, one registry.

A new method is one class (`bench.methods.method.Method`) and one line here; a user's own needs no line, it is
named `package.module:Class` in the sweep file.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path

from bench.errors import UserError, unknown
from bench.methods.full import Base, Full
from bench.methods.galore import Galore
from bench.methods.lora import LORA
from bench.methods.method import Facts, Method, Options
from bench.methods.peft_generic import ANY_PEFT
from bench.methods.reft import REFT
from bench.methods.stacked import Stacked

METHODS: dict[str, Method] = {method.name: method for method in (Base(), Full(), *LORA, Galore(), *REFT, *ANY_PEFT)}
METHODS |= {f"loreft+{other}": Stacked(METHODS["loreft"], METHODS[other]) for other in ("lora", "dora")}
"""By name, in the order in which they are listed. Any other pair `edit+weights` is made by `get`."""

__all__ = ["METHODS", "Facts", "Method", "Options", "get"]


def get(name: str) -> Method:
    """The method of this name, a pair `edit+weights` of them, or the user's own class `package.module:Class`.

    Raises UserError for a name that is none of these.
    """
    if name in METHODS:
        return METHODS[name]
    edit, plus, weights = name.partition("+")
    if plus:
        if edit not in {one.name for one in REFT}:
            raise UserError(f"{edit!r} cannot be stacked on {weights!r}", "An edit of hidden states can: loreft+lora.")
        return Stacked(get(edit), get(weights))
    module, colon, attribute = name.partition(":")
    if not colon:
        raise unknown("method", name, METHODS)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot import method {name!r}: {error}", "It is named package.module:Class.") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(f"{name!r} is no bench.methods.Method", "Subclass it; the README shows one.")
    method = found()
    if not getattr(method, "name", ""):
        method.name = name
    # A user's class has no version that anyone raises: its source is its version.
    source = Path(inspect.getfile(found)).read_bytes()
    method.version = f"sha256:{hashlib.sha256(source).hexdigest()[:16]}"
    return method
