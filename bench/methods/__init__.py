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
from bench.methods.lora import Dora, Lora
from bench.methods.method import Facts, Method, Options

METHODS: dict[str, type[Method]] = {method.name: method for method in (Base, Full, Lora, Dora)}

__all__ = ["METHODS", "Facts", "Method", "Options", "get"]


def get(name: str) -> Method:
    """The method of this name, or the user's own class `package.module:Class`.

    Raises UserError for a name that is neither.
    """
    if name in METHODS:
        return METHODS[name]()
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
    # A user's class has no version that anyone raises: its source is its version.
    source = Path(inspect.getfile(found)).read_bytes()
    method.version = f"sha256:{hashlib.sha256(source).hexdigest()[:16]}"
    return method
