"""Where the numbers come from: devices, versions, commit, base model and data of the cells."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from bench.report.tables import Table
from bench.store.folder import Results


def tables(results: Results, plan: dict[str, Any]) -> list[Table]:
    """One table, a column a variety of environment. Empty without a cell; a record that cannot be read says so."""
    kinds: dict[tuple[tuple[str, str], ...], int] = {}
    for cell in plan["cells"]:
        text = results.folder_named(cell["folder"]).read_text("environment.json")
        if text is not None:
            try:
                facts = _facts(json.loads(text))
            except (json.JSONDecodeError, KeyError):
                facts = (("", "its environment.json cannot be read"),)
            kinds[facts] = kinds.get(facts, 0) + 1
    if not kinds:
        return []
    columns = [dict(facts) for facts in kinds]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    heads = ["", *(f"{count} cell{'s' if count != 1 else ''}" for count in kinds.values())]
    note = (
        "What every cell was run with."
        if len(kinds) == 1
        else "What the cells were run with. Columns differ in base model, data, device, versions or code."
    )
    return [Table("Environment", heads, rows, note, prose=True)]


def mixed(results: Results, plan: dict[str, Any]) -> list[str]:
    """That cells ran on several kinds of machine, where they did: then seconds are not to be compared."""
    kinds = set()
    for cell in plan["cells"]:
        text = results.folder_named(cell["folder"]).read_text("environment.json")
        with suppress(json.JSONDecodeError, KeyError):
            recorded = json.loads(text or "{}")
            kinds.add((recorded.get("processor"), recorded["device"], recorded["threads"]))
    if len(kinds) < 2:
        return []
    return [
        f"These cells ran on {len(kinds)} kinds of machine (the environments below): seconds, tokens/s and memory are "
        "comparable within one of them only."
    ]


def _facts(recorded: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    base = recorded["base_model"]
    device = recorded["device"]
    # Of a CPU the device says no more than that.
    where = recorded.get("processor") or device if device == "cpu" else device
    found = {
        "device": f"{where}, {recorded['threads']} threads",
        "platform": f"{recorded['platform']}, Python {recorded['python']}",
        "commit": recorded["commit"] or "unknown",
        "base model": f"{base['id']}, {base['revision'] or 'no revision'}",
        "computes in": recorded.get("dtype_reason", ""),
        "data fingerprint": recorded["data_fingerprint"],
        "packages": ", ".join(f"{name} {number}" for name, number in recorded["packages"].items() if number),
    }
    return tuple((name, value) for name, value in found.items() if value)
