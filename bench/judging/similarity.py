"""The offline judge: the similarity of an answer to its reference answers, from 0 to 100.

The score is the mean of chrF (Popovic 2015, computed by sacrebleu) and of the F1 of ROUGE-L (Lin 2004, computed by
rouge-score), each the best over the question's reference answers. Both count common characters or words. They do not
measure whether an answer is right: a right answer in other words scores low, a wrong answer in the words of the
reference scores high, and an answer longer than the reference scores lower than a short one.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.open_questions import OpenQuestion
from bench.evaluation.open_answers import Answers, answers_hash
from bench.judging.judgment_records import AnswerToRate, SimilarityRating, answers_to_rate
from bench.judging.ledger import cell_ratings
from bench.store.folder import CellFolder
from bench.store.judge_record import JudgeRecord
from bench.sweep.evaluation_identity import AnswersIdentity

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF

KIND, VERSION = "reference", 1
"""The judge's kind and name in results folders, and the version of its score."""


@functools.cache
def judge_record() -> JudgeRecord:
    """This judge, with the versions of the packages that compute its score."""
    versions = {name: importlib.metadata.version(name) for name in ("sacrebleu", "rouge_score")}
    settings = {"version": VERSION, "score": "mean of chrF and ROUGE-L F1, best over references", **versions}
    return JudgeRecord(kind=KIND, name=KIND, scale=(0.0, 100.0), settings=settings)


@dataclass(frozen=True)
class Similarity:
    """How similar an answer is to its reference answers; each from 0 to 100, to 4 decimals."""

    score: float
    """The mean of the other two."""
    chrf: float
    rouge_l: float


def similarity(answer: str, references: Sequence[str]) -> Similarity:
    """The similarity of an answer to the nearest of its reference answers; 0 for an empty answer."""
    chrf, rouge = _metrics()
    if not answer.strip():
        return Similarity(0.0, 0.0, 0.0)
    characters = max(chrf.sentence_score(answer, [reference]).score for reference in references)
    words = 100 * max(rouge.score(reference, answer)["rougeL"].fmeasure for reference in references)
    return Similarity(round((characters + words) / 2, 4), round(characters, 4), round(words, 4))


@functools.cache
def _metrics() -> tuple[CHRF, RougeScorer]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(), RougeScorer(["rougeL"], use_stemmer=False)


def turn_references_hash(answer: AnswerToRate) -> str:
    """Hash of the reference answers to a turn, 16 hex digits."""
    return answers_hash(_references(answer))


def rate(answer: AnswerToRate) -> SimilarityRating:
    """Rate an answer to a question that has reference answers."""
    measured = similarity(answer.answers[-1], _references(answer))
    return SimilarityRating(
        **answer.record().model_dump(),
        judge=(judge_record().label, "chrf+rouge-l"),
        prompt_hash=turn_references_hash(answer),
        score=measured.score,
        chrf=measured.chrf,
        rouge_l=measured.rouge_l,
    )


def _references(answer: AnswerToRate) -> list[str]:
    """The reference answers to the turn."""
    return [texts[answer.turn - 1] for texts in answer.question.references]


def rate_cell(
    folder: CellFolder, identity: AnswersIdentity, questions: Sequence[OpenQuestion], answers: Answers
) -> None:
    """Rate a cell's answers to those questions of a set that have reference answers, and write the ratings.

    The file depends on the answers and the reference answers alone, not on when it is written; ratings that are there
    are not computed again.
    """
    file = cell_ratings(folder, judge_record().label)
    read = file.read_lines()
    before = read.judgments
    present = {(rating.key, rating.prompt_hash): rating for rating in before}
    ratings = [
        present.get((answer.key, turn_references_hash(answer))) or rate(answer)
        for question in questions
        if question.references
        for answer in answers_to_rate(identity.set, question, answers.get(question.id, []), folder.path.name)
    ]
    if read.corrupt or ratings != [rating for rating in before if rating.set == identity.set]:
        file.write([*(rating for rating in before if rating.set != identity.set), *ratings])
