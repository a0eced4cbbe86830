"""What is judged, and judgments as records with the field names of their JSONL files: FastChat's names where it has
them.

A judgment is identified by its key (question, turn, cell, repeat and the hash of the very answer) and by the hash of
what the judge was given besides the answer: its prompt, or the reference answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field, FiniteFloat

from bench.data.open_questions import OpenQuestion
from bench.evaluation.open_answers import answers_hash
from bench.judging import parsers
from bench.judging.parsers import Verdict
from bench.judging.thoughts import incomplete
from bench.store.records import SCHEMA, Record

Number = int | FiniteFloat
"""A score as JSON has it: a 0 that was written as an integer stays one."""
_Percentage = Annotated[int | float, Field(ge=0, le=100)]


class RatingKey(NamedTuple):
    """Identifies the rating of one answer, whatever the prompt."""

    set: str
    question_id: int | str
    turn: int
    model: str
    repeat: int
    answers: str


class VerdictKey(NamedTuple):
    """Identifies the comparison of two answers, whatever the prompt."""

    set: str
    question_id: int | str
    turn: int
    game: int
    model_1: str
    model_2: str
    answers_1: str
    answers_2: str


JudgmentKey = RatingKey | VerdictKey


@dataclass(frozen=True)
class AnswerToRate:
    """An answer that a judge is to rate."""

    set: str
    question: OpenQuestion
    turn: int
    """Counted from 1, as in FastChat."""
    answers: tuple[str, ...]
    """The answers to the turns up to this one; the last one is rated."""
    model: str = ""
    """The folder of the cell that answered; in a check of the judge, the kind of answer."""
    repeat: int = 0
    blind: bool = False
    """The judge is never shown a reference answer."""

    @functools.cached_property
    def hash(self) -> str:
        """Of the answers, 16 hex digits."""
        return answers_hash(self.answers)

    @property
    def key(self) -> RatingKey:
        return RatingKey(self.set, self.question.id, self.turn, self.model, self.repeat, self.hash)

    def record(self) -> RatedAnswer:
        return RatedAnswer(category=self.question.category, **self.key._asdict())


@dataclass(frozen=True)
class AnswersToCompare:
    """Two cells' answers to the same turn of the same question, in the order in which the judge is shown them."""

    first: AnswerToRate
    second: AnswerToRate
    game: int
    """1, or 2 for the same two answers in the other order."""

    @property
    def key(self) -> VerdictKey:
        first, second = self.first, self.second
        return VerdictKey(
            first.set, first.question.id, first.turn, self.game, first.model, second.model, first.hash, second.hash
        )

    def record(self) -> ComparedAnswers:
        return ComparedAnswers(category=self.first.question.category, **self.key._asdict())


def answers_to_rate(
    set_name: str, question: OpenQuestion, answers: Sequence[str], model: str
) -> Iterator[AnswerToRate]:
    """The answers of a cell to one question, one for each answered turn."""
    for turn in range(1, min(len(question.turns), len(answers)) + 1):
        yield AnswerToRate(set_name, question, turn, tuple(answers[:turn]), model)


class _JudgedTurn(Record):
    """A turn of a question."""

    set: str
    question_id: int | str
    category: str
    turn: int = Field(ge=1, le=2)


class RatedAnswer(_JudgedTurn):
    """Which answer a rating belongs to; the fields are those of `AnswerToRate`."""

    model: str
    repeat: int = Field(ge=0, lt=1_000_000)
    answers: str
    """Hash of the answers."""

    @property
    def key(self) -> RatingKey:
        return RatingKey(self.set, self.question_id, self.turn, self.model, self.repeat, self.answers)


class ComparedAnswers(_JudgedTurn):
    """Which answers a verdict belongs to; the fields are those of `AnswersToCompare`."""

    game: int
    model_1: str
    model_2: str
    answers_1: str
    answers_2: str

    @property
    def key(self) -> VerdictKey:
        return VerdictKey(
            self.set,
            self.question_id,
            self.turn,
            self.game,
            self.model_1,
            self.model_2,
            self.answers_1,
            self.answers_2,
        )


class _Judged(Record):
    """Who judged, and by which prompt."""

    judge: tuple[str, str]
    """The judge's label and the name of the prompt or measure."""
    prompt_hash: str
    """Hash of the prompt or of the reference answers."""


class ModelReply(_Judged):
    """The raw reply of a judging model."""

    judgment: str
    """The reply's text."""
    served: str
    """The model's name as the server gave it."""
    finish_reason: str
    refused_parameters: tuple[str, ...] = ()
    """Parameters that the endpoint refuses: the request was sent without them, or with their other name."""
    prompt_tokens: int | None
    completion_tokens: int | None
    tstamp: Number
    """Seconds since 1970."""

    @property
    def cut_off(self) -> bool:
        """True for a reply that is not complete: it has no score, whatever an older version has read in it."""
        return incomplete(self.finish_reason)


# Pydantic puts the fields of the last base first, which is the order of the files.
class SimilarityRating(_Judged, RatedAnswer):
    """The similarity of an answer to its reference answers, 0 to 100."""

    score: _Percentage
    chrf: _Percentage
    rouge_l: _Percentage

    @property
    def reported_score(self) -> float | None:
        return self.score

    @property
    def fastchat_score(self) -> float | None:
        """None: FastChat has no such judge."""
        return None


class ModelRating(ModelReply, RatedAnswer):
    """A judging model's rating of an answer, 1 to 10; None where a parser finds no rating in the reply."""

    score: Number | None
    """FastChat's parser."""
    strict: Annotated[int | float, Field(ge=parsers.LOWEST, le=parsers.HIGHEST)] | None
    """The strict parser."""

    @property
    def reported_score(self) -> float | None:
        """The strict parser's rating: FastChat's takes `[[95]]` for a rating from 1 to 10."""
        return None if self.cut_off else self.strict

    @property
    def fastchat_score(self) -> float | None:
        return None if self.cut_off else self.score


Rating = SimilarityRating | ModelRating


class PairwiseVerdict(ModelReply, ComparedAnswers):
    """A judging model's verdict on two answers: `A` the first is better, `B` the second, `tie`, or None where a parser
    finds no verdict in the reply."""

    winner: Verdict | None
    """FastChat's parser."""
    strict: Verdict | None
    """The strict parser."""

    @property
    def reported_winner(self) -> Verdict | None:
        """The strict parser's verdict."""
        return None if self.cut_off else self.strict

    @property
    def fastchat_winner(self) -> Verdict | None:
        return None if self.cut_off else self.winner


Judgment = SimilarityRating | ModelRating | PairwiseVerdict
JudgmentType = TypeVar("JudgmentType", bound=Judgment)


class CheckRecord(Record):
    """How many judgments the check of a judge takes: check.json."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    wanted: dict[str, Annotated[int, Field(ge=0)]]
    """By set of questions; 0 for a set that the judge cannot be checked on."""


def latest_judgments(judgments: Iterable[JudgmentType]) -> list[JudgmentType]:
    """The last judgment of each key: judgments by different prompts share a key, and the last prompt counts."""
    return list({judgment.key: judgment for judgment in judgments}.values())
