"""Reads rows from their origin: the hub, a folder of LLM-Adapters' JSON, a user's files.

Every loader returns rows, or raises a UserError that names the file, the row and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeVar

from bench.data.examples import Dialogue, TrainingRow
from bench.data.json_rows import Row, read_rows
from bench.data.open_questions import OpenQuestion, with_references
from bench.data.questions import Question
from bench.data.tasks import Task
from bench.data.tasks.rows import from_hub, from_llm_adapters
from bench.data.user_rows import INSTRUCTION_COLUMNS, read_instruction, read_user_row
from bench.errors import OutOfReach, UserError, first_line
from bench.sweep.sections import MT_BENCH, OpenSet, OwnSet

Split = Literal["train", "test"]
T = TypeVar("T")

ALPACA_HUB = ("yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639")
MT_BENCH_HUB = ("HuggingFaceH4/mt_bench_prompts", "e3a795c5e9a82ee40611c416b8a7786c73198991")
"""Hub data sets and their pinned revisions."""


def load_commonsense(task: Task, split: Split, folder: str | None) -> list[Question]:
    """The questions of one of the eight tasks, from a folder of LLM-Adapters' JSON or from the hub."""
    source = task.source
    assert source is not None  # of a commonsense task
    if folder is not None:
        path = Path(folder).expanduser() / source.folder / f"{split}.json"
        return [
            _parsed(path, number, row, lambda row: from_llm_adapters(task.name, row, task.wording))
            for number, row in enumerate(read_rows(path), start=1)
        ]
    configs = source.training_configs if split == "train" else (source.test_config,)
    hub_split = source.training_split if split == "train" else source.test_split
    return [
        _parsed(source.hub, number, row, lambda row: from_hub(task.name, row))
        for config in configs
        for number, row in enumerate(_hub(source.hub, config, source.revision, hub_split), start=1)
    ]


def load_user_set(name: str, settings: OwnSet, split: Split) -> list[TrainingRow]:
    """The rows of a user's set, read by its column map."""
    where = settings.train if split == "train" else settings.test
    if where is None:
        raise UserError(f"data set {name} has no {split!r}", f"Give data.sets.{name}.{split}: a file or hub split.")
    if settings.hub:
        origin = f"{settings.hub}:{where}"
        rows: Iterable[Row] = _hub(settings.hub, settings.config, settings.revision, where)
    else:
        origin = where
        rows = read_rows(Path(where).expanduser())
    return [
        _parsed(origin, number, row, lambda row: read_user_row(name, settings, row))
        for number, row in enumerate(rows, start=1)
    ]


def load_alpaca(name: str, path: str | None) -> list[Dialogue]:
    """Alpaca's rows (`instruction`, `input`, `output`), from a JSON or JSONL file or from the hub. Rows with an empty
    output are left out: Alpaca has a few."""
    origin, revision = ALPACA_HUB
    rows: Iterable[Row] = _hub(origin, None, revision, "train") if path is None else read_rows(Path(path).expanduser())
    return [
        _parsed(path or origin, number, row, lambda row: read_instruction(name, INSTRUCTION_COLUMNS, row))
        for number, row in enumerate(rows, start=1)
        if not _has_empty_output(row)
    ]


def load_open_questions(name: str, settings: OpenSet | None) -> tuple[OpenQuestion, ...]:
    """The questions of a file in FastChat's format, with reference answers from a second file; without a file,
    MT-Bench's questions from the hub.

    MT-Bench's reference answers are in the second file only: the `reference` of its question file (and of the hub's
    copy) is a note for the judge (`Carefully check ...`, `Uncertain.`).
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
        rows = read_rows(Path(origin).expanduser())
    questions = tuple(_parsed(origin, number, row, OpenQuestion.from_row) for number, row in enumerate(rows, start=1))
    if len({question.id for question in questions}) < len(questions):
        raise UserError(f"{origin}: a question_id occurs twice", "Give every question its own question_id.")
    if settings.references is None:
        return with_references(questions, ()) if name == MT_BENCH else questions
    answers = Path(settings.references).expanduser()
    try:
        return with_references(questions, read_rows(answers))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(
            f"{answers} holds no answers in FastChat's format ({type(error).__name__}: {error})",
            'A row is {"question_id": 101, "choices": [{"index": 0, "turns": ["...", "..."]}]}.',
        ) from None


def _has_empty_output(row: object) -> bool:
    output = row.get("output") if isinstance(row, dict) else None
    return isinstance(output, str) and not output.strip()


def _parsed(origin: object, number: int, row: object, parse: Callable[[Row], T]) -> T:
    """`parse(row)`; what it raises becomes a UserError that names origin and row."""
    try:
        if not isinstance(row, dict):
            raise ValueError(f"it is no object but {row!r}")
        return parse(row)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        why = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{origin}, row {number}: {why}", "Fix or remove the row; nothing was started.") from None


def _hub(path: str, config: str | None, revision: str | None, split: str) -> Iterable[Row]:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, config, revision=revision, split=split)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        at = f"{path}{f' ({config})' if config else ''} at {revision or 'main'}, split {split}"
        raise OutOfReach(
            f"cannot load the data set {at}: {reason}",
            "It would be downloaded from the hub. Connect once, or give files of your own: data.dir (a folder of "
            "LLM-Adapters' JSON), data.alpaca, answers.sets.",
        ) from error
