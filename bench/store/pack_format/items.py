"""items.parquet: the rows of all packed items files, every column with its type.

The columns `cell` and `file` say whose a row is, so that the file is useful by itself: pandas.read_parquet(path). Its
metadata hold where each file's rows are and what its columns were. A column that has another type in some files is
stored as `<name> 2` for these.

Letters: R rows of a row group, r rows of one items file.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.store.damage import IDENTITY, rows_identity
from bench.store.file_names import plain_name
from bench.store.files import writing
from bench.store.pack_format.decompress import inflate
from bench.store.pack_format.stamp import Stamp, corrupt, stamp, stamp_of
from bench.store.record_json import check_schema
from bench.store.records import SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa

CELL, FILE = "cell", "file"
METADATA = b"bench"
"""The key of the index among the metadata."""
ROWS_PER_GROUP = 65_536
"""At least as many rows are read at a time. Larger groups compress better, but reading one file takes longer."""
COMPRESSION_LEVEL = 19
"""Of zstd. Packing is rare; level 9 gives 5 % larger files."""

Answer = TypeVar("Answer")


class _Replaced(Exception):
    """The file was replaced between two looks at it."""


@dataclass(frozen=True)
class _Place:
    """Where the rows of one items file are."""

    group: int
    """The row group; a file is never split over two."""
    start: int
    """The first row within the group."""
    rows: int
    layout: int
    """Number of the file's layout."""


@dataclass(frozen=True)
class _Layout:
    """How the columns of an items file are stored."""

    schema: pa.Schema
    """The file's own, with the metadata from which pandas restores its types; whose rows it holds is left out, so that
    files alike share a layout."""
    stored: tuple[str, ...]
    """For each column of the file the stored column that holds it."""

    def restore(self, rows: pa.Table, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Those of the named columns that the file has, (r,) each, from its stored rows, (r, columns)."""
        import pyarrow as pa

        columns = {}
        for field, stored in zip(self.schema, self.stored, strict=True):
            if field.name in names:
                empty = pa.types.is_null(field.type)
                columns[field.name] = pa.chunked_array([pa.nulls(len(rows))]) if empty else rows[stored]
        return columns


@dataclass(frozen=True)
class _Index:
    """Which files items.parquet holds."""

    places: Mapping[str, Mapping[str, _Place]]
    """By cell and file name."""
    layouts: tuple[_Layout, ...]

    def stored(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The stored columns of the named ones; of all files, so that a group's next file finds them in the cache."""
        return tuple(
            dict.fromkeys(
                stored
                for layout in self.layouts
                for field, stored in zip(layout.schema, layout.stored, strict=True)
                if names is None or field.name in names
            )
        )


@dataclass(frozen=True)
class PackedItems:
    """One items.parquet. A missing file holds nothing.

    All methods raise UserError if the file is corrupt or a newer version wrote it.
    """

    path: Path

    def files(self, cell: str) -> list[str]:
        """The names of a cell's items files."""
        now = stamp(self.path)
        return [] if now is None else list(_index(self.path, now).places.get(cell, ()))

    def columns(self, cell: str, file: str, names: Sequence[str]) -> dict[str, pa.ChunkedArray] | None:
        """Those of the named columns that an items file has, (r,) each; None if the file is not packed."""

        def read(place: _Place, index: _Index, now: Stamp) -> dict[str, pa.ChunkedArray]:
            group = _group(self.path, now, place.group, index.stored(names))
            return index.layouts[place.layout].restore(group.slice(place.start, place.rows), names)

        return self._read(cell, file, read)

    def table(self, cell: str, file: str) -> pa.Table | None:
        """An items file as it was written, (r, columns); None if the file is not packed."""
        import pyarrow as pa

        def read(place: _Place, index: _Index, now: Stamp) -> pa.Table:
            group, layout = _group(self.path, now, place.group, index.stored()), index.layouts[place.layout]
            columns = layout.restore(group.slice(place.start, place.rows), layout.schema.names)
            schema = _with_identity(layout.schema, rows_identity(cell, file))
            return pa.table(list(columns.values()), schema=schema)

        return self._read(cell, file, read)

    def write(self, sources: Mapping[tuple[str, str], Callable[[], pa.Table]]) -> None:
        """Write the file atomically, and compare it with its sources before it replaces an earlier one.

        `sources`: for each cell and file a function that reads the table; the order is that of the rows.
        """
        schemas = {key: _with_identity(read().schema, b"") for key, read in sources.items()}
        layouts, types = _layouts(schemas.values())
        with writing(self.path) as temporary:
            _write(temporary, sources, schemas, layouts, types)
            written = PackedItems(temporary)
            for (cell, file), read in sources.items():
                table = written.table(cell, file)
                if table is None or not _same(table, read()):
                    raise corrupt(temporary, ValueError(f"the rows of {cell}/{file} were not written as they are"))

    def _read(self, cell: str, file: str, read: Callable[[_Place, _Index, Stamp], Answer]) -> Answer | None:
        while (now := stamp(self.path)) is not None:
            index = _index(self.path, now)
            place = index.places.get(cell, {}).get(file)
            if place is None:
                return None
            try:
                return read(place, index, now)
            except _Replaced:
                continue
        return None


def _with_identity(schema: pa.Schema, identity: bytes) -> pa.Schema:
    """The schema of an items file with another identity in its metadata, or as it is where it has none."""
    metadata = schema.metadata or {}
    return schema.with_metadata({**metadata, IDENTITY: identity}) if IDENTITY in metadata else schema


def _same(table: pa.Table, other: pa.Table) -> bool:
    """Whether two tables hold the same values, types and metadata. NaN equals NaN, which it does not in arrow."""
    return (
        table.schema.equals(other.schema, check_metadata=True)
        and len(table) == len(other)
        and all(
            left.equals(right) or repr(left.to_pylist()) == repr(right.to_pylist())
            for left, right in zip(table.columns, other.columns, strict=True)
        )
    )


# ---- reading


@lru_cache(maxsize=4)
def _index(path: Path, stamp: Stamp) -> _Index:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = json.loads(inflate(base64.b64decode(pq.read_metadata(path).metadata[METADATA])))
        check_schema(path, content["schema"])
        layouts = tuple(
            _Layout(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(layout["arrow"]))), tuple(layout["columns"]))
            for layout in content["layouts"]
        )
        places: dict[str, dict[str, _Place]] = {}
        for cell, file, *numbers in content["files"]:
            places.setdefault(plain_name(cell), {})[plain_name(file)] = _Place(*numbers)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise corrupt(path, error) from None
    return _Index(places, layouts)


@lru_cache(maxsize=2)
def _group(path: Path, stamp: Stamp, group: int, columns: tuple[str, ...]) -> pa.Table:
    """The named stored columns of a row group, (R, columns)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            if stamp_of(os.fstat(file.fileno())) != stamp:
                raise _Replaced
            with pq.ParquetFile(file, pre_buffer=False) as stored:
                if group == stored.num_row_groups:  # of the last files, none has rows
                    return stored.schema_arrow.empty_table().select(columns)
                return stored.read_row_group(group, list(columns), use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise corrupt(path, error) from None


# ---- writing


def _layouts(schemas: Iterable[pa.Schema]) -> tuple[list[_Layout], dict[str, pa.DataType]]:
    """A layout for each different schema, and the types of the stored columns."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {CELL: pa.string(), FILE: pa.string()}
    layouts: list[_Layout] = []
    for schema in schemas:
        if any(layout.schema.equals(schema, check_metadata=True) for layout in layouts):
            continue
        stored = []
        for field in schema:
            name = next(name for name in _names(field.name) if _fits(name, field.type, types))
            if name not in types or pa.types.is_null(types[name]):
                types[name] = field.type
            stored.append(name)
        layouts.append(_Layout(schema, tuple(stored)))
    return layouts, types


def _names(name: str) -> Iterator[str]:
    """The names that a column may be stored by."""
    if name not in (CELL, FILE):
        yield name
    yield from (f"{name} {number}" for number in count(2))


def _fits(name: str, type: pa.DataType, types: Mapping[str, pa.DataType]) -> bool:
    """Whether a stored column can hold values of a type; a column without values (null) fits everywhere."""
    import pyarrow as pa

    stored = types.get(name)
    return stored is None or stored.equals(type) or pa.types.is_null(type) or pa.types.is_null(stored)


def _write(
    path: Path,
    sources: Mapping[tuple[str, str], Callable[[], pa.Table]],
    schemas: Mapping[tuple[str, str], pa.Schema],
    layouts: Sequence[_Layout],
    types: Mapping[str, pa.DataType],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    places: dict[str, dict[str, _Place]] = {}
    schema = pa.schema(types.items())
    floats, others = _leaves(schema)
    # The bytes of floats compress to two thirds when they are stored by significance.
    encoding = {"column_encoding": dict.fromkeys(floats, "BYTE_STREAM_SPLIT"), "use_dictionary": others}
    group, rows, waiting = 0, 0, []
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=COMPRESSION_LEVEL, **encoding) as writer:
        for (cell, file), read in sources.items():
            table, full = read(), schemas[cell, file]
            number = next(n for n, layout in enumerate(layouts) if layout.schema.equals(full, check_metadata=True))
            places.setdefault(cell, {})[file] = _Place(group, rows, len(table), number)
            waiting.append(_stored(cell, file, table, layouts[number], schema))
            rows += len(table)
            if rows >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
                group, rows, waiting = group + 1, 0, []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=max(1, rows))
        writer.add_key_value_metadata({METADATA: _encoded(places, layouts)})


def _stored(cell: str, file: str, table: pa.Table, layout: _Layout, schema: pa.Schema) -> pa.Table:
    """The rows of an items file as they are stored, (r, stored columns)."""
    import pyarrow as pa

    given = dict(zip(layout.stored, table.columns, strict=True))
    given |= {CELL: pa.array([cell] * len(table), pa.string()), FILE: pa.array([file] * len(table), pa.string())}
    columns = [given.get(field.name) for field in schema]
    return pa.table(
        [
            pa.nulls(len(table), field.type) if column is None or pa.types.is_null(column.type) else column
            for field, column in zip(schema, columns, strict=True)
        ],
        schema=schema,
    )


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The paths of parquet's leaf columns: those of floats, and the others."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    columns = pq.ParquetFile(buffer).schema
    leaves = [columns.column(number) for number in range(len(columns))]
    floats = [leaf.path for leaf in leaves if leaf.physical_type in ("FLOAT", "DOUBLE")]
    return floats, [leaf.path for leaf in leaves if leaf.path not in floats]


def _encoded(places: Mapping[str, Mapping[str, _Place]], layouts: Iterable[_Layout]) -> bytes:
    content = {
        "schema": SCHEMA,
        "layouts": [
            {"columns": layout.stored, "arrow": base64.b64encode(layout.schema.serialize()).decode()}
            for layout in layouts
        ],
        "files": [
            [cell, file, place.group, place.start, place.rows, place.layout]
            for cell, files in places.items()
            for file, place in files.items()
        ],
    }
    # The footer of a parquet file is not compressed, and the metadata of pandas are long.
    return base64.b64encode(zlib.compress(json.dumps(content).encode(), 9))
