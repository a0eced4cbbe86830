"""Repairs a cell's folder: what is damaged is named, set aside and made again, and everything else is kept."""

from __future__ import annotations

from collections.abc import Callable

from bench.evaluation.open_answers import read_answers
from bench.evaluation.stored_rows import scores_of_rows
from bench.planning.plan import Plan, PlannedCell
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder, Results
from bench.store.locks import holding
from bench.store.records import Status

Say = Callable[[str], object]
"""Prints a line."""


def repair_cells(plan: Plan, results: Results, say: Say) -> None:
    """Repair the damaged cells of a plan, except those that another process runs."""
    for planned in plan.cells:
        folder = results.folder(planned.cell)
        if folder.exists() and damage_of(planned, folder):
            with holding(results, folder.path.name) as held:
                if held:
                    repair_cell(planned, folder, say)


def repair_cell(planned: PlannedCell, folder: CellFolder, say: Say) -> None:
    """Set the damaged files of a cell aside and take what they held out of its record, so that it is done again.

    Where that would take an adapter that was not kept, the record stays as it is. Whoever calls it holds the cell's
    lock. Raises NewerSchema.
    """
    for name, reason in damage_of(planned, folder).items():
        text = f"{planned.cell.name}: its {name} is corrupt ({reason})"
        directory, _, file = name.rpartition("/")
        if not directory:
            folder.set_aside(name)
            if name == "cell.json":
                folder.write_cell(planned.cell)
            again = "it is written anew" if name == "cell.json" else "the cell is run again"
            say(f"{text}; it is kept as {name.replace('.json', '.damaged.json')}, and {again}")
        elif planned.cell.data is None or folder.adapter.is_dir():
            _forget(folder, file)
            if (folder.path / name).is_file():
                folder.set_aside(name)
            say(f"{text}; it is set aside and made again")
        else:
            say(f"{text}; the adapter was not kept, so it cannot be made again: its recorded scores stand")


def damage_of(planned: PlannedCell, folder: CellFolder) -> dict[str, str]:
    """By name, the files of a cell that are damaged, with the reason: its settings and record, and the rows and answers
    that are recorded. Raises NewerSchema."""
    damaged: dict[str, str] = {}
    if not folder.exists():
        return damaged
    try:
        if folder.cell().id != planned.cell.id:
            damaged["cell.json"] = "it is of another cell"
    except CorruptFile as error:
        damaged["cell.json"] = error.reason
    try:
        record = folder.record()
    except CorruptFile as error:
        return damaged | {"metrics.json": error.reason}
    for evaluation in record.evaluations.values():
        try:
            missing = scores_of_rows(folder, evaluation) is None
        except CorruptFile as error:
            damaged[f"items/{evaluation.file}"] = error.reason
        except CorruptPack:  # the report says so
            continue
        else:
            damaged |= {f"items/{evaluation.file}": "it is missing"} if missing else {}
    for answers in record.answers.values():
        try:
            texts = read_answers(folder, answers.file)
        except CorruptFile as error:
            damaged[f"answers/{answers.file}"] = error.reason
        else:
            count = sum(map(len, texts.values()))
            if count != answers.n:
                damaged[f"answers/{answers.file}"] = f"it has {count} answers, and {answers.n} are recorded"
    return damaged


def _forget(folder: CellFolder, file: str) -> None:
    """Take the evaluation or the answers of a file out of a cell's record."""
    folder.make_loose()
    record = folder.record()
    record.evaluations = {id: kept for id, kept in record.evaluations.items() if kept.file != file}
    record.answers = {id: kept for id, kept in record.answers.items() if kept.file != file}
    record.status = Status.TRAINED if record.status is Status.DONE else record.status
    folder.write_record(record)
