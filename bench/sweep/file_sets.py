"""A file of data that is named where a set is asked for: it becomes a set of the file's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".tab", ".parquet")
"""Of the files that are sets."""


def with_file_sets(sweep: Mapping[str, object]) -> dict[str, object]:
    """A sweep as it was written, with an entry in `data.sets` for each file in `data.train` and `evaluation.tasks`.

    Raises ValueError for two files of one name.
    """
    data, evaluation = sweep.get("data") or {}, sweep.get("evaluation") or {}
    if not isinstance(data, Mapping) or not isinstance(evaluation, Mapping):
        return dict(sweep)
    given = data.get("sets") or {}
    sets: dict[object, object] = dict(given) if isinstance(given, Mapping) else {}
    names = {
        "train": _name_files("train", data.get("train"), sets, given),
        "test": _name_files("test", evaluation.get("tasks"), sets, given),
    }
    named = dict(sweep)
    if names["train"] != data.get("train") or sets != given:
        named["data"] = {**data, "sets": sets, **({"train": names["train"]} if data.get("train") is not None else {})}
    if names["test"] != evaluation.get("tasks"):
        named["evaluation"] = {**evaluation, "tasks": names["test"]}
    return named


def _name_files(split: str, entries: object, sets: dict[object, object], given: object) -> object:
    """The entries with the names of sets in the place of files, which become `split` of the `sets`."""
    listed = entries if isinstance(entries, (list, tuple)) else [entries]
    names = []
    for entry in listed:
        if not isinstance(entry, str) or entry in sets or not entry.lower().endswith(ENDINGS):
            names.append(entry)
            continue
        name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(entry).stem)
        before = sets.get(name, {})
        if (isinstance(given, Mapping) and name in given) or not isinstance(before, dict):
            raise ValueError(f"{entry} would be the set {name}, which data.sets has already; write {name}")
        if before.get(split, entry) != entry:
            raise ValueError(f"{entry} and {before[split]} would both be the set {name}; name them in data.sets")
        sets[name] = {**before, split: entry}
        names.append(name)
    return names if isinstance(entries, (list, tuple)) or names != listed else entries
