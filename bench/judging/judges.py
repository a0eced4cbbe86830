"""The judges, behind one interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from bench.judging import parsers, prompts, similarity
from bench.judging.endpoint import Endpoint
from bench.judging.ledger import Asked, JudgeIdentity, Pair, Row
from bench.judging.request import Reply
from bench.judging.request_queue import Spent, ask_all

if TYPE_CHECKING:
    from bench.progress import Advance


@dataclass
class Round:
    """How a round of judging went."""

    spent: Spent | None = None
    """None for a judge that costs nothing."""
    failed: dict[Any, str] = field(default_factory=dict)
    """Why judgments could not be had, by their keys: they are missing."""


class Judge(Protocol):
    """Whoever scores open answers."""

    identity: JudgeIdentity
    needs_reference: bool
    """It can only judge answers to questions that have a reference answer."""

    def prompt_hash(self, asked: Asked) -> str:
        """Of what the judge is given besides the answer: a judgment by another prompt is another judgment."""

    def judge(self, asked: Sequence[Asked], keep: Callable[[Asked, Row], None], advance: Advance) -> Round:
        """Judge what is asked; `keep` is told of each judgment as it comes."""


class Reference:
    """Similarity to reference answers (`bench.judging.similarity`)."""

    needs_reference = True

    def __init__(self) -> None:
        self.identity = similarity.identity()

    def prompt_hash(self, asked: Asked) -> str:
        return similarity.references_of(asked)

    def judge(self, asked: Sequence[Asked], keep: Callable[[Asked, Row], None], advance: Advance) -> Round:
        for number, one in enumerate(asked, 1):
            keep(one, similarity.judged(one))
            advance(number, len(asked), "judgments")
        return Round()


class OpenAI:
    """A model behind an OpenAI-compatible endpoint, asked with FastChat's prompts. Of every reply both parsers' results
    are kept: `score` is FastChat's, `strict` the strict one's."""

    needs_reference = False

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        settings = {
            "address": endpoint.address,
            "temperature": endpoint.temperature,
            "max_tokens": endpoint.max_tokens,
            "seed": endpoint.seed,
            "prompts": prompts.fingerprint(),
        }
        self.identity = JudgeIdentity("openai", endpoint.model, (1.0, 10.0), settings)

    def prompt_hash(self, asked: Asked) -> str:
        return self._prompt(asked).hash

    def judge(self, asked: Sequence[Asked], keep: Callable[[Asked, Row], None], advance: Advance) -> Round:
        def record(one: Asked, prompt: prompts.Prompt, reply: Reply) -> None:
            scores = {"score": parsers.fastchat_rating(reply.text), "strict": parsers.strict_rating(reply.text)}
            keep(one, {**self._told(prompt, reply), **scores})

        return self._asked(((one, self._prompt(one)) for one in asked), record, advance)

    def _prompt(self, asked: Asked) -> prompts.Prompt:
        return prompts.single(asked.question, asked.turn, asked.answers, not asked.blind)

    def compare(self, pairs: Sequence[Pair], keep: Callable[[Pair, Row], None], advance: Advance) -> Round:
        """Have each two answers set against one another; `winner` is FastChat's, `strict` the strict parser's: `A` the
        first, `B` the second, `tie`, or None."""

        def record(one: Pair, prompt: prompts.Prompt, reply: Reply) -> None:
            verdicts = {"winner": parsers.fastchat_verdict(reply.text), "strict": parsers.strict_verdict(reply.text)}
            keep(one, {**self._told(prompt, reply), **verdicts})

        return self._asked(((one, self.pair_prompt(one)) for one in pairs), record, advance)

    def pair_prompt(self, pair: Pair) -> prompts.Prompt:
        """What it is asked of two answers."""
        return prompts.pair(pair.first.question, pair.first.turn, pair.first.answers, pair.second.answers)

    def _asked(self, made: Iterable[tuple[Any, prompts.Prompt]], record: Any, advance: Advance) -> Round:
        """Ask it all. What is spent counts against the limit of whatever is asked later, too."""
        spent, failed = ask_all(self.endpoint, made, record, advance)
        if self.endpoint.spending_limit is not None and spent.dollars is not None:
            left = max(0.0, self.endpoint.spending_limit - spent.dollars)
            self.endpoint = replace(self.endpoint, spending_limit=left)
        return Round(spent, {one.key: reason for one, reason in failed.items()})

    def _told(self, prompt: prompts.Prompt, reply: Reply) -> Row:
        return {
            "judge": [self.identity.label, prompt.name],
            "prompt_hash": prompt.hash,
            "judgment": reply.text,
            "served": reply.model,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "tstamp": round(time.time(), 3),
        }
