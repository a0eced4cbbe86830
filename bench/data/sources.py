"""Where rows are read from: the hub, a folder of LLM-Adapters' JSON, one's own files.

Every reader returns rows or raises a UserError that names the file, the row and what is wrong with it.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from bench.data.examples import Pair, TrainingRow
from bench.data.questions import Question
from bench.data.tasks import Task
from bench.data.tasks.rows import from_hub, from_llm_adapters
from bench.errors import UserError
from bench.sweep import OwnSet

Split = Literal["train", "test"]
Row = dict[str, Any]


def commonsense(task: Task, split: Split, folder: str | None) -> list[Question]:
    """The questions of one of the eight tasks, from a folder of LLM-Adapters' JSON or from the hub."""
    if folder is not None:
        path = Path(folder).expanduser() / task.metadata["folder"] / f"{split}.json"
        return [
            _parsed(path, number, row, lambda row: from_llm_adapters(task.name, row, task.wording))
            for number, row in enumerate(_json_list(path), start=1)
        ]
    definition = task.definition
    configs = [definition["dataset_name"]]
    if split == "train":
        configs = task.metadata.get("training_configs", configs)
    hub_split = definition["training_split"] if split == "train" else definition["test_split"]
    origin = definition["dataset_path"]
    return [
        _parsed(origin, number, row, lambda row: from_hub(task.name, row))
        for config in configs
        for number, row in enumerate(_hub(origin, config, definition["dataset_kwargs"]["revision"], hub_split), start=1)
    ]


def own(name: str, settings: OwnSet, split: Split) -> list[TrainingRow]:
    """The rows of one's own set; questions, or prompt-and-answer pairs, by its column map."""
    where = settings.train if split == "train" else settings.test
    if where is None:
        raise UserError(f"data set {name} has no {split!r}", f"Give data.sets.{name}.{split}: a file or hub split.")
    if settings.hub:
        origin = f"{settings.hub}:{where}"
        rows: Iterable[Row] = _hub(settings.hub, settings.config, settings.revision, where)
    else:
        origin = where
        rows = _jsonl(Path(where).expanduser())
    make = _pair if "prompt" in settings.columns else _question
    return [_parsed(origin, number, row, lambda row: make(name, settings, row)) for number, row in enumerate(rows, 1)]


def _question(name: str, settings: OwnSet, row: Row) -> Question:
    columns = settings.columns
    text = _text(row, columns["question"])
    named = columns["choices"]
    choices = [_text(row, column) for column in named] if isinstance(named, list) else _column(row, named)
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) and one for one in choices):
        raise ValueError(f"{named!r} must hold two or more texts, got {choices!r}")
    label = _column(row, columns["label"])
    return Question(name, text, tuple(choices), _label(label, choices, settings.label_from))


def _label(label: Any, choices: list[str], label_from: int) -> int:
    letters = string.ascii_uppercase[: len(choices)]
    readings = set()
    if isinstance(label, str) and label in choices:
        readings.add(choices.index(label))
    if isinstance(label, str) and len(label) == 1 and label in letters:
        readings.add(letters.index(label))
    if (isinstance(label, int) and not isinstance(label, bool)) or (
        isinstance(label, str) and label.strip().isdecimal()
    ):
        readings.add(int(label) - label_from)
    readings = {number for number in readings if 0 <= number < len(choices)}
    if len(readings) > 1:
        raise ValueError(
            f"label {label!r} could mean choices {sorted(readings)}; give numbers that are no choice's text"
        )
    if not readings:
        raise ValueError(
            f"label {label!r} is none of the choices, no letter up to {letters[-1]} and no number from "
            f"{label_from} to {label_from + len(choices) - 1}"
        )
    return readings.pop()


def _pair(name: str, settings: OwnSet, row: Row) -> Pair:
    prompt, answer = (_text(row, settings.columns[part]) for part in ("prompt", "answer"))
    return Pair(name, prompt, answer)


def _column(row: Row, column: Any) -> Any:
    if column not in row:
        raise ValueError(f"no column {column!r}; it has {', '.join(map(repr, row))}")
    return row[column]


def _text(row: Row, column: Any) -> str:
    value = _column(row, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column!r} must be a text, got {value!r}")
    return value


def _parsed(origin: object, number: int, row: Any, parse: Any) -> Any:
    try:
        if not isinstance(row, dict):
            raise ValueError(f"it is no object but {row!r}")
        return parse(row)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        why = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{origin}, row {number}: {why}", "Mend or remove the row; nothing was started.") from None


def _json_list(path: Path) -> list[Any]:
    text = _read(path)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(rows, list):
        raise UserError(f"{path} must be a JSON list of rows")
    return rows


def _jsonl(path: Path) -> Iterator[Any]:
    # Not splitlines: it also splits at characters that may stand inside a JSON string.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}, row {number}: not valid JSON ({error.msg})", "Mend or remove the row."
                ) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else path.parent.parent
        there = sorted(child.name for child in folder.iterdir())[:20] if folder.is_dir() else []
        raise UserError(f"there is no data file {path}", f"{folder} holds: {', '.join(there) or 'nothing'}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _hub(path: str, config: str | None, revision: str | None, split: str) -> Iterable[Row]:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, config, revision=revision, split=split)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        at = f"{path}{f' ({config})' if config else ''} at {revision or 'main'}, split {split}"
        raise UserError(
            f"cannot load the data set {at}: {first}",
            "It would be downloaded from the hub. Connect once, or give data.dir, a folder of LLM-Adapters' JSON.",
        ) from error
