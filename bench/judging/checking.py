"""Does a judge judge at all? Gold answers set against answers of other questions and against truncated ones.

Gold answers are the reference answers. A judge behind an endpoint is asked about them by the prompt that shows no
reference. A judge that measures similarity to the reference passes that by construction, so for it the gold answer is a
second, independent reference answer, and where there is none the check says so.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.data.open_questions import OpenQuestion
from bench.judging.judges import Judge, Outcome, Reference
from bench.judging.judgments import Asked, Ledger, Row
from bench.judging.measures import Separation, noise, separation
from bench.store import Results, write_json

if TYPE_CHECKING:
    from bench.runner.progress import Listener

GOLD, OTHER, TRUNCATED = "gold", "other", "truncated"
KINDS = {OTHER: "answers of other questions", TRUNCATED: "the same answers, cut off after a third"}
"""What gold answers are set against."""

MOST_QUESTIONS = 60
"""Of a set, drawn by a fixed seed: a check costs four judgments a turn."""


def asked(sets: Mapping[str, Sequence[OpenQuestion]], needs_reference: bool) -> list[Asked]:
    """The judgments of a check: of each question with a gold answer the gold one twice (its noise), another question's
    and a truncated one; empty where no set has gold answers that mean anything to the judge."""
    found: list[Asked] = []
    for name, questions in sets.items():
        usable = [one for one in questions if len(one.references) > needs_reference]
        if len(usable) < 2:
            continue
        draw = random.Random(f"check:{name}")
        usable = draw.sample(usable, min(MOST_QUESTIONS, len(usable)))
        for question, other in zip(usable, [*usable[1:], usable[0]], strict=True):  # a cycle: nobody is its own
            gold, strange = question.references[-1], other.references[-1]
            shown = replace(question, references=question.references[:1])
            for turn in range(1, len(question.turns) + 1):
                wrong = strange[min(turn, len(strange)) - 1]
                # What came before is the gold answer's in any case: the turn itself is what is judged.
                before = gold[: turn - 1]
                answers = {GOLD: gold[turn - 1], OTHER: wrong, TRUNCATED: truncated(gold[turn - 1])}
                for kind, text in answers.items():
                    one = Asked(name, shown, turn, (*before, text), kind, 0, blind=not needs_reference)
                    found += [one, replace(one, repeat=1)] if kind == GOLD else [one]
    return found


def truncated(text: str) -> str:
    """The first third of an answer's words, one at least."""
    words = text.split()
    return " ".join(words[: max(1, len(words) // 3)])


def check(
    results: Results, judge: Judge, questions: Mapping[str, Sequence[OpenQuestion]], progress: Listener
) -> tuple[int, int, Outcome]:
    """Ask a judge what it was not asked yet, and keep what it says. Returns how many judgments a check takes, how many
    of them were there, and how the asking went."""
    wanted = asked(questions, judge.needs_reference)
    with Ledger(results.judge(judge.identity.label) / "check.jsonl") as ledger:
        lacking = [one for one in wanted if ledger.lacks(one)]
        outcome = judge.judge(lacking, ledger.add, progress.stage(f"checking {judge.identity.name}"))
    return len(wanted), len(wanted) - len(lacking), outcome


def check_reference(results: Results, questions: Mapping[str, Sequence[OpenQuestion]], progress: Listener) -> None:
    """Check the judge that costs nothing, and whose judgments are made as the cells answer."""
    judge = Reference()
    write_json(results.judge(judge.identity.label) / "judge.json", judge.identity.record())
    check(results, judge, questions, progress)


@dataclass(frozen=True)
class Checked:
    """What a check says of a judge and a set of questions."""

    set: str
    separations: dict[str, Separation]
    """By what the gold answers were set against (`KINDS`)."""
    noise: float | None
    """The s.d. of one judgment, from gold answers that were judged twice."""
    missing: int
    """Judgments without a rating."""

    @property
    def useless(self) -> bool:
        """Whether the judge tells gold answers from either of the others too badly to be believed."""
        return any(one.useless for one in self.separations.values())


def checked(rows: Iterable[Row], score: str) -> list[Checked]:
    """What the judgments of a check come to, by set. `score` is the rows' column that is believed."""
    by_set: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_set[row["set"]].append(row)
    return [_checked(name, own, score) for name, own in by_set.items()]


def _checked(name: str, rows: Sequence[Row], score: str) -> Checked:
    found: dict[str, defaultdict[Hashable, list[float]]] = {kind: defaultdict(list) for kind in (GOLD, *KINDS)}
    twice: defaultdict[Any, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row[score] is None:
            continue
        if row["model"] == GOLD:
            twice[row["question_id"], row["turn"]][row["repeat"]] = row[score]
        if row["repeat"] == 0:
            found[row["model"]][row["question_id"]].append(row[score])
    pairs = [(one[0], one[1]) for one in twice.values() if len(one) == 2]
    separations = {kind: one for kind in KINDS if (one := separation(found[GOLD], found[kind])) is not None}
    spread = noise(*zip(*pairs, strict=True)) if pairs else None
    return Checked(name, separations, spread, sum(row[score] is None for row in rows))
