"""The open questions of a results folder, for judges that come after the models have gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.data.loaders import load_open_questions
from bench.data.open_questions import OpenQuestion, open_questions_fingerprint
from bench.data.prepare import prepare_data
from bench.errors import UserError
from bench.store.files import write_text
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.sections import OpenSet


def keep_questions(results: Results, sets: dict[str, tuple[OpenQuestion, ...]]) -> None:
    """Keep the open questions beside the cells, for judges that come later. They are others' texts, and not for git."""
    for name, questions in sets.items():
        write_text(_path(results, name, open_questions_fingerprint(questions)), _lines(questions))


def questions_of(results: Results) -> dict[str, tuple[OpenQuestion, ...]]:
    """The open questions that a folder's cells answered, by set, as they were kept; where they were not (in a fresh
    clone), from the sweep's own data.

    Raises UserError for a folder without any, and where the data are no longer what they were.
    """
    recorded = results.plan().get("open_questions", {})
    if not recorded:
        raise UserError(f"{results.path} has no open questions", "Give its sweep file `answers:` and run it again.")
    found = {}
    for name, facts in recorded.items():
        path = _path(results, name, facts["fingerprint"])
        if path.is_file():
            found[name] = load_open_questions("as they were kept", OpenSet(questions=str(path)))
    if len(found) < len(recorded):
        found = prepare_data(load_sweep(results.path / "sweep.yaml")).open_questions
        keep_questions(results, found)
    for name, facts in recorded.items():
        if name not in found or open_questions_fingerprint(found[name]) != facts["fingerprint"]:
            raise UserError(
                f"the questions of {name} are not those that were answered", "Restore the data that the sweep had."
            )
    return found


def _path(results: Results, name: str, hash: str) -> Path:
    return results.path / "questions" / f"{name}-{hash}.jsonl"


def _lines(questions: Sequence[OpenQuestion]) -> str:
    return "".join(json.dumps(one.to_row(), ensure_ascii=False) + "\n" for one in questions)
