"""Judgments as they are kept: a JSONL file a cell and judge, in FastChat's field names where it has them.

A judgment may have been paid for, so each is appended and flushed to the disk as it comes. A process killed in
mid-line leaves a torn last line, which is cut off before anything is added. Whoever judges again begins with what is
there: a judgment is known by set, question, turn, repeat, the very answers that it is of and the very prompt (or
reference answers) that the judge was given. Of two that differ in the last alone the later counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.open_questions import OpenQuestion
from bench.errors import UserError
from bench.evaluation.open_answers import answers_hash
from bench.hashing import short_hash
from bench.store.files import write_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One judgment that is wanted."""

    set: str
    question: OpenQuestion
    turn: int
    """Counted from 1, as FastChat does."""
    answers: tuple[str, ...]
    """Those to the turns up to this one."""
    model: str = ""
    """The cell's folder that gave the answers; in a check, what kind of answer it is."""
    repeat: int = 0
    blind: bool = False
    """The judge is shown no reference answer, even where it would be."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is known by."""
        return key_of(self.row())

    def row(self) -> Row:
        """What its judgment says of what was judged."""
        return {
            "set": self.set,
            "question_id": self.question.id,
            "category": self.question.category,
            "turn": self.turn,
            "model": self.model,
            "repeat": self.repeat,
            "answers": answers_hash(self.answers),
        }


@dataclass(frozen=True)
class Pair:
    """Two cells' answers to the same turn of the same question, in the order in which the judge is shown them."""

    first: Asked
    second: Asked
    game: int
    """1, or 2 for the other order of the same two."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is known by."""
        return key_of(self.row())

    def row(self) -> Row:
        """What its judgment says of what was compared."""
        return {
            **{name: self.first.row()[name] for name in ("set", "question_id", "category", "turn")},
            "game": self.game,
            "model_1": self.first.model,
            "model_2": self.second.model,
            "answers_1": answers_hash(self.first.answers),
            "answers_2": answers_hash(self.second.answers),
        }


IDENTIFYING = ("set", "question_id", "turn", "model", "repeat", "answers")
IDENTIFYING += ("game", "model_1", "model_2", "answers_1", "answers_2")


def key_of(row: Row) -> tuple[Any, ...]:
    """The key of what a judgment or a comparison is of."""
    return tuple(row.get(name) for name in IDENTIFYING)


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of the judgments of the same thing the last one each."""
    return list({key_of(row): row for row in rows}.values())


@dataclass(frozen=True)
class JudgeIdentity:
    """Which judge: all that changes what it would say."""

    kind: str
    """`reference` or `openai`."""
    name: str
    """As tables have it."""
    scale: tuple[float, float]
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """The name with 8 hex digits of all that the judge is; names its files."""
        content = json.dumps([self.kind, self.name, self.scale, self.settings], sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.name)
        return f"{name}-{short_hash(content, digits=8)}"

    def record(self) -> dict[str, Any]:
        """As judge.json holds it."""
        return {"kind": self.kind, "name": self.name, "scale": list(self.scale), "settings": self.settings}

    @classmethod
    def of(cls, record: dict[str, Any]) -> JudgeIdentity:
        """Raises KeyError for a record that is none."""
        return cls(record["kind"], record["name"], tuple(record["scale"]), record["settings"])


def read_rows(path: Path) -> list[Row]:
    """The whole lines of a file of judgments; none where there is no file. Raises UserError for a line that is no
    judgment."""
    if not path.is_file():
        return []
    whole, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
    try:
        return [json.loads(line) for line in whole.split("\n") if line] if newline else []
    except ValueError as error:
        raise UserError(f"{path} cannot be believed: {error}", "Fix or remove the line; the rest stays.") from None


class Ledger:
    """A file of judgments that is added to. There is none until something is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = read_rows(path)
        self.known = {(key_of(row), row.get("prompt_hash")) for row in rows}
        if path.is_file():
            whole, newline, torn = path.read_bytes().rpartition(b"\n")
            if torn:
                with _file_errors_as_user_errors(path), path.open("r+b") as file:
                    file.truncate(len(whole) + len(newline))

    def lacks(self, asked: Asked | Pair, prompt_hash: str) -> bool:
        """Whether this judgment, by this prompt, is still wanted."""
        return (asked.key, prompt_hash) not in self.known

    def add(self, asked: Asked | Pair, found: Row) -> None:
        """Keep a judgment, on the disk before this returns. Raises UserError where it cannot be written."""
        line = json.dumps({**asked.row(), **found}, ensure_ascii=False) + "\n"
        with _file_errors_as_user_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Opened anew each time: a sweep has more cells than a process may have files open.
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        self.known.add((asked.key, found.get("prompt_hash")))

    def keep_only(self, wanted: Collection[tuple[tuple[Any, ...], str]]) -> None:
        """Remove what is none of these (key, prompt) pairs."""
        rows = read_rows(self.path)
        kept = [row for row in rows if (key_of(row), row.get("prompt_hash")) in wanted]
        if len(kept) < len(rows):
            write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
            self.known = {(key_of(row), row.get("prompt_hash")) for row in kept}


@contextmanager
def _file_errors_as_user_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some space; what was judged before is kept, and the same command goes on.",
        ) from error


def turns_of(set: str, question: OpenQuestion, answers: list[str], model: str) -> Iterator[Asked]:
    """The judgments that a question's answers call for, one a turn that is answered."""
    for turn in range(1, min(len(question.turns), len(answers)) + 1):
        yield Asked(set, question, turn, tuple(answers[:turn]), model)


def baseline_of(plan: dict[str, Any]) -> str:
    """The method that the others are set against: the sweep's choice, else LoRA, else its first."""
    methods = list(dict.fromkeys(one["method"] for one in plan["cells"] if one["method"] != "base"))
    return plan.get("report", {}).get("baseline") or ("lora" if "lora" in methods else [*methods, "base"][0])
