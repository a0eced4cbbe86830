"""Open questions answered by a model, over one or two turns, and kept in FastChat's answer format.

A set's answers are one JSONL file, a line a question. It is written anew, whole, whenever a few more are there, so that
whatever moment the process is killed at, the next run goes on with the questions that lack a turn.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.open_questions import OpenQuestion
from bench.data.templates import Template
from bench.errors import UserError
from bench.hashing import short_hash
from bench.progress import Advance, ignore_progress
from bench.store.files import write_text
from bench.store.folder import CellFolder
from bench.sweep.identity import AnswersIdentity

if TYPE_CHECKING:
    from bench.evaluation.prefix_sharing_lm import LanguageModel

FASTCHAT_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
    "arena-hard-200": 0.0,
}
OTHER_TEMPERATURE = 0.7
"""fastchat/llm_judge/common.py, temperature_config, and what gen_model_answer.py takes for other categories."""

KEPT_EVERY = 16
"""Answers between two writings of the file."""

Answers = dict[int | str, list[str]]
"""By question, a text for each turn that is answered."""


def read_answers(folder: CellFolder, file: str) -> Answers:
    """A cell's answers to one set of questions; empty where the cell has no such file.

    Raises UserError for a file that is not in FastChat's answer format.
    """
    try:
        text = folder.read_text(f"answers/{file}") or ""
        rows = [json.loads(line) for line in text.split("\n") if line]
        return {row["question_id"]: list(row["choices"][0]["turns"]) for row in rows}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{folder.answers(file)} is corrupt: {type(error).__name__}: {error}",
            "Remove the file and run the sweep again: the questions are answered again.",
        ) from None


def answer(
    lm: LanguageModel,
    questions: Sequence[OpenQuestion],
    template: Template,
    identity: AnswersIdentity,
    seed: int,
    path: Path,
    advance: Advance = ignore_progress,
) -> Answers:
    """Answer all questions that `path` does not answer yet, and keep the answers there.

    The first turns of all come first, then the second ones, which are given the first answers. A sampled answer is
    seeded by the cell's seed, the question and the turn. Raises Diverged where a logit is not a number.
    """
    try:
        known = read_answers(CellFolder(path.parent.parent), path.name)
    except UserError:  # damaged by whatever: set aside, as a cell's record would be
        path.replace(path.with_suffix(".damaged"))
        known = {}
    found: Answers = {one.id: known.get(one.id, [])[: len(one.turns)] for one in questions}
    total = sum(len(one.turns) for one in questions)

    def told(done: int, of: int, note: str) -> None:
        advance(sum(map(len, found.values())), total, "answers")

    for turn in range(max((len(one.turns) for one in questions), default=0)):
        waiting = [one for one in questions if len(one.turns) > turn == len(found[one.id])]
        since = 0

        def keep(number: int, text: str, waiting: Sequence[OpenQuestion] = waiting) -> None:
            nonlocal since
            found[waiting[number].id].append(text.strip())
            since += 1
            if since % KEPT_EVERY == 0:
                _write(path, questions, found)

        prompts = [template.prompt(one.turns[: turn + 1], found[one.id]) for one in waiting]
        kwargs = [_generation(one, turn, template, identity, seed) for one in waiting]
        lm.answer(prompts, kwargs, told, keep)
        _write(path, questions, found)
    return found


def _generation(
    question: OpenQuestion, turn: int, template: Template, identity: AnswersIdentity, seed: int
) -> dict[str, Any]:
    """How one answer is generated, in lm-eval's words."""
    kwargs: dict[str, Any] = {"until": list(template.until), "max_gen_toks": identity.max_new_tokens}
    temperature = FASTCHAT_TEMPERATURES.get(question.category, OTHER_TEMPERATURE)
    if identity.temperature == "fastchat" and temperature > 0:
        stream = hashlib.sha256(f"{seed}:{identity.set}:{question.id}:{turn}".encode()).digest()
        kwargs |= {"do_sample": True, "temperature": temperature, "seed": int.from_bytes(stream[:7], "big")}
    return kwargs


def _write(path: Path, questions: Sequence[OpenQuestion], answers: Mapping[int | str, Sequence[str]]) -> None:
    """The answered questions in their order."""
    lines = []
    for one in questions:
        if answers[one.id]:
            turns = list(answers[one.id])
            row = {
                "question_id": one.id,
                "answer_id": answers_hash(turns),
                "model_id": path.parent.parent.name,
                "choices": [{"index": 0, "turns": turns}],
                "tstamp": round(time.time()),
            }
            lines.append(json.dumps(row, ensure_ascii=False))
    write_text(path, "\n".join(lines) + "\n")


def answers_hash(turns: Sequence[str]) -> str:
    """Of the answers up to a turn, 16 hex digits: a judgment is of these very texts."""
    return short_hash(json.dumps(list(turns), ensure_ascii=False))
