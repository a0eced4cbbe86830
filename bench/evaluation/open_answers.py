"""A model's answers to open questions of one or two turns, stored in FastChat's answer format.

The answers to a set are one JSONL file, a line for each question. The whole file is rewritten after every few answers:
if the process is killed, the next run continues with the questions that lack a turn.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.open_questions import OpenQuestion
from bench.data.templates import Template
from bench.hashing import short_hash
from bench.progress import Advance, ignore_progress
from bench.store.damage import CorruptFile, reason_of
from bench.store.files import write_text
from bench.store.folder import CellFolder
from bench.sweep.evaluation_identity import AnswersIdentity

if TYPE_CHECKING:
    from bench.evaluation.generation import GenerationKwargs
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
"""fastchat/llm_judge/common.py, temperature_config, and the value in gen_model_answer.py for other categories."""

WRITE_EVERY = 16
"""Answers between two writes of the file."""

Answers = dict[int | str, list[str]]
"""By question, a text for each turn that is answered."""


def read_answers(folder: CellFolder, file: str) -> Answers:
    """A cell's answers to one set of questions; empty if the cell has no such file.

    Raises CorruptFile for a file that is not in FastChat's answer format, or has another cell's answers.
    """
    path = folder.answers(file)
    try:
        text = folder.read_text(f"answers/{file}") or ""
        rows = [json.loads(line) for line in text.split("\n") if line]
        answers = {row["question_id"]: list(row["choices"][0]["turns"]) for row in rows}
        of = {row["model_id"] for row in rows if "model_id" in row}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptFile(path, reason_of(path, error)) from None
    if not all(isinstance(turn, str) for turns in answers.values() for turn in turns):
        raise CorruptFile(path, "an answer is not a text")
    if of - {folder.path.name}:
        raise CorruptFile(path, f"it has the answers of {', '.join(map(str, of - {folder.path.name}))}")
    return answers


def answer_questions(
    lm: LanguageModel,
    questions: Sequence[OpenQuestion],
    template: Template,
    identity: AnswersIdentity,
    seed: int,
    folder: CellFolder,
    advance: Advance = ignore_progress,
) -> Answers:
    """Answer all questions that the cell's folder does not answer yet, and store the answers there.

    The first turns of all questions come first, then the second turns, whose prompts contain the first answers. A
    sampled answer is seeded by the cell's seed, the question and the turn. Raises Diverged if a logit is NaN.
    """
    path = folder.answers(identity.file)
    try:
        stored = read_answers(folder, identity.file)
    except CorruptFile:  # answered anew
        folder.set_aside(f"answers/{identity.file}")
        stored = {}
    answers: Answers = {question.id: stored.get(question.id, [])[: len(question.turns)] for question in questions}
    total = sum(len(question.turns) for question in questions)

    def report(done: int, of: int, note: str) -> None:
        advance(sum(map(len, answers.values())), total, "answers")

    for turn in range(max((len(question.turns) for question in questions), default=0)):
        waiting = [question for question in questions if len(question.turns) > turn == len(answers[question.id])]
        new = 0

        def store(number: int, text: str, waiting: Sequence[OpenQuestion] = waiting) -> None:
            nonlocal new
            answers[waiting[number].id].append(text.strip())
            new += 1
            if new % WRITE_EVERY == 0:
                _write(path, questions, answers)

        prompts = [template.prompt(question.turns[: turn + 1], answers[question.id]) for question in waiting]
        kwargs = [_generation_kwargs(question, turn, template, identity, seed) for question in waiting]
        lm.answer(prompts, kwargs, report, store)
        _write(path, questions, answers)
    return answers


def _generation_kwargs(
    question: OpenQuestion, turn: int, template: Template, identity: AnswersIdentity, seed: int
) -> GenerationKwargs:
    """How one answer is generated."""
    kwargs: GenerationKwargs = {"until": list(template.until), "max_gen_toks": identity.max_new_tokens}
    temperature = FASTCHAT_TEMPERATURES.get(question.category, OTHER_TEMPERATURE)
    if identity.temperature == "fastchat" and temperature > 0:
        stream = hashlib.sha256(f"{seed}:{identity.set}:{question.id}:{turn}".encode()).digest()
        seed_of_answer = int.from_bytes(stream[:7], "big")
        kwargs |= {"do_sample": True, "temperature": temperature, "seed": seed_of_answer}
    return kwargs


def _write(path: Path, questions: Sequence[OpenQuestion], answers: Mapping[int | str, Sequence[str]]) -> None:
    """The answered questions in their order."""
    lines = []
    for question in questions:
        if answers[question.id]:
            turns = list(answers[question.id])
            row = {
                "question_id": question.id,
                "answer_id": answers_hash(turns),
                "model_id": path.parent.parent.name,
                "choices": [{"index": 0, "turns": turns}],
                "tstamp": round(time.time()),
            }
            lines.append(json.dumps(row, ensure_ascii=False))
    write_text(path, "\n".join(lines) + "\n")


def answers_hash(turns: Sequence[str]) -> str:
    """Hash of the answers up to a turn, 16 hex digits; a judgment names the answers that it judges by it."""
    return short_hash(json.dumps(list(turns), ensure_ascii=False))
