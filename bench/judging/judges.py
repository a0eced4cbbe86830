"""The judges, behind two protocols: every judge rates answers, and some compare two answers as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from bench.judging import parsers, prompts, similarity
from bench.judging.endpoint_settings import Endpoint
from bench.judging.judgment_records import (
    AnswersToCompare,
    AnswerToRate,
    JudgmentKey,
    ModelRating,
    ModelReply,
    PairwiseVerdict,
    Rating,
)
from bench.judging.prompts import Prompt
from bench.judging.reply import Reply
from bench.judging.request_queue import Usage, send_all
from bench.judging.thoughts import text_after_thoughts
from bench.store.judge_record import JudgeRecord

if TYPE_CHECKING:
    from bench.progress import Advance

Subject = TypeVar("Subject", AnswerToRate, AnswersToCompare)


@dataclass
class JudgingResult:
    """The result of judging a number of answers; the judgments themselves were handed on one by one."""

    usage: Usage | None = None
    """None for a judge that sends no requests."""
    failed: dict[JudgmentKey, str] = field(default_factory=dict)
    """Why a judgment failed, by key. Failed judgments are missing."""


class Judge(Protocol):
    """Rates open answers."""

    identity: JudgeRecord
    needs_reference: bool
    """True if the judge rates only answers to questions that have a reference answer."""

    def prompt_hash(self, answer: AnswerToRate) -> str:
        """Hash of what the judge is given besides the answer. Another prompt gives another judgment."""

    def rate(self, answers: Sequence[AnswerToRate], keep: Callable[[Rating], None], advance: Advance) -> JudgingResult:
        """Rate answers; `keep` is called with each rating as it arrives."""


@runtime_checkable
class PairwiseJudge(Judge, Protocol):
    """A judge that also says which of two answers is better."""

    def pair_prompt_hash(self, pair: AnswersToCompare) -> str:
        """Hash of what the judge is given besides the two answers."""

    def compare(
        self, pairs: Sequence[AnswersToCompare], keep: Callable[[PairwiseVerdict], None], advance: Advance
    ) -> JudgingResult:
        """Compare two answers at a time; `keep` is called with each verdict as it arrives."""


class SimilarityJudge:
    """Similarity to reference answers (`bench.judging.similarity`)."""

    needs_reference = True

    def __init__(self) -> None:
        self.identity = similarity.judge_record()

    def prompt_hash(self, answer: AnswerToRate) -> str:
        return similarity.turn_references_hash(answer)

    def rate(self, answers: Sequence[AnswerToRate], keep: Callable[[Rating], None], advance: Advance) -> JudgingResult:
        for number, answer in enumerate(answers, start=1):
            keep(similarity.rate(answer))
            advance(number, len(answers), "judgments")
        return JudgingResult()


class EndpointJudge:
    """A model behind an OpenAI-compatible endpoint, with FastChat's prompts. Each reply is read by FastChat's parser
    and by the strict one; both results are kept. Thoughts, and replies that were cut off, have no score."""

    needs_reference = False

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.identity = JudgeRecord(
            kind="openai",
            name=endpoint.model,
            scale=(1.0, 10.0),
            settings={
                "address": endpoint.address,
                "temperature": endpoint.temperature,
                "max_tokens": endpoint.max_tokens,
                "seed": endpoint.seed,
                "prompts": prompts.templates_hash(),
            },
        )

    def prompt_hash(self, answer: AnswerToRate) -> str:
        return self._rating_prompt(answer).hash

    def rate(self, answers: Sequence[AnswerToRate], keep: Callable[[Rating], None], advance: Advance) -> JudgingResult:
        def record(answer: AnswerToRate, prompt: Prompt, reply: Reply) -> None:
            keep(
                ModelRating(
                    **answer.record().model_dump(),
                    **self._record(prompt, reply).model_dump(),
                    score=parsers.fastchat_rating(text_after_thoughts(reply.text, reply.finish_reason)),
                    strict=parsers.strict_rating(text_after_thoughts(reply.text, reply.finish_reason)),
                )
            )

        return self._send(((answer, self._rating_prompt(answer)) for answer in answers), record, advance)

    def pair_prompt_hash(self, pair: AnswersToCompare) -> str:
        return self._comparison_prompt(pair).hash

    def compare(
        self, pairs: Sequence[AnswersToCompare], keep: Callable[[PairwiseVerdict], None], advance: Advance
    ) -> JudgingResult:
        def record(pair: AnswersToCompare, prompt: Prompt, reply: Reply) -> None:
            keep(
                PairwiseVerdict(
                    **pair.record().model_dump(),
                    **self._record(prompt, reply).model_dump(),
                    winner=parsers.fastchat_verdict(text_after_thoughts(reply.text, reply.finish_reason)),
                    strict=parsers.strict_verdict(text_after_thoughts(reply.text, reply.finish_reason)),
                )
            )

        return self._send(((pair, self._comparison_prompt(pair)) for pair in pairs), record, advance)

    def _rating_prompt(self, answer: AnswerToRate) -> Prompt:
        return prompts.rating_prompt(answer.question, answer.turn, answer.answers, not answer.blind)

    def _comparison_prompt(self, pair: AnswersToCompare) -> Prompt:
        return prompts.comparison_prompt(pair.first.question, pair.first.turn, pair.first.answers, pair.second.answers)

    def _send(
        self,
        questions: Iterable[tuple[Subject, Prompt]],
        record: Callable[[Subject, Prompt, Reply], None],
        advance: Advance,
    ) -> JudgingResult:
        """Send all prompts. What they cost is taken off the spending limit of later calls."""
        usage, failed = send_all(self.endpoint, questions, record, advance)
        if self.endpoint.spending_limit is not None and usage.dollars is not None:
            left = max(0.0, self.endpoint.spending_limit - usage.dollars)
            self.endpoint = replace(self.endpoint, spending_limit=left)
        return JudgingResult(usage, {subject.key: reason for subject, reason in failed.items()})

    def _record(self, prompt: Prompt, reply: Reply) -> ModelReply:
        return ModelReply(
            judge=(self.identity.label, prompt.name),
            prompt_hash=prompt.hash,
            judgment=reply.text,
            served=reply.model,
            finish_reason=reply.finish_reason,
            refused_parameters=reply.refused_parameters,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            tstamp=round(time.time(), 3),
        )
