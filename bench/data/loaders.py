"""Where rows are read from: the hub, a folder of LLM-Adapters' JSON, one's own files.

Every reader returns rows or raises a UserError that names the file, the row and what is wrong with it.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from bench.data.examples import Dialogue, Pair, TrainingRow
from bench.data.open_questions import OpenQuestion, Turn, with_references
from bench.data.questions import Question
from bench.data.tasks import Task
from bench.data.tasks.rows import from_hub, from_llm_adapters
from bench.errors import OutOfReach, UserError
from bench.sweep.sections import MT_BENCH, OpenSet, OwnSet

Split = Literal["train", "test"]
Row = dict[str, Any]

ALPACA_HUB = ("yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639")
MT_BENCH_HUB = ("HuggingFaceH4/mt_bench_prompts", "e3a795c5e9a82ee40611c416b8a7786c73198991")
"""Hub data sets and their pinned revisions."""


def load_commonsense(task: Task, split: Split, folder: str | None) -> list[Question]:
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


def load_user_set(name: str, settings: OwnSet, split: Split) -> list[TrainingRow]:
    """The rows of one's own set; questions, or prompt-and-answer pairs, by its column map."""
    where = settings.train if split == "train" else settings.test
    if where is None:
        raise UserError(f"data set {name} has no {split!r}", f"Give data.sets.{name}.{split}: a file or hub split.")
    if settings.hub:
        origin = f"{settings.hub}:{where}"
        rows: Iterable[Row] = _hub(settings.hub, settings.config, settings.revision, where)
    else:
        origin = where
        rows = _file(Path(where).expanduser())
    make = next(make for column, make in READERS.items() if column in settings.columns)
    return [_parsed(origin, number, row, lambda row: make(name, settings, row)) for number, row in enumerate(rows, 1)]


def load_alpaca(name: str, path: str | None) -> list[Dialogue]:
    """Alpaca's rows (`instruction`, `input`, `output`), from a JSON or JSONL file or from the hub. The few without an
    answer are left out."""
    origin, revision = ALPACA_HUB
    rows: Iterable[Row] = _hub(origin, None, revision, "train") if path is None else _file(Path(path).expanduser())
    same = OwnSet(columns={part: part for part in ("instruction", "input", "output")})
    return [
        _parsed(path or origin, number, row, lambda row: _instruction(name, same, row))
        for number, row in enumerate(rows, 1)
        if not (isinstance(row, dict) and isinstance(row.get("output"), str) and not row["output"].strip())
    ]


def load_open_questions(name: str, settings: OpenSet | None) -> tuple[OpenQuestion, ...]:
    """Questions of a file in FastChat's format, with reference answers from another; MT-Bench's from the hub where no
    file is given.

    Of MT-Bench only that other file has reference answers: what its question file (and the hub's copy) calls so are
    notes for whoever judges (`Carefully check ...`, `Uncertain.`).
    """
    settings = settings or OpenSet()
    if settings.questions is None:
        origin, revision = MT_BENCH_HUB
        rows: Iterable[Row] = [
            {"question_id": row["prompt_id"], "category": row["category"], "turns": list(row["prompt"])}
            for row in _hub(origin, None, revision, "train")
        ]
    else:
        origin = settings.questions
        rows = _file(Path(origin).expanduser())
    found = tuple(_parsed(origin, number, row, OpenQuestion.from_row) for number, row in enumerate(rows, 1))
    if len({one.id for one in found}) < len(found):
        raise UserError(f"{origin}: a question_id stands there twice", "Number the questions anew.")
    if settings.references is None:
        return with_references(found, ()) if name == MT_BENCH else found
    answers = Path(settings.references).expanduser()
    try:
        return with_references(found, _file(answers))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{answers} holds no answers in FastChat's format ({type(error).__name__}: {error})",
            'A row is {"question_id": 101, "choices": [{"index": 0, "turns": ["...", "..."]}]}.',
        ) from None


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


def _instruction(name: str, settings: OwnSet, row: Row) -> Dialogue:
    columns = settings.columns
    more = row.get(columns.get("input", "input")) or ""
    if not isinstance(more, str):
        raise ValueError(f"{columns.get('input', 'input')!r} must be a text, got {more!r}")
    asked = Turn(_text(row, columns["instruction"]).strip(), more.strip())
    return Dialogue(name, (asked,), (_text(row, columns["output"]).strip(),))


def _messages(name: str, settings: OwnSet, row: Row) -> Dialogue:
    """A list of {role, content}: a system text first where there is one, then user and assistant in turns."""
    messages = _column(row, settings.columns["messages"])
    roles = [one["role"] for one in messages]
    texts = [_text(one, "content").strip() for one in messages]
    system = texts.pop(0) if roles[:1] == ["system"] else ""
    turns = [one for one in roles if one != "system"]
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2) or len(turns) != len(texts):
        raise ValueError(f"messages must be user and assistant in turns, ending with assistant; got {', '.join(roles)}")
    return Dialogue(name, tuple(map(Turn, texts[::2])), tuple(texts[1::2]), system)


READERS = {"prompt": _pair, "instruction": _instruction, "messages": _messages, "question": _question}
"""How a row of one's own set is read, by a column that it has."""


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
        raise UserError(f"{origin}, row {number}: {why}", "Fix or remove the row; nothing was started.") from None


def _file(path: Path) -> Iterable[Any]:
    """The rows of a JSON list or of a JSONL file, by what it begins with."""
    return _json_list(path) if _read(path).lstrip().startswith("[") else _jsonl(path)


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
                    f"{path}, row {number}: not valid JSON ({error.msg})", "Fix or remove the row."
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
        raise OutOfReach(
            f"cannot load the data set {at}: {first}",
            "It would be downloaded from the hub. Connect once, or give files of your own: data.dir (a folder of "
            "LLM-Adapters' JSON), data.alpaca, answers.sets.",
        ) from error
