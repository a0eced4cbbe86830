"""The check of a judge: does it rate gold answers above answers to other questions, and above truncated answers?

Gold answers are the reference answers. A judge behind an endpoint rates them with the prompt that shows no reference.
The judge that measures similarity to the reference would pass that check by construction, so its gold answer is a
second, independent reference answer; where a question has none, the check reports that the judge cannot be checked.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.data.open_questions import OpenQuestion
from bench.data.questions import normalize
from bench.judging.judges import Judge, JudgingResult
from bench.judging.judgment_records import AnswerToRate, Rating, latest_judgments
from bench.judging.ledger import Ledger, check_ratings, read_check_counts, write_check_counts
from bench.judging.measures import Separation, judgment_noise, separation
from bench.store.damage import CorruptFile
from bench.store.folder import Results

if TYPE_CHECKING:
    from bench.progress import Listener

GOLD, OTHER, TRUNCATED = "gold", "other", "truncated"
INFERIOR = {OTHER: "answers of other questions", TRUNCATED: "the same answers, cut off after a third"}
"""The kinds of answers that gold answers are compared with, and their names in the report."""

COMPLETE_SHARE = 0.9
"""The share of its judgments that a check needs to be complete."""

MOST_QUESTIONS = 60
"""Per set, drawn with a fixed seed: a check takes four judgments a turn."""


def check_answers(sets: Mapping[str, Sequence[OpenQuestion]], needs_reference: bool) -> list[AnswerToRate]:
    """The answers that a check has rated: for each question the gold answer twice (for the noise), another question's
    answer and a truncated answer. Sets without suitable gold answers contribute none."""
    answers: list[AnswerToRate] = []
    for name, questions in sets.items():
        usable = [question for question in questions if len(question.references) > needs_reference]
        if len(usable) < 2:
            continue
        draw = random.Random(f"check:{name}")
        usable = draw.sample(usable, min(MOST_QUESTIONS, len(usable)))
        for question, other in zip(usable, [*usable[1:], usable[0]], strict=True):  # a cycle: never the same question
            answers += _of_question(name, question, other, blind=not needs_reference)
    return answers


def _of_question(name: str, question: OpenQuestion, other: OpenQuestion, blind: bool) -> list[AnswerToRate]:
    """The answers of a check to one question; `other` is the question whose gold answer serves as a wrong answer."""
    answers: list[AnswerToRate] = []
    gold, other_gold = question.references[-1], other.references[-1]
    shown = replace(question, references=question.references[:1])
    for turn in range(1, len(question.turns) + 1):
        # Earlier turns always have the gold answer: the turn itself is rated.
        before = gold[: turn - 1]
        texts = {
            GOLD: gold[turn - 1],
            OTHER: other_gold[min(turn, len(other_gold)) - 1],
            TRUNCATED: truncated(gold[turn - 1]),
        }
        if len(set(map(normalize, texts.values()))) < len(texts):
            continue  # too short to be truncated, or the same as the other question's answer
        for kind, text in texts.items():
            answer = AnswerToRate(name, shown, turn, (*before, text), kind, 0, blind)
            answers += [answer, replace(answer, repeat=1)] if kind == GOLD else [answer]
    return answers


def truncated(text: str) -> str:
    """The first third of a text's words, at least one word."""
    words = max(1, len(text.split()) // 3)
    match = re.match(rf"(?:\s*\S+){{0,{words}}}", text)
    return match.group() if match else ""


def run_check(
    results: Results, judge: Judge, questions: Mapping[str, Sequence[OpenQuestion]], progress: Listener
) -> tuple[int, int, JudgingResult]:
    """Have the missing ratings of a judge's check made, and append them to its ledger. Ratings that belong to other
    questions or references are removed.

    Returns how many ratings the check takes, how many were there before, and the result of the judging.
    """
    label = judge.identity.label
    wanted = {
        (answer.key, judge.prompt_hash(answer)): answer for answer in check_answers(questions, judge.needs_reference)
    }
    counts = {name: sum(answer.set == name for answer in wanted.values()) for name in questions}
    try:
        before = read_check_counts(results, label)
    except CorruptFile:  # written anew
        before = {}
    write_check_counts(results, label, {**before, **counts})
    ledger = Ledger(check_ratings(results, label))
    of_other_sets = {(key, prompt_hash) for key, prompt_hash in ledger.present if key.set not in questions}
    ledger.keep_only({*wanted, *of_other_sets})
    missing = [answer for (_, prompt_hash), answer in wanted.items() if ledger.lacks(answer, prompt_hash)]
    result = judge.rate(missing, ledger.add, progress.stage(f"checking {judge.identity.name}"))
    return len(wanted), len(wanted) - len(missing), result


@dataclass(frozen=True)
class CheckResult:
    """The result of a check of a judge on one set of questions."""

    set: str
    separations: dict[str, Separation]
    """By the kind of answers that gold answers were compared with (`INFERIOR`)."""
    noise: float | None
    """The standard deviation of one rating, from gold answers that were rated twice."""
    wanted: int
    """Ratings that the check takes; 0 where the judge cannot be checked on this set."""
    rated: int
    """Ratings that arrived and hold a score."""

    @property
    def complete(self) -> bool:
        return self.wanted > 0 and self.rated >= COMPLETE_SHARE * self.wanted

    @property
    def failed(self) -> bool:
        """True if no rating holds a score, or if the AUC against either kind of answers is below the minimum."""
        unrated = self.wanted > 0 and self.rated == 0
        return unrated or any(separation.insufficient for separation in self.separations.values())


def check_results(ratings: Iterable[Rating], wanted: Mapping[str, int]) -> list[CheckResult]:
    """The results of a judge's check, by set; `wanted` has the number of ratings that the check of each set takes."""
    by_set: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in latest_judgments(ratings):
        by_set[rating.set].append(rating)
    return [_check_result(name, by_set[name], count) for name, count in wanted.items()]


def _check_result(name: str, ratings: Sequence[Rating], wanted: int) -> CheckResult:
    scores: dict[str, defaultdict[Hashable, list[float]]] = {kind: defaultdict(list) for kind in (GOLD, *INFERIOR)}
    repeated: defaultdict[Hashable, dict[int, float]] = defaultdict(dict)
    rated = 0
    for rating in ratings:
        score = rating.reported_score
        if score is None:
            continue
        rated += 1
        if rating.model == GOLD:
            repeated[rating.question_id, rating.turn][rating.repeat] = score
        if rating.repeat == 0:
            scores[rating.model][rating.question_id].append(score)
    pairs = [(twice[0], twice[1]) for twice in repeated.values() if len(twice) == 2]
    separations = {kind: auc for kind in INFERIOR if (auc := separation(scores[GOLD], scores[kind])) is not None}
    noise = judgment_noise(*zip(*pairs, strict=True)) if pairs else None
    return CheckResult(name, separations, noise, wanted, rated)
