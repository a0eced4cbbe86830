"""`bench pack` and `bench unpack`: the many small files of a sweep's cells as two files, and back.

Packed are the records, answers, judgments and items of each cell. Adapters, work folders, logs and the files of judges
stay as they are. A kill at any moment loses nothing: the new pack is written atomically and compared with the loose
files, and only then are these removed, each cell's cell.json first, since a cell with a loose cell.json is read from
its loose files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.store.damage import SET_ASIDE, CorruptFile, check_identity, reason_of
from bench.store.folder import CellFolder, Results
from bench.store.locks import PACK, holding, locked_names
from bench.store.pack_format.stamp import Stamp, corrupt, stamp
from bench.store.pack_format.texts import PackedTexts
from bench.store.plan_lock import PlanUser
from bench.store.record_json import parse_cell, parse_record
from bench.store.records import CellRecord, EnvironmentRecord

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("*.json", "*.jsonl", "answers/*.jsonl", "judgments/*.jsonl")
ROWS = "items/*.parquet"


@dataclass(frozen=True)
class Packed:
    """What `pack` did."""

    added: int
    """Cells whose loose files are in the pack now and are removed."""
    cells: int
    """All cells of the pack."""
    files: int
    """All files of the pack."""
    size: int
    """Bytes of the pack."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Cells that stay loose, with the reason."""


@dataclass(frozen=True)
class _Loose:
    """The loose files of a cell, as they were read."""

    texts: Mapping[str, str]
    """By name within the cell's folder."""
    items: Mapping[str, Stamp | None]
    """By file name, what changes when the file does."""
    beside: bool = False
    """The cell is packed, and these files were written beside it, or left by a kill while they were removed."""


def pack(results: Results) -> Packed:
    """Add the loose cells of a results folder to its pack. A cell with a corrupt file stays loose.

    Raises UserError if the folder is in use or holds no cells, and if an existing pack is corrupt.
    """
    with _alone(results, "pack"):
        old = results.pack
        loose, left = _read_loose(results)
        cells = {cell: dict(old.texts(cell)) for cell in old.cells()}
        for cell, files in loose.items():
            cells[cell] = {**(cells[cell] if files.beside else {}), **files.texts}
        if not cells and not left:
            raise UserError(f"{results.path} has no cells to pack", "Give results/<sweep name>.")
        if loose:
            _write_items(results, cells, loose)
            _write_texts(old.records, cells)
            for cell, files in loose.items():
                if not _remove(results, cell, files):
                    left[cell] = "another process began to work on it meanwhile"
        return Packed(
            added=len(loose.keys() - left.keys()),
            cells=len(cells),
            files=sum(len(texts) + len(old.items.files(cell)) for cell, texts in cells.items()),
            size=sum(path.stat().st_size for path in pack_files(results) if path.is_file()),
            left=left,
        )


def unpack(results: Results) -> int:
    """Write the files of all packed cells and remove the pack; returns the number of its cells. Loose files stay.

    Raises UserError if the folder is in use, and if the pack is corrupt.
    """
    with _alone(results, "unpack"):
        cells = results.pack.cells()
        for cell in cells:
            CellFolder(results.path / "cells" / cell).make_loose()
        for path in pack_files(results):
            path.unlink(missing_ok=True)
        for path in results.pack.path.glob(".*"):  # left by a process that was killed while it packed
            path.unlink()
        _remove_if_empty(results.pack.path)
        return len(cells)


def pack_files(results: Results) -> list[Path]:
    """The files of a pack, whether or not they are there."""
    return [results.pack.items.path, results.pack.records.path]


@contextmanager
def _alone(results: Results, command: str) -> Iterator[None]:
    """Hold the lock of packing while no other process holds any lock of the folder."""
    if not (results.path / "cells").is_dir() and not results.pack.path.is_dir():
        raise UserError(f"{results.path} is no results folder: it has no cells", "Give results/<sweep name>.")
    with holding(results, PACK) as held:
        busy = [] if held else [PACK]
        for name in locked_names(results) if held else ():
            if name != PACK:
                with holding(results, name) as free:
                    busy += [] if free else [str(PlanUser.of(name) or name)]
        if busy:
            raise UserError(
                f"cannot {command} {results.path}: another process works on it ({', '.join(busy[:3])})",
                "Wait until it has ended, or stop it, and run the same command again.",
            )
        yield


def _read_loose(results: Results) -> tuple[dict[str, _Loose], dict[str, str]]:
    """The loose files of each cell that can be packed, and for the others the reason why not."""
    loose: dict[str, _Loose] = {}
    left: dict[str, str] = {}
    packed = set(results.pack.cells())
    for folder in sorted((results.path / "cells").glob("*/")):
        cell, complete = folder.name, (folder / "cell.json").is_file()
        if not complete and cell not in packed:
            continue
        try:
            files = _read_cell(folder)
        except UserError as error:
            left[cell] = error.problem
            continue
        if complete:
            loose[cell] = files
        elif files.texts or files.items:
            loose[cell] = replace(files, beside=True)
    return loose, left


def _read_cell(folder: Path) -> _Loose:
    """The files of a cell. Raises UserError if one is corrupt or was written by a newer version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts: dict[str, str] = {}
    for path in _files(folder, TEXTS):
        try:
            texts[path.relative_to(folder).as_posix()] = path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise CorruptFile(path, reason_of(path, error)) from None
    checks: dict[str, Callable[[Path, str], object]] = {
        "cell.json": parse_cell,
        "metrics.json": lambda path, text: parse_record(path, text, CellRecord),
        "environment.json": lambda path, text: parse_record(path, text, EnvironmentRecord),
    }
    for name, check in checks.items():
        if name in texts:
            check(folder / name, texts[name])
    items: dict[str, Stamp | None] = {}
    for path in _files(folder, (ROWS,)):
        items[path.name] = stamp(path)
        try:
            check_identity(path, pq.read_table(path, use_threads=False).schema.metadata)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise CorruptFile(path, reason_of(path, error)) from None
    return _Loose(texts, items)


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of a cell that are packed: without incomplete ones, and those that were set aside."""
    return [
        path
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file() and SET_ASIDE not in path.name and not path.name.startswith(".")
    ]


def _write_items(results: Results, cells: Iterable[str], loose: Mapping[str, _Loose]) -> None:
    """Write the rows of these cells: of the loose files where there are any, else of the old pack."""
    import pyarrow.parquet as pq

    def source(cell: str, file: str) -> Callable[[], pa.Table]:
        if cell in loose and file in loose[cell].items:
            return lambda: pq.read_table(results.path / "cells" / cell / "items" / file, use_threads=False)
        return lambda: results.pack.items.table(cell, file)

    files = {
        cell: {
            *(loose[cell].items if cell in loose else ()),
            *(results.pack.items.files(cell) if cell not in loose or loose[cell].beside else ()),
        }
        for cell in cells
    }
    sources = {(cell, file): source(cell, file) for cell in sorted(files) for file in sorted(files[cell])}
    if sources:
        results.pack.items.write(sources)


def _write_texts(target: PackedTexts, cells: Mapping[str, Mapping[str, str]]) -> None:
    """Write the texts of these cells, once a trial has come back as it was."""
    trial = PackedTexts(target.path.with_name(f".{target.path.name}.trial"))
    try:
        trial.write(cells)
        if trial.read() != cells:
            raise corrupt(trial.path, ValueError("the records were not written as they are"))
        trial.path.replace(target.path)
    finally:
        trial.path.unlink(missing_ok=True)


def _remove(results: Results, cell: str, files: _Loose) -> bool:
    """Remove the loose files of a packed cell; False, changing nothing, if they are in use or have changed."""
    folder = results.path / "cells" / cell
    with holding(results, cell) as held:
        if not held or _changed(folder, files):
            return False
        for name in sorted(files.texts, key=lambda name: (name != "cell.json", name)):
            (folder / name).unlink()
        for name in files.items:
            (folder / "items" / name).unlink()
        for path in (*(folder / name for name in ("items", "answers", "judgments")), folder, folder.parent):
            _remove_if_empty(path)
    return True


def _changed(folder: Path, files: _Loose) -> bool:
    try:
        return any((folder / name).read_bytes() != text.encode() for name, text in files.texts.items()) or any(
            stamp(folder / "items" / name) != before for name, before in files.items.items()
        )
    except OSError:
        return True


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
