"""A user's data set: its files are read, the columns guessed where the sweep names none, and every row parsed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bench.data import hub
from bench.data.examples import TrainingRow
from bench.data.files.bad_rows import BadRow, RowError, names_shown, parse_each, refuse
from bench.data.files.row_files import read_rows
from bench.data.files.row_values import has_column
from bench.data.questions import Question
from bench.data.user.columns import Columns, as_columns, column_names, guess_columns, unread_columns
from bench.data.user.labels import LabelRules, decide
from bench.data.user.user_rows import ReadRow, UnlabelledQuestion, has_answer, row_reader
from bench.errors import UserError
from bench.sweep.sections import OwnSet

OPTIONAL = ("input", "system")
"""Parts of an instruction or a chat that a row may lack, but not every row."""


@dataclass(frozen=True)
class UserSet:
    """The rows of a user's set, and how they were read."""

    train: tuple[TrainingRow, ...]
    test: tuple[Question, ...]
    settings: OwnSet
    """With the columns that were used."""
    reading: str
    """How the columns and labels were read, for the plan."""


@dataclass(frozen=True)
class _File:
    """The rows of one split."""

    origin: str
    rows: list[object]
    read: list[tuple[int, ReadRow]]
    bad: list[BadRow]


def load_user_set(name: str, settings: OwnSet, splits: Collection[str]) -> UserSet:
    """The set `name`: of `splits` (train, test) those that it has.

    Raises UserError, naming file, rows and columns, for a set that cannot be read.
    """
    raw = {
        split: (_origin(settings, where), [as_columns(row) for row in _rows(settings, where)])
        for split, where in (("train", settings.train), ("test", settings.test))
        if split in splits and where is not None
    }
    if not raw:
        missing = "test" if "train" not in splits else "train"
        raise UserError(f"data set {name} has no {missing!r}", f"Give data.sets.{name}.{missing}: a file or hub split.")
    columns: Columns = dict(settings.columns)
    for origin, rows in raw.values():
        if not rows:
            raise UserError(f"the data set {name} is empty: {origin} has no rows", "Give a file with rows.")
        if not any(isinstance(row, dict) for row in rows):
            refuse(origin, parse_each(enumerate(rows, start=1), dict)[1], len(rows))
        columns = columns or guess_columns(name, origin, rows)
    if "question" not in columns and "test" in raw:
        raise UserError(
            f"data.sets.{name}.test cannot be scored: {', '.join(columns)} are no questions with choices",
            f"Remove data.sets.{name}.test; `answers` asks open questions (docs/judging.md).",
        )
    _check_choices(name, columns, raw.values())
    files = {split: _parse(name, columns, origin, rows) for split, (origin, rows) in raw.items()}
    rules = _label_rules(name, settings, files.values())
    mapped = "" if settings.columns else f"Or say which column is what: data.sets.{name}.columns."
    parsed = {split: _with_labels(name, file, rules, mapped) for split, file in files.items()}
    kept = {split: tuple(row for row in rows if has_answer(row)) for split, rows in parsed.items()}
    for split, split_rows in kept.items():
        if not split_rows:
            raise UserError(
                f"{files[split].origin}: the answer of every row is empty", "Map the column of the answers."
            )
    left_out = sum(len(parsed[split]) - len(kept[split]) for split in kept)
    return UserSet(
        train=kept.get("train", ()),
        test=tuple(row for row in kept.get("test", ()) if isinstance(row, Question)),
        settings=settings.model_copy(update={"columns": columns}),
        reading=_reading(settings, columns, files.values(), rules, left_out),
    )


def _origin(settings: OwnSet, where: str) -> str:
    return f"{settings.hub}:{where}" if settings.hub else where


def _rows(settings: OwnSet, where: str) -> Iterable[object]:
    return hub.hub_rows(settings.hub, settings.config, settings.revision, where) if settings.hub else read_rows(where)


def _parse(name: str, columns: Columns, origin: str, rows: list[object]) -> _File:
    for part in OPTIONAL:
        column = columns.get(part)
        if isinstance(column, str) and not any(isinstance(row, dict) and has_column(row, column) for row in rows):
            raise UserError(
                f"{origin}: no row has the column {column!r}; they have {names_shown(column_names(rows))}",
                f"Correct data.sets.{name}.columns.{part}, or leave it out.",
            )
    good, bad = parse_each(enumerate(rows, start=1), row_reader(name, columns))
    return _File(origin, rows, good, bad)


def _check_choices(name: str, columns: Columns, files: Iterable[tuple[str, list[object]]]) -> None:
    """Raises UserError for a column of choices that no row has: a row alone may lack it."""
    choices = columns.get("choices")
    listed = list(files)
    rows = [row for _, rows in listed for row in rows if isinstance(row, dict)]
    for column in choices if isinstance(choices, list) else ():
        if not any(has_column(row, column) for row in rows):
            raise UserError(
                f"{listed[0][0]}: no row has the column {column!r}; they have {names_shown(column_names(rows))}",
                f"Correct data.sets.{name}.columns.choices.",
            )


def _drafts(files: Iterable[_File]) -> list[UnlabelledQuestion]:
    return [row for file in files for _, row in file.read if isinstance(row, UnlabelledQuestion)]


def _label_rules(name: str, settings: OwnSet, files: Iterable[_File]) -> LabelRules:
    """How labels are read: alike in training and test rows."""
    try:
        return decide(name, [draft.label for draft in _drafts(files)], settings.label_from)
    except UserError:
        for file in files:
            refuse(file.origin, file.bad, len(file.rows))  # they come first: without them it may be plain
        raise


def _with_labels(name: str, file: _File, rules: LabelRules, if_all_bad: str) -> list[TrainingRow]:
    """The rows of a file. Raises UserError if any is bad."""
    rows: list[TrainingRow] = []
    bad = list(file.bad)
    for number, row in file.read:
        try:
            rows.append(row.question(name, rules) if isinstance(row, UnlabelledQuestion) else row)
        except RowError as error:
            bad.append(BadRow(number, str(error), error.fix))
    refuse(file.origin, bad, len(file.rows), if_all_bad)
    return rows


def _reading(settings: OwnSet, columns: Columns, files: Iterable[_File], rules: LabelRules, left_out: int) -> str:
    named = ", ".join(
        f"{part} from {' and '.join(map(repr, column if isinstance(column, list) else [column]))}"
        for part, column in columns.items()
    )
    parts = [named if settings.columns else f"{named} (guessed from the names of the columns)"]
    kinds = {draft.label.kind for draft in _drafts(files)}
    if "number" in kinds:
        parts.append(f"a numeric label is {rules.number}")
    rows = [row for file in files for row in file.rows if isinstance(row, dict)]
    if unread := unread_columns(columns, rows):
        parts.append(f"columns not read: {names_shown(unread)}")
    if left_out:
        parts.append(f"{left_out:,} rows left out because their answer is empty")
    return "; ".join(parts)
