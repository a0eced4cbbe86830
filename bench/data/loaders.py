"""Loads the data of the built-in tasks and sets: from the hub, a folder of LLM-Adapters' JSON or files of their form.
`bench.data.user.user_sets` loads the sets of `data.sets`.

Every loader returns rows, or raises a UserError that names the file, the row and what is wrong with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bench.data import hub
from bench.data.examples import Dialogue
from bench.data.files.bad_rows import RowError, parse_all, shown
from bench.data.files.json_rows import Row
from bench.data.files.row_files import read_rows
from bench.data.open_questions import OpenQuestion, ReferenceAnswer, with_references
from bench.data.questions import Question
from bench.data.tasks import Task
from bench.data.tasks.rows import from_hub, from_llm_adapters
from bench.data.user.user_rows import ALPACA_COLUMNS, has_answer, read_instruction
from bench.errors import UserError
from bench.sweep.sections import MT_BENCH, OpenSet

Split = Literal["train", "test"]

ALPACA_HUB = ("yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639")
MT_BENCH_HUB = ("HuggingFaceH4/mt_bench_prompts", "e3a795c5e9a82ee40611c416b8a7786c73198991")
"""Hub data sets and their pinned revisions."""


def load_commonsense(task: Task, split: Split, folder: str | None) -> list[Question]:
    """The questions of one of the eight tasks, from a folder of LLM-Adapters' JSON or from the hub."""
    source = task.source
    assert source is not None  # of a commonsense task
    if folder is not None:
        path = Path(folder).expanduser() / source.folder / f"{split}.json"
        return parse_all(path, read_rows(path), lambda row: from_llm_adapters(task.name, row, task.wording))
    configs = source.training_configs if split == "train" else (source.test_config,)
    hub_split = source.training_split if split == "train" else source.test_split
    return [
        question
        for config in configs
        for question in parse_all(
            source.hub,
            hub.hub_rows(source.hub, config, source.revision, hub_split),
            lambda row: from_hub(task.name, row),
        )
    ]


def load_alpaca(name: str, path: str | None) -> list[Dialogue]:
    """Alpaca's rows (`instruction`, `input`, `output`), from a JSON or JSONL file or from the hub. Rows with an empty
    output are left out: Alpaca has a few."""
    origin, revision = ALPACA_HUB
    rows = hub.hub_rows(origin, None, revision, "train") if path is None else read_rows(path)
    read = parse_all(path or origin, rows, lambda row: read_instruction(name, ALPACA_COLUMNS, row))
    return [row for row in read if has_answer(row)]


def load_open_questions(name: str, settings: OpenSet | None) -> tuple[OpenQuestion, ...]:
    """The questions of a file in FastChat's format, with reference answers from a second file; without a file,
    MT-Bench's questions from the hub.

    MT-Bench's reference answers are in the second file only: the `reference` of its question file (and of the hub's
    copy) is a note for the judge (`Carefully check ...`, `Uncertain.`).
    """
    settings = settings or OpenSet()
    if settings.questions is None:
        origin, revision = MT_BENCH_HUB
        rows: Iterable[object] = [
            {"question_id": row["prompt_id"], "category": row["category"], "turns": list(row["prompt"])}
            for row in hub.hub_rows(origin, None, revision, "train")
        ]
    else:
        origin = settings.questions
        rows = read_rows(origin)
    questions = tuple(parse_all(origin, rows, OpenQuestion.from_row))
    twice = [id for id, count in Counter(question.id for question in questions).items() if count > 1]
    if twice:
        raise UserError(f"{origin}: the question_id {shown(twice[0])} occurs twice", "Give every question its own.")
    if settings.references is None:
        return with_references(questions, ()) if name == MT_BENCH else questions
    return with_references(questions, parse_all(settings.references, read_rows(settings.references), _references))


def _references(row: Row) -> ReferenceAnswer:
    """A row of FastChat's answer file."""
    try:
        return ReferenceAnswer.from_row(row)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RowError(
            "it is no answer in FastChat's format",
            'A row is {"question_id": 101, "choices": [{"index": 0, "turns": ["...", "..."]}]}.',
        ) from None
