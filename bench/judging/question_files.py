"""The open questions of a results folder, kept for judges that run after the models are gone."""

from __future__ import annotations

import json
from pathlib import Path

from bench.data.loaders import load_open_questions
from bench.data.open_questions import OpenQuestion, open_questions_fingerprint
from bench.data.prepare import prepare_data
from bench.errors import UserError
from bench.store.files import write_text
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.sections import OpenSet


def save_questions(results: Results, sets: dict[str, tuple[OpenQuestion, ...]]) -> None:
    """Write the open questions beside the cells. The texts belong to others, so the files are not for git."""
    for name, questions in sets.items():
        lines = [json.dumps(question.to_row(), ensure_ascii=False) + "\n" for question in questions]
        write_text(_path(results, name, open_questions_fingerprint(questions)), "".join(lines))


def load_questions(results: Results) -> dict[str, tuple[OpenQuestion, ...]]:
    """The open questions that a folder's cells answered, by set: from the saved files, or, where a file is missing (as
    in a fresh clone), from the sweep's own data.

    Raises UserError for a folder without open questions, and where the data have changed.
    """
    recorded = results.plan_record().open_questions
    if not recorded:
        raise UserError(
            f"{results.path} has no open questions", "Add `answers:` to its sweep file and run the sweep again."
        )
    sets: dict[str, tuple[OpenQuestion, ...]] = {}
    for name, record in recorded.items():
        path = _path(results, name, record.fingerprint)
        if path.is_file() and (saved := _saved(path)) and open_questions_fingerprint(saved) == record.fingerprint:
            sets[name] = saved
    if len(sets) < len(recorded):
        sets = prepare_data(load_sweep(results.path / "sweep.yaml")).open_questions
        save_questions(results, sets)
    for name, record in recorded.items():
        if name not in sets or open_questions_fingerprint(sets[name]) != record.fingerprint:
            raise UserError(
                f"the questions of {name} are not those that were answered: the sweep's data have changed",
                "Restore the data that the sweep was run with.",
            )
    return sets


def _saved(path: Path) -> tuple[OpenQuestion, ...]:
    """The questions of a file; none of a corrupt one."""
    try:
        return load_open_questions("saved questions", OpenSet(questions=str(path)))
    except UserError:
        return ()


def _path(results: Results, name: str, hash: str) -> Path:
    return results.path / "questions" / f"{name}-{hash}.jsonl"
