"""Files of judgments: JSONL, one judgment a line, and the records of the judge beside them. Nothing else reads or
writes them.

Judgments may have been paid for, so each is appended and flushed to the disk as it arrives. A process that is killed
while it writes leaves an incomplete last line: readers ignore it, and the next append removes it first. A run on what
is there asks for missing judgments only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from pydantic import JsonValue, ValidationError

from bench.errors import UserError, first_line
from bench.judging.judgment_records import (
    AnswersToCompare,
    AnswerToRate,
    CheckRecord,
    JudgmentKey,
    JudgmentType,
    ModelRating,
    PairwiseVerdict,
    Rating,
    SimilarityRating,
)
from bench.store.damage import SET_ASIDE, CorruptFile
from bench.store.files import write_bytes, write_json, write_text
from bench.store.folder import CellFolder, Results
from bench.store.judge_record import JudgeRecord
from bench.store.record_json import content_of, parse_stored_json, read_record
from bench.sweep.schema import describe

UNDECODABLE = "surrogateescape"
"""How bytes that are no UTF-8 are read, so that they can be written again as they were."""


@dataclass
class ReadJudgments(Generic[JudgmentType]):
    """The lines of a file of judgments."""

    judgments: list[JudgmentType]
    corrupt: dict[str, str]
    """The lines that are no judgments, with the reason."""


@dataclass(frozen=True)
class JudgmentFile(Generic[JudgmentType]):
    """A file of judgments in a cell's or a sweep's folder, loose or packed."""

    folder: CellFolder | Results
    name: str
    """Relative to the folder."""
    parse: Callable[[JsonValue], JudgmentType]

    @property
    def path(self) -> Path:
        """The loose file; it may be missing."""
        return self.folder.path / self.name

    def text(self) -> str:
        """The complete lines of the file; empty where there is no file."""
        return self.folder.read_text(self.name) or ""

    def read(self) -> list[JudgmentType]:
        """All judgments, in the file's order, without lines that are none."""
        return self.read_lines().judgments

    def read_lines(self) -> ReadJudgments[JudgmentType]:
        """All judgments, in the file's order, and the lines that are none."""
        try:
            text = self.text()
        except CorruptFile:  # bytes that are no text, which cost only their own lines
            content = self.path.read_bytes()
            text = content[: content.rfind(b"\n") + 1].decode(errors=UNDECODABLE)
        read: ReadJudgments[JudgmentType] = ReadJudgments([], {})
        for number, line in enumerate(text.split("\n"), start=1):
            if not line:
                continue
            try:
                line.encode()  # fails for what stands for a byte that is no text
                read.judgments.append(self.parse(parse_stored_json(line)))
            except (ValueError, TypeError, RecursionError) as error:
                reason = describe(error).split("; ")[0] if isinstance(error, ValidationError) else first_line(error)
                read.corrupt[line] = f"line {number}: {reason}"
        return read

    def problems(self) -> list[str]:
        """A sentence if the file has corrupt lines."""
        corrupt = list(self.read_lines().corrupt.values())
        more = f", and {len(corrupt) - 1} more" if len(corrupt) > 1 else ""
        sentence = f"{self.path} is corrupt: {corrupt[0]}{more}; the other judgments count" if corrupt else ""
        return [sentence] if sentence else []

    def write(self, judgments: Iterable[JudgmentType]) -> None:
        """Replace the whole file."""
        write_text(self.path, "".join(map(line_of, judgments)))


def line_of(judgment: Rating | PairwiseVerdict) -> str:
    """A judgment as a line of its file."""
    return json.dumps(judgment.model_dump(mode="json"), ensure_ascii=False) + "\n"


def _parse_rating(content: JsonValue) -> Rating:
    kind = ModelRating if isinstance(content, dict) and "judgment" in content else SimilarityRating
    return kind.model_validate(content)


def cell_ratings(cell: CellFolder, judge: str) -> JudgmentFile[Rating]:
    """A judge's ratings of a cell's answers; `judge` is the judge's label."""
    return JudgmentFile(cell, f"judgments/{judge}.jsonl", _parse_rating)


def check_ratings(results: Results, judge: str) -> JudgmentFile[Rating]:
    """The ratings of the check of a judge."""
    return JudgmentFile(results, f"judges/{judge}/check.jsonl", _parse_rating)


def pairwise_verdicts(results: Results, judge: str) -> JudgmentFile[PairwiseVerdict]:
    """A judge's comparisons of two answers."""
    return JudgmentFile(results, f"judges/{judge}/pairs.jsonl", PairwiseVerdict.model_validate)


class Ledger(Generic[JudgmentType]):
    """Appends to a file of judgments. The first judgment creates the file. Raises UserError for a symbolic link."""

    def __init__(self, file: JudgmentFile[JudgmentType]) -> None:
        self.file = file
        if file.path.is_symlink():  # before a judgment is paid for
            raise UserError(
                f"{file.path} is a symbolic link, and judgments are appended to no file elsewhere",
                "Put the file itself in its place.",
            )
        self.present = {(judgment.key, judgment.prompt_hash) for judgment in file.read()}
        self.appendable = False
        """The loose file has been checked: it is complete, or there is none and none is packed."""

    def lacks(self, wanted: AnswerToRate | AnswersToCompare, prompt_hash: str) -> bool:
        """True if this judgment by this prompt is missing."""
        return (wanted.key, prompt_hash) not in self.present

    def add(self, judgment: JudgmentType) -> None:
        """Append a judgment; it is on the disk when this returns. Raises UserError where it cannot be written."""
        path = self.file.path
        with _writing(path):
            if not self.appendable or not path.is_file():  # packing may have taken the file meanwhile
                self._prepare()
                self.appendable = True
            path.parent.mkdir(parents=True, exist_ok=True)
            # Opened for each judgment: a sweep has more cells than a process may have open files.
            with path.open("ab") as file:
                file.write(line_of(judgment).encode())
                file.flush()
                os.fsync(file.fileno())
        self.present.add((judgment.key, judgment.prompt_hash))

    def _prepare(self) -> None:
        """Remove an incomplete last line of the loose file, or create the loose file from the packed one. Corrupt lines
        are moved to a file beside it."""
        self._set_aside_corrupt_lines()
        path = self.file.path
        if not path.is_file():
            if packed := self.file.text():
                write_text(path, packed)
            return
        complete, newline, incomplete = path.read_bytes().rpartition(b"\n")
        if incomplete:
            with path.open("r+b") as file:
                file.truncate(len(complete) + len(newline))

    def _set_aside_corrupt_lines(self) -> None:
        read, path = self.file.read_lines(), self.file.path
        if read.corrupt:
            beside = path.with_name(f"{path.stem}{SET_ASIDE}{path.suffix}")
            before = beside.read_bytes() if beside.is_file() else b""
            lines = "".join(f"{line}\n" for line in read.corrupt)
            write_bytes(beside, before + lines.encode(errors=UNDECODABLE))
            self.file.write(read.judgments)

    def keep_only(self, wanted: Collection[tuple[JudgmentKey, str]]) -> None:
        """Remove all judgments but those with one of these keys and prompt hashes; corrupt lines are moved beside."""
        self._set_aside_corrupt_lines()
        judgments = self.file.read()
        kept = [judgment for judgment in judgments if (judgment.key, judgment.prompt_hash) in wanted]
        if len(kept) < len(judgments):
            self.file.write(kept)
            self.present = {(judgment.key, judgment.prompt_hash) for judgment in kept}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some disk space; finished judgments are kept, run the same command to resume.",
        ) from error


def write_judge(results: Results, judge: JudgeRecord) -> None:
    """Write judge.json."""
    write_json(results.judge(judge.label) / "judge.json", content_of(judge))


def read_judge(results: Results, label: str) -> JudgeRecord:
    """The judge of a label of `Results.judges`. Raises UserError for a file that is missing, corrupt or newer."""
    name = f"judges/{label}/judge.json"
    fix = "Restore it, or judge again."
    judge = read_record(results.path / name, results.read_text(name), JudgeRecord, fix)
    if judge is None:
        raise UserError(f"{results.path / name} is missing", fix)
    if judge.label != label:
        raise CorruptFile(results.path / name, f"it is of another judge, {judge.label}", fix)
    return judge


def write_check_counts(results: Results, label: str, wanted: dict[str, int]) -> None:
    """Write check.json: how many judgments the check of a judge takes, by set of questions."""
    write_json(results.judge(label) / "check.json", content_of(CheckRecord(wanted=wanted)))


def read_check_counts(results: Results, label: str) -> dict[str, int]:
    """How many judgments the check of a judge takes, by set of questions; empty for a judge that was not checked.

    Raises CorruptFile."""
    name = f"judges/{label}/check.json"
    check = read_record(results.path / name, results.read_text(name), CheckRecord)
    return {} if check is None else check.wanted
