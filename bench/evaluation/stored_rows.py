"""The rows of an evaluation read back: only rows that are whole, and of the cell and task that they should be of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.evaluation.scoring import check_rows, compute_scores
from bench.store.damage import CorruptFile
from bench.store.folder import CellFolder
from bench.store.records import EvaluationRecord, Scores
from bench.sweep.evaluation_identity import EvaluationSettings

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED = ("question_id", "gold", "prediction", "acc")
"""The columns of every items file. None of them has gaps."""
ITEMS = (*REQUIRED, "cluster", "prediction_norm", "parsed", "choices", "loglikelihoods", "lengths")
"""The columns of an items file that scores and comparisons need."""
ORIGIN = ("protocol", "task_version")
"""The columns that say what the rows are of; older files have some of them."""

ROUNDING = 1e-9
"""A recorded share and the recomputed one may differ by this much."""


def stored_rows(folder: CellFolder, file: str, settings: EvaluationSettings) -> dict[str, pa.ChunkedArray] | None:
    """The `ITEMS` columns of an evaluation, (questions,) each, with `choices`; None if the file is missing.

    Raises CorruptFile for a file that cannot be read, is of another cell or evaluation, lacks a column or rows, or
    contradicts itself; CorruptPack for a pack that cannot be read.
    """
    import pyarrow.compute as pc

    rows = folder.columns(file, (*ITEMS, *ORIGIN))
    if rows is None:
        return None
    path = folder.path / "items" / file
    for name in REQUIRED:
        if name not in rows:
            raise CorruptFile(path, f"it has no column {name}")
        if rows[name].null_count:
            raise CorruptFile(path, f"its column {name} has gaps")
    if not len(rows["gold"]):
        raise CorruptFile(path, "it has no rows")
    for name, expected in zip(ORIGIN, (settings.label, settings.task_version), strict=True):
        values = rows.pop(name, None)
        recorded = {str(expected)} if values is None else {str(value) for value in pc.unique(values).to_pylist()}
        if recorded != {str(expected)}:
            raise CorruptFile(path, f"its {name} is {', '.join(sorted(recorded))}, and should be {expected}")
    try:
        if "choices" not in rows:
            rows["choices"] = pc.list_value_length(rows["loglikelihoods"])
        return check_rows(rows)
    except KeyError as error:
        raise CorruptFile(path, f"it has no column {error.args[0]}") from None
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CorruptFile(path, str(error)) from None


def scores_of_rows(folder: CellFolder, recorded: EvaluationRecord) -> tuple[dict[str, pa.ChunkedArray], Scores] | None:
    """The rows of a recorded evaluation and the scores that they give; None if the file is missing.

    Raises as `stored_rows` does, and CorruptFile for rows of another number than is recorded, and for rows that give
    another score than is recorded where the file, of an older version, does not say whose rows it holds.
    """
    rows = stored_rows(folder, recorded.file, recorded)
    if rows is None:
        return None
    path = folder.path / "items" / recorded.file
    if len(rows["gold"]) != recorded.n:
        raise CorruptFile(path, f"it has {len(rows['gold'])} rows, and {recorded.n} are recorded")
    try:
        scores = compute_scores(rows, recorded.primary)
    except (ValueError, TypeError) as error:
        raise CorruptFile(path, str(error)) from None
    if differ(recorded, scores) and not folder.names_its_rows(recorded.file):
        raise CorruptFile(
            path, f"its rows give {scores.acc:.4f}, recorded is {recorded.acc:.4f}, and it does not say whose they are"
        )
    return rows, scores


def differ(recorded: Scores, recomputed: Scores) -> bool:
    """Whether recorded scores are others than those of the rows."""
    pairs = (
        (recorded.acc, recomputed.acc),
        (recorded.acc_norm, recomputed.acc_norm),
        (recorded.n, recomputed.n),
        (recorded.score, recomputed.score),
        (recorded.parse_rate, recomputed.parse_rate),
        (recorded.acc_parsed, recomputed.acc_parsed),
    )
    return any(before is not None and after is not None and abs(before - after) > ROUNDING for before, after in pairs)
