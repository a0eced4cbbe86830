"""Does a judge judge at all? Gold answers set against answers of other questions and against truncated ones.

Gold answers are the reference answers. A judge behind an endpoint is asked about them by the prompt that shows no
reference. A judge that measures similarity to the reference passes that by construction, so for it the gold answer is a
second, independent reference answer, and where there is none the check says so.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.open_questions import OpenQuestion
from bench.data.questions import normalize
from bench.judging.judges import Judge, Round
from bench.judging.ledger import Asked, Ledger, Row, key_of, latest, read_rows
from bench.judging.measures import Separation, noise, separation
from bench.store.files import write_json
from bench.store.folder import Results

if TYPE_CHECKING:
    from bench.progress import Listener

GOLD, OTHER, TRUNCATED = "gold", "other", "truncated"
KINDS = {OTHER: "answers of other questions", TRUNCATED: "the same answers, cut off after a third"}
"""What gold answers are set against."""

ENOUGH = 0.9
"""Share of a check's judgments that must have come for it to say anything."""

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
                if len(set(map(normalize, answers.values()))) < len(answers):
                    continue  # too short to be cut, or the same as another question's
                for kind, text in answers.items():
                    one = Asked(name, shown, turn, (*before, text), kind, 0, blind=not needs_reference)
                    found += [one, replace(one, repeat=1)] if kind == GOLD else [one]
    return found


def truncated(text: str) -> str:
    """An answer up to the end of its first third of words, one at least."""
    kept = max(1, len(text.split()) // 3)
    return re.match(rf"(?:\s*\S+){{0,{kept}}}", text).group()


def check(
    results: Results, judge: Judge, questions: Mapping[str, Sequence[OpenQuestion]], progress: Listener
) -> tuple[int, int, Round]:
    """Ask a judge what it was not asked yet, and keep what it says; what belongs to another check (of other questions
    or references) is removed. Returns how many judgments a check takes, how many of them were there, and how the asking
    went."""
    wanted = {(one.key, judge.prompt_hash(one)): one for one in asked(questions, judge.needs_reference)}
    folder = results.judge(judge.identity.label)
    before = read_wanted(folder)
    counts = {name: sum(one.set == name for one in wanted.values()) for name in questions}
    write_json(folder / "check.json", {"wanted": {**before, **counts}})
    ledger = Ledger(folder / "check.jsonl")
    others = {(key_of(row), row.get("prompt_hash")) for row in read_rows(ledger.path) if row["set"] not in questions}
    ledger.keep_only({*wanted, *others})
    lacking = [one for (_, prompt), one in wanted.items() if ledger.lacks(one, prompt)]
    outcome = judge.judge(lacking, ledger.add, progress.stage(f"checking {judge.identity.name}"))
    return len(wanted), len(wanted) - len(lacking), outcome


def read_wanted(folder: Path) -> dict[str, int]:
    """How many judgments a check of each set takes, as it was begun; none for a set that it cannot be checked on.
    Empty for a judge that was never checked."""
    path = folder / "check.json"
    return json.loads(path.read_text(encoding="utf-8"))["wanted"] if path.is_file() else {}


@dataclass(frozen=True)
class Checked:
    """What a check says of a judge and a set of questions."""

    set: str
    separations: dict[str, Separation]
    """By what the gold answers were set against (`KINDS`)."""
    noise: float | None
    """The s.d. of one judgment, from gold answers that were judged twice."""
    wanted: int
    """Judgments that the check takes; none where the judge cannot be checked on this set."""
    had: int
    """Those that came and had a rating."""

    @property
    def whole(self) -> bool:
        return self.wanted > 0 and self.had >= ENOUGH * self.wanted

    @property
    def useless(self) -> bool:
        """Whether the judge tells gold answers from either of the others too badly to be believed, or says nothing."""
        silent = self.wanted > 0 and self.had == 0
        return silent or any(one.useless for one in self.separations.values())


def checked(rows: Iterable[Row], score: str, wanted: Mapping[str, int]) -> list[Checked]:
    """What the judgments of a check come to, by set. `score` is the rows' column that is believed; `wanted` says how
    many judgments the check of each set takes."""
    by_set: defaultdict[str, list[Row]] = defaultdict(list)
    for row in latest(rows):
        by_set[row["set"]].append(row)
    return [_checked(name, by_set[name], score, count) for name, count in wanted.items()]


def _checked(name: str, rows: Sequence[Row], score: str, wanted: int) -> Checked:
    found: dict[str, defaultdict[Hashable, list[float]]] = {kind: defaultdict(list) for kind in (GOLD, *KINDS)}
    twice: defaultdict[Any, dict[int, float]] = defaultdict(dict)
    known = [row for row in rows if row[score] is not None]
    for row in known:
        if row["model"] == GOLD:
            twice[row["question_id"], row["turn"]][row["repeat"]] = row[score]
        if row["repeat"] == 0:
            found[row["model"]][row["question_id"]].append(row[score])
    pairs = [(one[0], one[1]) for one in twice.values() if len(one) == 2]
    separations = {kind: one for kind in KINDS if (one := separation(found[GOLD], found[kind])) is not None}
    spread = noise(*zip(*pairs, strict=True)) if pairs else None
    return Checked(name, separations, spread, wanted, len(known))
