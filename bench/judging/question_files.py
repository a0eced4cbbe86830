"""The open questions of a results folder, kept for judges that run after the models are gone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.data.loaders import load_open_questions
from bench.data.open_questions import OpenQuestion, open_questions_fingerprint, open_set_record
from bench.data.prepare import prepare_data
from bench.errors import UserError
from bench.store.files import write_text
from bench.store.folder import Results
from bench.store.recorded_sweep import recorded_plan
from bench.store.records import PlanRecord
from bench.sweep.load import load_sweep
from bench.sweep.sections import OpenSet


def save_questions(results: Results, sets: dict[str, tuple[OpenQuestion, ...]]) -> None:
    """Write the open questions beside the cells. The texts belong to others, so the files are not for git."""
    for name, questions in sets.items():
        lines = [json.dumps(question.to_row(), ensure_ascii=False) + "\n" for question in questions]
        write_text(_path(results, name, open_questions_fingerprint(questions)), "".join(lines))


def plan_with_questions(results: Results) -> PlanRecord:
    """The recorded plan. Where plan.json is damaged or missing it is made of the recorded cells, and has the sets of
    open questions that they answered, as far as their files are there.

    Raises UserError as `recorded_plan`.
    """
    plan = recorded_plan(results)
    if plan.open_questions:
        return plan
    answered = _answered_sets(results, plan)
    records = {name: open_set_record(questions) for name, questions in _saved_sets(results, answered).items()}
    return plan.model_copy(update={"open_questions": records})


def load_questions(results: Results) -> dict[str, tuple[OpenQuestion, ...]]:
    """The open questions that a folder's cells answered, by set: from the saved files, or, where a file is missing (as
    in a fresh clone), from the sweep's own data.

    Raises UserError for a folder without open questions, and where the data have changed.
    """
    plan = recorded_plan(results)
    fingerprints = {name: record.fingerprint for name, record in plan.open_questions.items()}
    fingerprints = fingerprints or _answered_sets(results, plan)
    if not fingerprints:
        raise UserError(
            f"{results.path} has no open questions", "Add `answers:` to its sweep file and run the sweep again."
        )
    sets = _saved_sets(results, fingerprints)
    if len(sets) < len(fingerprints):
        sets = prepare_data(load_sweep(results.path / "sweep.yaml")).open_questions
        save_questions(results, sets)
    for name, fingerprint in fingerprints.items():
        if name not in sets or open_questions_fingerprint(sets[name]) != fingerprint:
            raise UserError(
                f"the questions of {name} are not those that were answered: the sweep's data have changed",
                "Restore the data that the sweep was run with.",
            )
    return sets


def _answered_sets(results: Results, plan: PlanRecord) -> dict[str, str]:
    """The hash of the questions of each set that the cells of a plan have answered: of each set the most common."""
    counts: Counter[tuple[str, str]] = Counter()
    for cell in plan.cells:
        if cell.answers:
            recorded = results.folder_named(cell.folder).record().answers
            counts.update((recorded[id].set, recorded[id].questions) for id in cell.answers if id in recorded)
    fingerprints: dict[str, str] = {}
    for (name, fingerprint), _ in counts.most_common():
        fingerprints.setdefault(name, fingerprint)
    return fingerprints


def _saved_sets(results: Results, fingerprints: Mapping[str, str]) -> dict[str, tuple[OpenQuestion, ...]]:
    """The questions whose file is there and holds what its name says."""
    sets: dict[str, tuple[OpenQuestion, ...]] = {}
    for name, fingerprint in fingerprints.items():
        path = _path(results, name, fingerprint)
        if path.is_file() and (saved := _saved(path)) and open_questions_fingerprint(saved) == fingerprint:
            sets[name] = saved
    return sets


def _saved(path: Path) -> tuple[OpenQuestion, ...]:
    """The questions of a file; none of a corrupt one."""
    try:
        return load_open_questions("saved questions", OpenSet(questions=str(path)))
    except UserError:
        return ()


def _path(results: Results, name: str, hash: str) -> Path:
    return results.path / "questions" / f"{name}-{hash}.jsonl"
