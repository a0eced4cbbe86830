"""The results folder: the only truth. Files are written whole or not at all.

    results/<sweep>/sweep.yaml                          the sweep as it was resolved
    results/<sweep>/plan.json                           its cells, for the report to count against
    results/<sweep>/cells/<name>-<hash8>/
        cell.json         the training cell, no default left implicit
        metrics.json      status, costs, and per evaluation its scores
        training.jsonl    one line a logging step
        items/<task>@<protocol>-<hash8>.parquet         one row a question
        answers/<set>-<hash8>.jsonl                     open answers, in FastChat's format
        judgments/<judge>-<hash8>.jsonl                 what a judge makes of them
        environment.json  versions, commit, device, fingerprints
        adapter/          safetensors; not committed to git
    results/<sweep>/judges/<judge>-<hash8>/             judge.json, its check and its comparisons of two
    results/<sweep>/report/
    results/<sweep>/questions/                          open questions; others' texts, not committed to git
    results/<sweep>/sweep.log, locks/, calibration/     of running; not committed to git

A process killed at any moment leaves a whole file or none: every file is written under a temporary name in its
own folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from bench.errors import UserError
from bench.store.files import write_json, write_text, writing, writing_folder
from bench.store.migrate import migrated
from bench.store.records import SCHEMA, CellRecord, EnvironmentRecord, PlanRecord, Record, TrainingLogRow
from bench.sweep.cell import Cell
from bench.sweep.schema import describe

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


RecordType = TypeVar("RecordType", bound=Record)


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

    def read_text(self, name: str) -> str | None:
        """A text file of the cell, such as "metrics.json" or "answers/<file>"; None where it is not there."""
        return _text(self.path / name)

    def cell(self) -> Cell:
        """The cell as it was resolved. Raises UserError for a file that does not hold one."""
        return _validated(self.path / "cell.json", Cell.model_validate)

    def record(self) -> CellRecord:
        """What the cell came to so far; an empty record where nothing is written yet.

        Raises UserError for a file that is corrupt, or was written by a newer version.
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
        """The lines of training.jsonl. Raises UserError for a line that is corrupt."""
        text = self.read_text("training.jsonl") or ""
        path = self.path / "training.jsonl"
        return [_checked(path, line, TrainingLogRow) for line in text.splitlines() if line]

    def metrics(self) -> dict[str, Any]:
        """What the cell came to so far; an empty mapping where nothing is recorded.

        Raises UserError for a file that is no JSON mapping (truncated, or edited by hand).
        """
        path = self.path / "metrics.json"
        return _validated(path, dict) if path.is_file() else {}

    def set_aside(self) -> bool:
        """Whether metrics.json could not be believed; then it lies beside, as metrics.damaged.json, and the cell counts
        as not recorded."""
        try:
            self.metrics()
        except UserError:
            (self.path / "metrics.json").replace(self.path / "metrics.damaged.json")
            return True
        return False

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / "metrics.json", metrics)

    def items(self, file: str) -> pd.DataFrame | None:
        """The rows of one evaluation, or None where they are not there."""
        import pandas as pd

        path = self.path / "items" / file
        return pd.read_parquet(path) if path.is_file() else None

    def columns(self, file: str, names: Sequence[str]) -> dict[str, pa.ChunkedArray] | None:
        """Of the rows of one evaluation the named columns, those that it has, or None where they are not there.

        A sweep has thousands of these small files, so they come as they are stored: a table of pandas would take
        several times as long to make as its file takes to read.
        """
        import pyarrow.parquet as pq

        path = self.path / "items" / file
        if not path.is_file():
            return None
        # Without threads or reading ahead: for files as small as these, both cost more than they bring.
        with pq.ParquetFile(path, pre_buffer=False) as stored:
            table = stored.read(names, use_threads=False)
        return dict(zip(table.column_names, table.columns, strict=True))

    def answers(self, file: str) -> Path:
        """Where the answers to a set of open questions are kept."""
        return self.path / "answers" / file

    def judgments(self, judge: str) -> Path:
        """Where a judge's judgments of these answers are kept; `judge` is its label."""
        return self.path / "judgments" / f"{judge}.jsonl"

    def write_items(self, file: str, items: pd.DataFrame) -> None:
        with writing(self.path / "items" / file) as temporary:
            items.to_parquet(temporary, index=False)

    def tidy(self) -> None:
        """Remove what a killed process has left half-written. To be called by whoever runs the cell."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.path / ".adapter.part", ignore_errors=True)

    def save_adapter(self, save: Any) -> None:
        """Call `save(folder)` on a temporary folder and put that in place as `adapter/`, whole."""
        with writing_folder(self.adapter) as part:
            save(part)


@dataclass(frozen=True)
class Results:
    """One sweep's folder."""

    path: Path

    @property
    def report(self) -> Path:
        return self.path / "report"

    def judge(self, label: str) -> Path:
        """What is known of a judge as such: who it is, its check, its comparisons."""
        return self.path / "judges" / label

    def judges(self) -> list[str]:
        """Labels of the judges that have scored answers of this sweep, sorted."""
        return sorted(path.parent.name for path in self.path.glob("judges/*/judge.json"))

    @property
    def calibration(self) -> Results:
        """Small cells that were run to see what the sweep's will take."""
        return Results(self.path / "calibration")

    def folder(self, cell: Cell) -> CellFolder:
        return CellFolder(self.path / "cells" / cell.folder)

    def folders(self) -> list[CellFolder]:
        """Every cell that has been begun, by name."""
        return [CellFolder(path.parent) for path in sorted(self.path.glob("cells/*/cell.json"))]

    def write_plan(self, resolved: dict[str, Any], plan: dict[str, Any]) -> None:
        """Record the sweep as it was resolved, and the cells that it stands for."""
        write_text(self.path / "sweep.yaml", yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
        write_json(self.path / "plan.json", plan)

    def read_text(self, name: str) -> str | None:
        """A text file of the folder, such as "sweep.yaml"; None where it is not there."""
        return _text(self.path / name)

    def plan_record(self) -> PlanRecord:
        """The recorded plan. Raises UserError for a folder that holds no sweep, and as `CellFolder.record` does."""
        found = read_record(self.path / "plan.json", self.read_text("plan.json"), PlanRecord)
        if found is None:
            raise UserError(f"{self.path} is no results folder: it has no plan.json", "Give results/<sweep name>.")
        return found

    def plan(self) -> dict[str, Any]:
        """The recorded plan. Raises UserError for a folder that holds no sweep."""
        if not (self.path / "plan.json").is_file():
            raise UserError(f"{self.path} is no results folder: it has no plan.json", "Give results/<sweep name>.")
        plan = _validated(self.path / "plan.json", dict)
        if plan.get("schema", 1) > SCHEMA:
            raise UserError(
                f"{self.path} was written by a newer version (schema {plan['schema']}; this one knows {SCHEMA})",
                "Upgrade, or choose another --results folder.",
            )
        return plan


def _validated(path: Path, make: Any) -> Any:
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be believed: {str(error).splitlines()[0]}",
            "Files here are written whole, so it was edited or damaged. Restore it, or remove its folder to run again.",
        ) from None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_record(path: Path, text: str | None, kind: type[RecordType]) -> RecordType | None:
    """The content of a file as a record, brought up to date where an older version wrote it; None without a file.

    Raises UserError, naming the file, where the text is not such a record or a newer version wrote it.
    """
    return None if text is None else _checked(path, text, kind)


def _checked(path: Path, text: str, kind: type[RecordType]) -> RecordType:
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        schema = content.get("schema", 1)
        if not isinstance(schema, int):
            raise ValueError(f"its schema is {schema!r}, which is not a number")
        if schema <= SCHEMA:
            return kind.model_validate(migrated(content))
    except (ValueError, TypeError) as error:
        reason = describe(error).split("; ")[0] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise UserError(
            f"{path} is corrupt: {reason}",
            "Files here are written whole, so it was edited or damaged. Restore it, or remove its folder to run again.",
        ) from None
    raise UserError(
        f"{path} was written by a newer version of bench (schema {schema}; this version reads up to {SCHEMA})",
        "Upgrade bench, or choose another --results folder.",
    )


def content_of(record: Record) -> dict[str, Any]:
    """A record as its JSON file holds it: what is None is left out."""
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)
