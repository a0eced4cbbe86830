"""Repairs a cell's folder: what is damaged is named, set aside and made again, and everything else is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.evaluation.open_answers import read_answers
from bench.evaluation.stored_rows import scores_of_rows
from bench.planning.plan import PlannedCell
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder, Results
from bench.store.locks import holding
from bench.store.records import Status

Say = Callable[[str], object]
"""Prints a line."""


@dataclass(frozen=True)
class Damage:
    """A file of a cell that is damaged or missing."""

    name: str
    """Within the cell's folder: `items/<file>`."""
    reason: str
    """Why it cannot be used; empty for a missing file."""

    def __str__(self) -> str:
        return f"its {self.name} is corrupt ({self.reason})" if self.reason else f"its {self.name} is missing"


def repair_cells(cells: Iterable[PlannedCell], results: Results, say: Say) -> None:
    """Repair the damaged ones among these cells, except those that another process runs.

    It reads the rows of all their evaluations, 4 to 5 ms a file on one CPU core.
    """
    for planned in cells:
        folder = results.folder(planned.cell)
        if any(damages(planned, folder)):
            with holding(results, folder.path.name) as held:
                if held:
                    repair_cell(planned, folder, say)


def repair_cell(planned: PlannedCell, folder: CellFolder, say: Say) -> None:
    """Set the damaged files of a cell aside and take what they held out of its record, so that it is done again.

    Where that would take an adapter that was not kept, the record stays as it is. Whoever calls it holds the cell's
    lock. Raises NewerSchema.
    """
    for damage in list(damages(planned, folder)):
        directory, _, file = damage.name.rpartition("/")
        text = f"{planned.cell.name}: {damage}"
        if not directory:
            folder.set_aside(damage.name)
            if damage.name == "cell.json":
                folder.write_cell(planned.cell)
            again = "it is written anew" if damage.name == "cell.json" else "the cell is run again"
            say(f"{text}; it is kept as {damage.name.replace('.json', '.damaged.json')}, and {again}")
        elif planned.cell.data is None or folder.adapter.is_dir():
            _forget(folder, file)
            if damage.reason:
                folder.set_aside(damage.name)
            say(f"{text}; it is {'set aside and ' if damage.reason else ''}made again")
        else:
            say(f"{text}; the adapter was not kept, so it cannot be made again: its recorded scores stand")


def damages(planned: PlannedCell, folder: CellFolder) -> Iterator[Damage]:
    """The files of a cell that are damaged: its settings and record, and the rows and answers that are recorded. Raises
    NewerSchema."""
    if not folder.exists():
        return
    try:
        if folder.cell().id != planned.cell.id:
            yield Damage("cell.json", "it is of another cell")
    except CorruptFile as error:
        yield Damage("cell.json", error.reason)
    try:
        record = folder.record()
    except CorruptFile as error:
        yield Damage("metrics.json", error.reason)
        return
    for evaluation in record.evaluations.values():
        name = f"items/{evaluation.file}"
        try:
            if scores_of_rows(folder, evaluation) is None:
                yield Damage(name, "")
        except CorruptFile as error:
            yield Damage(name, error.reason)
        except CorruptPack:  # the report says so
            continue
    for answers in record.answers.values():
        name = f"answers/{answers.file}"
        try:
            count = sum(map(len, read_answers(folder, answers.file).values()))
        except CorruptFile as error:
            yield Damage(name, error.reason)
        else:
            if count != answers.n:
                some = f"it has {count} answers, and {answers.n} are recorded"
                yield Damage(name, some if folder.read_text(name) is not None else "")


def _forget(folder: CellFolder, file: str) -> None:
    """Take the evaluation or the answers of a file out of a cell's record."""
    folder.make_loose()
    record = folder.record()
    record.evaluations = {id: kept for id, kept in record.evaluations.items() if kept.file != file}
    record.answers = {id: kept for id, kept in record.answers.items() if kept.file != file}
    record.status = Status.TRAINED if record.status is Status.DONE else record.status
    folder.write_record(record)
