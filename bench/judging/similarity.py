"""The offline judge: how alike an answer and a reference answer are, from 0 to 100.

The score is the mean of chrF (Popovic 2015, as sacrebleu computes it) and of the F1 of ROUGE-L (Lin 2004, as
rouge-score computes it), each the best over the reference answers that a question has. It sees common letters and
words in common order. It does not see whether an answer is right: a true answer in other words scores low, a false one
in the words of the reference scores high, and an answer longer than the reference scores lower than a short one.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Sequence
from typing import Any

from bench.data.open_questions import OpenQuestion
from bench.evaluation.open_answers import Answers, answers_hash
from bench.judging.ledger import Asked, JudgeIdentity, key_of, read_rows, turns_of
from bench.store.files import write_text
from bench.store.folder import CellFolder
from bench.sweep.identity import AnswersIdentity

NAME, VERSION = "reference", 1


@functools.cache
def identity() -> JudgeIdentity:
    """This judge, with the versions of what it measures by."""
    versions = {name: importlib.metadata.version(name) for name in ("sacrebleu", "rouge_score")}
    settings = {"version": VERSION, "score": "mean of chrF and ROUGE-L F1, best over references", **versions}
    return JudgeIdentity(NAME, NAME, (0.0, 100.0), settings)


def similarity(answer: str, references: Sequence[str]) -> dict[str, float]:
    """chrF and ROUGE-L of an answer, and their mean as its score, each from 0 to 100. An empty answer has 0."""
    chrf, rouge = _metrics()
    if not answer.strip():
        return {"score": 0.0, "chrf": 0.0, "rouge_l": 0.0}
    letters = max(chrf.sentence_score(answer, [one]).score for one in references)
    words = 100 * max(rouge.score(one, answer)["rougeL"].fmeasure for one in references)
    return {"score": round((letters + words) / 2, 4), "chrf": round(letters, 4), "rouge_l": round(words, 4)}


@functools.cache
def _metrics() -> tuple[Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    return CHRF(), RougeScorer(["rougeL"], use_stemmer=False)


def references_of(asked: Asked) -> str:
    """Hash of the reference answers to a turn, 16 hex digits."""
    return answers_hash(_texts(asked))


def judged(asked: Asked) -> dict[str, Any]:
    """The judgment of an answer to a question that has references."""
    found = similarity(asked.answers[asked.turn - 1], _texts(asked))
    return {"judge": [identity().label, "chrf+rouge-l"], "prompt_hash": references_of(asked), **found}


def _texts(asked: Asked) -> list[str]:
    return [texts[asked.turn - 1] for texts in asked.question.references]


def judge(
    folder: CellFolder, identity_of_answers: AnswersIdentity, questions: Sequence[OpenQuestion], answers: Answers
) -> None:
    """Judge a cell's answers to a set of questions, those that have references, and keep the judgments: the same
    answers have the same file, whenever it is written."""
    path, name = folder.judgments(identity().label), identity_of_answers.set
    before, rows = read_rows(path), []
    known = {(key_of(row), row.get("prompt_hash")): row for row in before}
    for question in questions:
        if question.references:
            for asked in turns_of(name, question, answers.get(question.id, []), folder.path.name):
                there = known.get((asked.key, references_of(asked)))
                rows.append(there or {**asked.row(), **judged(asked)})
    if rows != [row for row in before if row["set"] == name]:
        kept = [row for row in before if row["set"] != name]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (*kept, *rows)))
