"""Reads the rows of a file: JSON, JSONL, CSV, TSV or parquet."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.data.files.json_rows import Unreadable, json_rows
from bench.errors import UserError, first_line

OTHER_KINDS = {
    ".xlsx": "Save it as CSV.",
    ".xls": "Save it as CSV.",
    ".gz": "Unpack it.",
    ".zip": "Unpack it.",
    ".zst": "Unpack it.",
    ".bz2": "Unpack it.",
    ".xz": "Unpack it.",
    ".arrow": "Save it as parquet: Dataset.to_parquet.",
    ".feather": "Save it as parquet.",
    ".pkl": "Save it as parquet or JSON.",
}
"""Endings of files that are not read, and what to do with them."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks. UTF-16's first is the beginning of UTF-32's: longer marks stand first."""
LONGEST_CELL = 100_000_000
"""Characters. The csv module refuses cells of more than 131,072 by default, which a passage may have."""


def read_rows(where: str | Path) -> Iterable[object]:
    """The rows of a file, in order, by its ending (`.csv`, `.tsv`, `.parquet`) or else as JSON or JSONL, whichever it
    is. A row that cannot be parsed is `Unreadable`.

    Raises UserError for a file that is missing or no such file; the rows themselves are not checked.
    """
    path = Path(where).expanduser()
    ending = path.suffix.lower()
    if ending in OTHER_KINDS:
        raise UserError(f"{path}: a file {ending} cannot be read", f"{OTHER_KINDS[ending]} {KINDS}")
    content = _read(path)
    if content[:4] == b"PAR1":
        return _parquet(content, path)
    text = _decoded(content, path)
    if ending in (".csv", ".tsv", ".tab"):
        return _csv(text, path, tab=ending != ".csv")
    if ending == ".parquet":
        raise UserError(f"{path} is no parquet file", KINDS)
    return json_rows(text, path, by_line=ending in (".jsonl", ".ndjson"))


KINDS = "Files may be .jsonl, .json, .csv, .tsv or .parquet."


def _csv(text: str, path: Path, tab: bool) -> Iterable[object]:
    """One dict per row, with the texts as the file has them. Not pandas, which takes cells beyond the header's for an
    index and fills up short rows without a word."""
    with _long_cells():
        rows = _csv_rows(text, tab)
    if not rows:
        return []
    header = rows[0]
    if isinstance(header, Unreadable):
        raise UserError(f"{path}: the header cannot be read: {header.reason}", "The first line names the columns.")
    names = [name.strip() or f"column {place}" for place, name in enumerate(header, start=1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path}: the header has {twice[0]!r} twice", "Give every column a name of its own.")
    return [
        row
        if isinstance(row, Unreadable)
        else dict(zip(names, row, strict=True))
        if len(row) == len(names)
        else Unreadable(f"it has {len(row)} cells, and the header {len(names)}")
        for row in rows[1:]
    ]


def _csv_rows(text: str, tab: bool) -> list[list[str] | Unreadable]:
    """The cells of each row. Where quotes or the names of the header have a space before them, a space behind each
    delimiter is a part of it, if all rows can be read so."""
    named = re.match(r"sep=([,;|\t])\r?\n", text)  # what a spreadsheet writes for itself
    text = text[named.end() :] if named else text
    delimiter = named[1] if named else "\t" if tab else _delimiter(text)
    rows = list(_csv_cells(text, delimiter))
    listed = [row for row in rows if isinstance(row, list)]
    in_header = bool(listed) and listed[0][1:] != [] and all(name.startswith(" ") for name in listed[0][1:])
    if not in_header and not any(cell.startswith(' "') for row in listed for cell in row):
        return rows
    unspaced = [row for row in _csv_cells(text, delimiter, skipinitialspace=True) if isinstance(row, list)]
    readable = len(unspaced) == len(rows) and len({len(row) for row in unspaced}) == 1
    return list(unspaced) if readable and (in_header or _have_lost_quotes(rows, unspaced)) else rows


def _have_lost_quotes(rows: Sequence[list[str] | Unreadable], unspaced: Sequence[list[str]]) -> bool:
    """Whether cells of `rows` have quotes that cells of `unspaced` have not, or the cells differ in number: a cell that
    begins with a space and a quote may be a text in quotes of its own."""
    return any(
        len(row) != len(cells) or any(now not in (cell, cell.lstrip(" ")) for cell, now in zip(row, cells, strict=True))
        for row, cells in zip(rows, unspaced, strict=True)
        if isinstance(row, list)
    )


def _csv_cells(text: str, delimiter: str, skipinitialspace: bool = False) -> Iterator[list[str] | Unreadable]:
    """The cells of each row that is not blank."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skipinitialspace, strict=True
    )
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unreadable(f"its quotes cannot be read ({error})")
            continue
        if any(cell.strip() for cell in row):
            yield row


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str) -> str:
    """A comma, unless the header has none and has semicolons or tabs, as spreadsheets write them in some countries, or
    bars."""
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return next((mark for mark in ",;\t|" if mark in header), ",")


def _parquet(content: bytes, path: Path) -> Iterable[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[object] = pq.read_table(pa.BufferReader(content)).to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no parquet file that can be read: {first_line(error)}", KINDS) from None
    return rows


def _decoded(content: bytes, path: Path) -> str:
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None) or _unmarked(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not {encoding} text: byte 0x{content[error.start]:02x} in line {line}", "Save it as UTF-8."
        ) from None


def _unmarked(content: bytes) -> str:
    """The encoding of a file without a mark. UTF-16 shows by its zeros: a file of rows begins with a letter or a
    bracket, and none has a null character there."""
    first, second = (byte == 0 for byte in content[:2].ljust(2, b"?"))
    return {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get((first, second), "utf-8")


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is no regular file", f"Give a file. {KINDS}")
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else path.parent.parent
        names = sorted(child.name for child in folder.iterdir())[:20] if folder.is_dir() else []
        raise UserError(f"there is no data file {path}", f"{folder} holds: {', '.join(names) or 'nothing'}.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", f"Give a file. {KINDS}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}", KINDS) from None
