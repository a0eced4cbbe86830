"""A results folder judged: what its cells answered, what a judge is still to be asked, and where its judgments go."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from bench.data.open_questions import OpenQuestion
from bench.errors import UserError, unknown
from bench.evaluation.open_answers import read_answers
from bench.judging import judge_check
from bench.judging.judges import Judge, OpenAI, Round
from bench.judging.ledger import Asked, Ledger, Pair, baseline_of, turns_of
from bench.judging.question_files import questions_of
from bench.judging.request_queue import Spent
from bench.progress import Progress
from bench.store.files import write_json
from bench.store.folder import CellFolder, Results
from bench.store.locks import holding


@dataclass(frozen=True)
class Work:
    """What of a folder is to be judged."""

    cells: str = "*"
    """A pattern of the cells' names."""
    sets: tuple[str, ...] = ()
    """Sets of questions; empty: all."""
    repeats: int = 1
    check: bool = False
    """Check the judge as well."""
    pairs: str = "none"
    """`baseline`: each cell against the baseline method's at equal samples and seed; `all`: each against each."""


@dataclass
class Tally:
    """What a round of judging came to."""

    wanted: int = 0
    there: int = 0
    """Judgments that were there before."""
    made: int = 0
    spent: Spent | None = None
    failed: dict[Any, str] = field(default_factory=dict)
    """Why judgments could not be had, by their keys."""

    def add(self, wanted: int, there: int, outcome: Round) -> None:
        """Count one part of the round."""
        self.wanted += wanted
        self.there += there
        self.made += wanted - there - len(outcome.failed)
        self.failed |= outcome.failed
        if outcome.spent is not None:
            self.spent = outcome.spent if self.spent is None else self.spent + outcome.spent

    def lines(self) -> list[str]:
        """The round in words."""
        said = [f"{self.wanted:,} judgments wanted, {self.there:,} were there, {self.made:,} made"]
        if self.spent is not None:
            dollars = "" if self.spent.dollars is None else f", {self.spent.dollars:.2f} dollars"
            said.append(
                f"{self.spent.requests:,} requests ({self.spent.retried:,} of them retries), "
                f"{self.spent.prompt_tokens:,} tokens in, {self.spent.completion_tokens:,} out{dollars}"
            )
        for reason, count in Counter(self.failed.values()).most_common(5):
            said.append(f"{count:,} missing: {reason}; the same command asks again")
        return said


def judge_folder(results: Results, judge: Judge, work: Work, progress: Progress) -> Tally:
    """Have a judge judge what is there and not judged yet; what it says is kept as it comes.

    Raises UserError where another process is at it with the same judge, for a set or cells that are not there, and
    for what the judge cannot do.
    """
    questions = questions_of(results)
    for name in work.sets:
        if name not in questions:
            raise unknown("set of open questions", name, questions)
    chosen = {name: rows for name, rows in questions.items() if not work.sets or name in work.sets}
    # What cannot be done is said before anything is asked, and paid.
    answered = _answered(results, work, chosen)
    pairs = _pairs(results, judge, work, answered) if work.pairs != "none" else []
    total = Tally()
    label = judge.identity.label
    with holding(results, f"judge-{label}") as mine:
        if not mine:
            raise UserError(f"another process is judging {results.path} by {judge.identity.name}", "Wait for it.")
        write_json(results.judge(label) / "judge.json", judge.identity.record())
        if work.check:
            total.add(*judge_check.check(results, judge, chosen, progress))
        wanted = [
            replace(one, repeat=repeat)
            for own in answered.values()
            for one in own
            if one.question.references or not judge.needs_reference
            for repeat in range(work.repeats)
        ]
        names = dict.fromkeys(one.model for one in wanted)
        ledgers = {name: Ledger(CellFolder(results.path / "cells" / name).judgments(label)) for name in names}
        lacking = [one for one in wanted if ledgers[one.model].lacks(one, judge.prompt_hash(one))]
        advance = progress.stage(f"{judge.identity.name} judging")
        outcome = judge.judge(lacking, lambda one, row: ledgers[one.model].add(one, row), advance)
        total.add(len(wanted), len(wanted) - len(lacking), outcome)
        if pairs:
            ledger = Ledger(results.judge(label) / "pairs.jsonl")
            lacking = [one for one in pairs if ledger.lacks(one, judge.pair_prompt(one).hash)]
            outcome = judge.compare(lacking, ledger.add, progress.stage(f"{judge.identity.name} comparing"))
            total.add(len(pairs), len(pairs) - len(lacking), outcome)
    return total


def _answered(results: Results, work: Work, questions: dict[str, tuple[OpenQuestion, ...]]) -> dict[str, list[Asked]]:
    """What each cell of the plan answered, by its folder."""
    found: dict[str, list[Asked]] = {}
    cells = [one for one in results.plan()["cells"] if fnmatch.fnmatch(one["name"], work.cells)]
    if not cells:
        raise UserError(f"no cell's name fits {work.cells!r}", "`bench plan` lists the names.")
    for planned in cells:
        folder = CellFolder(results.path / "cells" / planned["folder"])
        recorded = folder.metrics().get("answers", {}) if (folder.path / "cell.json").is_file() else {}
        for identity in (recorded[id] for id in planned.get("answers", ()) if id in recorded):
            if identity["set"] in questions:
                answers = read_answers(folder, identity["file"])
                for question in questions[identity["set"]]:
                    turns = turns_of(identity["set"], question, answers.get(question.id, []), planned["folder"])
                    found.setdefault(planned["folder"], []).extend(turns)
    if not found:
        raise UserError(f"no cell of {results.path} has answered anything yet", "Run the sweep first.")
    return found


def _pairs(results: Results, judge: Judge, work: Work, answered: dict[str, list[Asked]]) -> list[Pair]:
    """The cells' answers that are to be set against one another, each two in both orders."""
    if not isinstance(judge, OpenAI):
        raise UserError(f"{judge.identity.name} compares no two answers", "Ask an openai judge for --pairwise.")
    plan = results.plan()
    cells = {one["folder"]: one for one in plan["cells"]}
    baseline = baseline_of(plan)
    pairs = []
    for first, second in itertools.combinations(answered, 2):
        if not _meet(cells[first], cells[second], work.pairs, baseline):
            continue
        of_second = {(one.set, one.question.id, one.turn): one for one in answered[second]}
        for one in answered[first]:
            other = of_second.get((one.set, one.question.id, one.turn))
            if other is not None:
                pairs += [Pair(one, other, 1), Pair(other, one, 2)]
    if not pairs:
        raise UserError(
            f"no two of these cells meet: each is set against {baseline} at equal samples and seed",
            "Let --cells take the baseline's cells in, or give --pairwise all.",
        )
    return pairs


def _meet(first: dict[str, Any], second: dict[str, Any], how: str, baseline: str) -> bool:
    """Whether two cells are set against each other: of equal samples and seed, or one of them untuned."""
    untuned = "base" in (first["method"], second["method"])
    if not untuned and (first["samples"], first["seed"]) != (second["samples"], second["seed"]):
        return False
    return how == "all" or baseline in (first["method"], second["method"])
