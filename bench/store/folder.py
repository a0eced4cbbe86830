"""The results folder: what is where. All files are written atomically.

    results/<sweep>/sweep.yaml                          the sweep as it was resolved
    results/<sweep>/plan.json                           its cells, for the report to count against
    results/<sweep>/looks.json                          of a sweep with `decide`: what each look decided
    results/<sweep>/cells/<name>-<hash8>/
        cell.json         the training cell, no default left implicit
        metrics.json      status, costs, and per evaluation its scores
        training.jsonl    one line per logging step
        items/<task>@<protocol>-<hash8>.parquet         one row per question
        answers/<set>-<hash8>.jsonl                     open answers, in FastChat's format
        judgments/<judge>-<hash8>.jsonl                 judgments of the answers
        environment.json  versions, commit, device, fingerprints
        adapter/          safetensors; not committed to git
    results/<sweep>/packed/                             the files of packed cells (`bench pack`), adapters excepted
    results/<sweep>/judges/<judge>-<hash8>/             judge.json, the judge's check and pairwise comparisons
    results/<sweep>/report/
    results/<sweep>/questions/                          open questions, texts of others; not committed to git
    results/<sweep>/sweep.log, locks/, calibration/     of running; not committed to git

A process that is killed at any moment leaves each file complete or absent: a file is written under a temporary name in
its own folder, flushed to the disk and renamed.

A cell is read alike from its own folder and from the pack. A loose file wins over a packed one, and a cell with a loose
cell.json is read from its loose files alone. Whoever changes a packed cell makes it loose first (`make_loose`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from bench.errors import UserError
from bench.store import damage, pack_format
from bench.store.damage import CorruptFile
from bench.store.file_names import check_within
from bench.store.files import write_bytes, write_json, write_text, writing, writing_folder
from bench.store.look_records import LooksRecord, plan_after
from bench.store.pack_format import Pack
from bench.store.record_json import (
    content_of,
    content_of_cell,
    parse_cell,
    parse_record,
    read_record,
)
from bench.store.records import CellRecord, EnvironmentRecord, PlanRecord, TrainingLogRow
from bench.sweep.cell import Cell
from bench.sweep.yaml12 import dump_yaml

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class CellFolder:
    """One cell's folder."""

    path: Path

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def work(self) -> Path:
        """Scratch space of a running training; emptied before and after."""
        return self.path / "work"

    @property
    def pack(self) -> Pack:
        """The pack of the cell's sweep; the cell may be in it or not."""
        return Pack(self.path.parent.parent / pack_format.FOLDER)

    @property
    def is_loose(self) -> bool:
        """Whether the cell has its own files, from which alone it is then read."""
        return (self.path / "cell.json").is_file()

    def exists(self) -> bool:
        """Whether the cell was ever begun."""
        return self.is_loose or "cell.json" in self.pack.texts(self.path.name)

    def read_text(self, name: str) -> str | None:
        """A text file of the cell, such as "metrics.json" or "answers/<file>"; None if there is none."""
        text = _text(self.path / name)
        if text is None and not self.is_loose:
            return self.pack.texts(self.path.name).get(name)
        return text

    def make_loose(self) -> None:
        """Write the files of a packed cell into its folder, so that they can be changed; nothing if it is loose.

        Whoever calls it holds the cell's lock. cell.json comes last: after a kill the cell still counts as packed.
        Raises UserError where a link leads out of the results folder: the pack says how the files are called there.
        """
        if self.is_loose:
            return
        import pyarrow.parquet as pq

        texts, items = self.pack.texts(self.path.name), self.pack.items.files(self.path.name)
        check_within(self.path.parent.parent, [self.path / name for name in (*texts, *(f"items/{f}" for f in items))])
        for file in items:
            if not (self.path / "items" / file).is_file():
                with writing(self.path / "items" / file) as temporary:
                    pq.write_table(self.pack.items.table(self.path.name, file), temporary)
        for name in sorted(texts, key=lambda name: (name == "cell.json", name)):
            if not (self.path / name).is_file():
                write_bytes(self.path / name, texts[name].encode())

    def cell(self) -> Cell:
        """The cell as it was resolved. Raises UserError if it was never begun, and as `record` does."""
        text = self.read_text("cell.json")
        if text is None:
            raise UserError(f"{self.path} is not a cell's folder: it has no cell.json", "Give a folder of cells/.")
        return parse_cell(self.path / "cell.json", text)

    def write_cell(self, cell: Cell) -> None:
        write_json(self.path / "cell.json", content_of_cell(cell))

    def record(self) -> CellRecord:
        """What the cell came to so far; an empty record where nothing is written yet.

        Raises CorruptFile, and NewerSchema for a file that a newer version wrote.
        """
        return read_record(self.path / "metrics.json", self.read_text("metrics.json"), CellRecord) or CellRecord()

    def write_record(self, record: CellRecord) -> None:
        write_json(self.path / "metrics.json", content_of(record))

    def environment(self) -> EnvironmentRecord | None:
        """What the cell was run with; None where that is not recorded. Raises UserError as `record` does."""
        return read_record(self.path / "environment.json", self.read_text("environment.json"), EnvironmentRecord)

    def write_environment(self, environment: EnvironmentRecord) -> None:
        write_json(self.path / "environment.json", content_of(environment))

    def training_log(self) -> list[TrainingLogRow]:
        """The lines of training.jsonl, without an incomplete last line, which a killed process leaves. Raises UserError
        for a line that is corrupt."""
        text = self.read_text("training.jsonl") or ""
        path = self.path / "training.jsonl"
        return [parse_record(path, line, TrainingLogRow) for line in text.split("\n")[:-1] if line]

    def set_aside(self, name: str) -> None:
        """Rename a damaged file of the cell ("metrics.json", "items/<file>"), so that it is made anew; a packed cell is
        made loose before. Whoever calls it holds the cell's lock."""
        self.make_loose()
        damage.set_aside(self.path / name)

    def items(self, file: str) -> pd.DataFrame | None:
        """The rows of an evaluation; None if they are missing. Raises CorruptFile and CorruptPack."""
        path = self.path / "items" / file
        if path.is_file():
            with _reading(path):
                import pyarrow.parquet as pq

                table = pq.read_table(path)
                damage.check_identity(path, table.schema.metadata)
                return table.to_pandas()
        packed = None if self.is_loose else self.pack.items.table(self.path.name, file)
        return None if packed is None else packed.to_pandas()

    def columns(self, file: str, names: Sequence[str]) -> dict[str, pa.ChunkedArray] | None:
        """Those of the named columns that the rows of an evaluation have, (questions,) each; None if they are missing.
        Raises CorruptFile and CorruptPack.

        A sweep has thousands of these small files, so columns come as they are stored: a pandas table would take
        several times as long to make as its file takes to read.
        """
        import pyarrow.parquet as pq

        path = self.path / "items" / file
        with suppress(FileNotFoundError), _reading(path):
            # Without threads or reading ahead: for files as small as these, both cost more than they save.
            with pq.ParquetFile(path, pre_buffer=False) as stored:
                damage.check_identity(path, stored.schema_arrow.metadata)
                table = stored.read(names, use_threads=False)
            return dict(zip(table.column_names, table.columns, strict=True))
        return None if self.is_loose else self.pack.items.columns(self.path.name, file, names)

    def names_its_rows(self, file: str) -> bool:
        """Whether an items file says whose rows it holds; files of older versions do not."""
        import pyarrow.parquet as pq

        path = self.path / "items" / file
        if path.is_file():
            metadata = pq.read_schema(path).metadata
        else:
            table = self.pack.items.table(self.path.name, file)
            metadata = None if table is None else table.schema.metadata
        return damage.IDENTITY in (metadata or {})

    def answers(self, file: str) -> Path:
        """Where the answers to a set of open questions are written. To read them: `read_text("answers/<file>")`."""
        return self.path / "answers" / file

    def judgments(self, judge: str) -> Path:
        """Where a judge's judgments of these answers are written; `judge` is its label."""
        return self.path / "judgments" / f"{judge}.jsonl"

    def write_items(self, file: str, items: pd.DataFrame) -> None:
        """Write the rows of an evaluation; the file says of which cell and evaluation they are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(items, preserve_index=False)
        identity = {damage.IDENTITY: damage.rows_identity(self.path.name, file)}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **identity})
        with writing(self.path / "items" / file) as temporary:
            pq.write_table(table, temporary)

    def tidy(self) -> None:
        """Remove the incomplete files of a killed process. Whoever calls it holds the cell's lock."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.path / ".adapter.part", ignore_errors=True)

    def set_adapter_aside(self) -> Path | None:
        """Rename a damaged `adapter/` to `adapter.damaged/`, in the place of an earlier one; its new path, if any."""
        aside = self.path / "adapter.damaged"
        if not self.adapter.is_dir():
            return None
        shutil.rmtree(aside, ignore_errors=True)
        return self.adapter.rename(aside)

    def save_adapter(self, save: Callable[[Path], object]) -> None:
        """Call `save(folder)` on a temporary folder, which then becomes `adapter/`."""
        with writing_folder(self.adapter) as part:
            save(part)


@dataclass(frozen=True)
class Results:
    """One sweep's folder."""

    path: Path

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def pack(self) -> Pack:
        """The packed files of the cells."""
        return Pack(self.path / pack_format.FOLDER)

    def judge(self, label: str) -> Path:
        """The folder of a judge: judge.json, its check, its pairwise comparisons."""
        return self.path / "judges" / label

    def judges(self) -> list[str]:
        """Labels of the judges that have scored answers of this sweep, sorted."""
        return sorted(path.parent.name for path in self.path.glob("judges/*/judge.json"))

    @property
    def calibration(self) -> Results:
        """Small cells that were run to estimate the sweep's time and memory."""
        return Results(self.path / "calibration")

    def folder(self, cell: Cell) -> CellFolder:
        return CellFolder(self.path / "cells" / cell.folder)

    def folder_named(self, name: str) -> CellFolder:
        """The folder of a cell by its name, e.g. as the plan has it."""
        return CellFolder(self.path / "cells" / name)

    def folders(self) -> list[CellFolder]:
        """Every cell that was begun, by name."""
        loose = {path.parent.name for path in self.path.glob("cells/*/cell.json")}
        return [self.folder_named(name) for name in sorted(loose | set(self.pack.cells()))]

    def write_plan(self, resolved: dict[str, JsonValue], plan: PlanRecord) -> None:
        """Record the sweep as it was resolved, the cells that it stands for, and which of its contrasts were written
        down before any cell had a score."""
        before = self._earlier_plan()
        if plan.contrasts is not None:
            cells = [*plan.cells, *(before.cells if before is not None else ())]
            # The untuned model's scores compare nothing.
            begun = any(self._scored(cell.folder) for cell in cells if cell.method != "base")
            plan = plan_after(before, plan, begun)
        write_text(self.path / "sweep.yaml", dump_yaml(resolved))
        write_json(self.path / "plan.json", content_of(plan))

    def _earlier_plan(self) -> PlanRecord | None:
        """The recorded plan; None where there is none that can be read, since the next one replaces it."""
        try:
            return self.plan_record() if (self.path / "plan.json").is_file() else None
        except UserError:
            return None

    def looks(self) -> LooksRecord:
        """What was decided at each look of a sweep with `decide`; empty before the first. Raises as `plan_record`."""
        return read_record(self.path / "looks.json", self.read_text("looks.json"), LooksRecord) or LooksRecord()

    def write_looks(self, looks: LooksRecord) -> None:
        write_json(self.path / "looks.json", content_of(looks))

    def _scored(self, name: str) -> bool:
        """Whether a cell has scores. A record that cannot be read may have had some."""
        folder = self.folder_named(name)
        try:
            return folder.exists() and bool(folder.record().evaluations)
        except UserError:
            return True

    def read_text(self, name: str) -> str | None:
        """A text file of the folder, such as "sweep.yaml"; None if there is none."""
        return _text(self.path / name)

    def plan_record(self) -> PlanRecord:
        """The recorded plan. Raises UserError for a folder that holds no sweep, and as `CellFolder.record` does."""
        fix = (
            f"`bench evaluate {self.path}` writes it anew from its sweep.yaml, `bench run` from your own sweep file; "
            "the cells are kept."
        )
        plan = read_record(self.path / "plan.json", self.read_text("plan.json"), PlanRecord, fix)
        if plan is None:
            raise UserError(f"{self.path} is no results folder: it has no plan.json", "Give results/<sweep name>.")
        return plan


def _text(path: Path) -> str | None:
    """The text of a file; of a .jsonl file its complete lines: a kill or a full disk leaves an incomplete last one."""
    try:
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            data = data[: data.rfind(b"\n") + 1]
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise CorruptFile(path, str(error)) from None
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}", "Check the disk and the permissions."
        ) from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises CorruptFile for whatever the parquet library raises of a file that it cannot read."""
    import pyarrow as pa

    try:
        yield
    except (FileNotFoundError, UserError):
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, PermissionError):
            raise UserError(f"cannot read {path}: {error.strerror}", "Check the permissions.") from None
        raise CorruptFile(path, damage.reason_of(path, error)) from None
