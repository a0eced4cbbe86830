"""Rows that cannot be read: what is wrong with each, collected into one error that counts them and names the first."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bench.data.files.json_rows import Row, Unreadable
from bench.errors import UserError

NAMED = 3
"""Bad rows that an error names; it counts the others."""
T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3
_SHORT.maxdict = 6


class RowError(ValueError):
    """What is wrong with a row, and how to fix it where that is not plain."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read."""

    number: int
    """From 1, in the order of the origin; blank lines and a header do not count."""
    reason: str
    fix: str


def shown(value: object) -> str:
    """A value of a row, shortened: a row may hold anything, of any length and depth."""
    return _SHORT.repr(value)


def names_shown(names: Iterable[str], most: int = 20) -> str:
    """Column names for a message."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(map(shown, listed[:most])) or "none") + rest


def parse_each(
    rows: Iterable[tuple[int, object]], parse: Callable[[Row], T]
) -> tuple[list[tuple[int, T]], list[BadRow]]:
    """`parse` of each numbered row, and the rows for which it raises."""
    good: list[tuple[int, T]] = []
    bad: list[BadRow] = []
    for number, row in rows:
        try:
            good.append((number, parse(_as_object(row))))
        except KeyError as error:
            bad.append(BadRow(number, f"no column {error}", ""))
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            bad.append(BadRow(number, str(error), error.fix if isinstance(error, RowError) else ""))
    return good, bad


def refuse(origin: object, bad: Iterable[BadRow], total: int, if_all: str = "") -> None:
    """Raise a UserError that names the first bad rows and says how many there are, if there are any; `if_all` is
    another fix, for rows that are all bad."""
    ordered = sorted(bad, key=lambda row: row.number)
    if not ordered:
        return
    named = "; ".join(f"row {row.number}: {row.reason}" for row in ordered[:NAMED])
    count = f"; {len(ordered):,} of {total:,} rows are bad" if len(ordered) > 1 else ""
    fix = next(
        (row.fix for row in ordered if row.fix), "Fix or remove the row." if not count else "Fix or remove them."
    )
    other = f" {if_all}" if if_all and len(ordered) == total else ""
    raise UserError(f"{origin}, {named}{count}", f"{fix}{other} Nothing was started.")


def parse_all(origin: object, rows: Iterable[object], parse: Callable[[Row], T]) -> list[T]:
    """`parse` of each row. Raises UserError, naming the origin, if any row is bad."""
    numbered = list(enumerate(rows, start=1))
    good, bad = parse_each(numbered, parse)
    refuse(origin, bad, len(numbered))
    return [parsed for _, parsed in good]


def _as_object(row: object) -> Row:
    if isinstance(row, Unreadable):
        raise RowError(row.reason)
    if not isinstance(row, dict):
        raise RowError(f"it is no object but {shown(row)}")
    return row
