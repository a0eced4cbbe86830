"""Judging a results folder: which answers its cells gave, which judgments are missing, and where they are written."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

from bench.data.open_questions import OpenQuestion
from bench.errors import UserError, unknown
from bench.evaluation.open_answers import read_answers
from bench.judging.judge_check import run_check
from bench.judging.judges import Judge, JudgingResult, PairwiseJudge
from bench.judging.judgment_records import AnswersToCompare, AnswerToRate, JudgmentKey, Rating, answers_to_rate
from bench.judging.ledger import Ledger, cell_ratings, pairwise_verdicts, write_judge
from bench.judging.prompts import NEED_REFERENCE
from bench.judging.question_files import load_questions, plan_with_questions
from bench.judging.request_queue import Usage
from bench.progress import Listener
from bench.store import locks
from bench.store.damage import CorruptFile
from bench.store.folder import CellFolder, Results
from bench.store.recorded_sweep import plan_problem
from bench.store.records import PlannedRecord, PlanRecord

Pairs = Literal["none", "baseline", "all"]
"""Which cells' answers are compared: none, each cell's with the baseline's, or every two cells'."""


def parse_pairs(text: str) -> Pairs:
    """Raises UserError for a text that is not one of the choices."""
    for choice in get_args(Pairs):
        if text == choice:
            return cast(Pairs, choice)
    raise unknown("choice of pairs", text, get_args(Pairs))


@dataclass(frozen=True)
class JudgingOptions:
    """Which answers of a folder are judged, and how."""

    cells: str = "*"
    """A pattern of the cells' names."""
    sets: tuple[str, ...] = ()
    """Sets of questions; empty: all."""
    repeats: int = 1
    """Ratings of each answer."""
    check: bool = False
    """Check the judge as well."""
    pairs: Pairs = "none"
    """`baseline`: compare each cell with the baseline method's at equal samples and seed; `all`: every two cells."""


@dataclass
class JudgingSummary:
    """Counts of the judgments of one call of `judge_folder`."""

    wanted: int = 0
    present: int = 0
    """Judgments that were there before."""
    new: int = 0
    usage: Usage | None = None
    failed: dict[JudgmentKey, str] = field(default_factory=dict)
    """Why a judgment failed, by key."""
    without_reference: int = 0
    """Questions that call for a reference answer, have none, and are judged without one."""

    def add(self, wanted: int, present: int, result: JudgingResult) -> None:
        """Add the check, the ratings or the comparisons."""
        self.wanted += wanted
        self.present += present
        self.new += wanted - present - len(result.failed)
        self.failed |= result.failed
        if result.usage is not None:
            self.usage = result.usage if self.usage is None else self.usage + result.usage

    def lines(self) -> list[str]:
        """The counts as sentences."""
        lines = [f"{self.wanted:,} judgments wanted, {self.present:,} were there, {self.new:,} made"]
        if self.usage is not None:
            dollars = "" if self.usage.dollars is None else f", {self.usage.dollars:.2f} dollars"
            lines.append(
                f"{self.usage.requests:,} requests ({self.usage.retried:,} of them retries), "
                f"{self.usage.prompt_tokens:,} prompt tokens, {self.usage.completion_tokens:,} completion tokens"
                f"{dollars}"
            )
        if self.without_reference:
            lines.append(
                f"{self.without_reference:,} questions of {', '.join(NEED_REFERENCE[:3])} have no reference answer and "
                "are judged without one, less reliably; FastChat refuses to judge them. Give `references` in the "
                "sweep's answers.sets"
            )
        for reason, count in Counter(self.failed.values()).most_common(5):
            lines.append(f"{count:,} failed: {reason}; run the same command to try again")
        return lines


def judge_folder(results: Results, judge: Judge, options: JudgingOptions, progress: Listener) -> JudgingSummary:
    """Have a judge make the judgments that are missing; each is written as it arrives.

    Raises UserError where another process judges this folder with the same judge, for a set or cells that are not
    there, and for what the judge cannot do.
    """
    questions = load_questions(results)
    for name in options.sets:
        if name not in questions:
            raise unknown("set of open questions", name, questions)
    chosen = {name: of_set for name, of_set in questions.items() if not options.sets or name in options.sets}
    plan = plan_with_questions(results)
    if problem := plan_problem(results):
        progress.line(problem)
    answers = recorded_answers(results, plan, options.cells, chosen, progress.line)
    # What the judge cannot do fails here, before a request is paid for.
    pairwise = _pairwise(judge) if options.pairs != "none" else None
    pairs = [] if pairwise is None else _pairs(plan, answers, options.pairs)
    summary = JudgingSummary()
    if not judge.needs_reference:
        summary.without_reference = sum(
            question.category in NEED_REFERENCE and not question.references
            for question in itertools.chain(*chosen.values())
        )
    with locks.judging(results, judge.identity.label) as held:
        if not held:
            raise UserError(
                f"another process is judging {results.path} with {judge.identity.name}, or is packing it",
                "Wait until it has finished.",
            )
        write_judge(results, judge.identity)
        if options.check:
            summary.add(*run_check(results, judge, chosen, progress))
        summary.add(*_rate(results, judge, answers, options.repeats, progress))
        if pairwise is not None:
            summary.add(*_compare(results, pairwise, pairs, progress))
    return summary


def _rate(
    results: Results, judge: Judge, answers: Mapping[str, list[AnswerToRate]], repeats: int, progress: Listener
) -> tuple[int, int, JudgingResult]:
    """Have the missing ratings made. Returns how many are wanted, how many were there, and the result."""
    wanted = [
        replace(answer, repeat=repeat)
        for answer in itertools.chain(*answers.values())
        if answer.question.references or not judge.needs_reference
        for repeat in range(repeats)
    ]
    label = judge.identity.label
    ledgers = {
        folder: Ledger(cell_ratings(CellFolder(results.path / "cells" / folder), label))
        for folder in dict.fromkeys(answer.model for answer in wanted)
    }

    def keep(rating: Rating) -> None:
        ledgers[rating.model].add(rating)

    missing = [answer for answer in wanted if ledgers[answer.model].lacks(answer, judge.prompt_hash(answer))]
    result = judge.rate(missing, keep, progress.stage(f"{judge.identity.name} judging"))
    return len(wanted), len(wanted) - len(missing), result


def _compare(
    results: Results, judge: PairwiseJudge, pairs: Sequence[AnswersToCompare], progress: Listener
) -> tuple[int, int, JudgingResult]:
    """Have the missing comparisons made. Returns how many are wanted, how many were there, and the result."""
    ledger = Ledger(pairwise_verdicts(results, judge.identity.label))
    missing = [pair for pair in pairs if ledger.lacks(pair, judge.pair_prompt_hash(pair))]
    result = judge.compare(missing, ledger.add, progress.stage(f"{judge.identity.name} comparing"))
    return len(pairs), len(pairs) - len(missing), result


def recorded_answers(
    results: Results,
    plan: PlanRecord,
    pattern: str,
    questions: Mapping[str, Sequence[OpenQuestion]],
    say: Callable[[str], object] | None = None,
) -> dict[str, list[AnswerToRate]]:
    """The answers of the plan's cells whose names fit the pattern, by the cell's folder. Damaged ones are left out, and
    `say` is told; without it, they raise CorruptFile."""
    answers: dict[str, list[AnswerToRate]] = {}
    cells = [cell for cell in plan.cells if fnmatch.fnmatch(cell.name, pattern)]
    if not cells:
        raise UserError(f"no cell's name fits {pattern!r}", "`bench plan` lists the names.")
    for cell in cells:
        folder = CellFolder(results.path / "cells" / cell.folder)
        try:
            recorded = folder.record().answers
            texts = {id: read_answers(folder, recorded[id].file) for id in cell.answers if id in recorded}
        except CorruptFile as error:
            if say is None:
                raise
            say(f"{error.problem}; the answers of {cell.name} are not judged")
            continue
        for id, of_set in texts.items():
            name = recorded[id].set
            for question in questions.get(name, ()):
                of_question = answers_to_rate(name, question, of_set.get(question.id, []), cell.folder)
                answers.setdefault(cell.folder, []).extend(of_question)
    if not answers:
        raise UserError(f"no cell of {results.path} has answered open questions yet", "Run the sweep first.")
    return answers


def _pairwise(judge: Judge) -> PairwiseJudge:
    if not isinstance(judge, PairwiseJudge):
        raise UserError(f"{judge.identity.name} does not compare two answers", "Choose --judge openai for --pairwise.")
    return judge


def _pairs(plan: PlanRecord, answers: Mapping[str, list[AnswerToRate]], choice: Pairs) -> list[AnswersToCompare]:
    """The answers that are compared, every two in both orders."""
    cells = {cell.folder: cell for cell in plan.cells}
    pairs: list[AnswersToCompare] = []
    for first, second in itertools.combinations(answers, 2):
        if not _compared(cells[first], cells[second], choice, plan.baseline):
            continue
        of_second = {(answer.set, answer.question.id, answer.turn): answer for answer in answers[second]}
        for answer in answers[first]:
            other = of_second.get((answer.set, answer.question.id, answer.turn))
            if other is not None:
                pairs += [AnswersToCompare(answer, other, 1), AnswersToCompare(other, answer, 2)]
    if not pairs:
        raise UserError(
            f"no two of these cells are compared: each is compared with {plan.baseline} at equal samples and seed"
            if plan.baseline
            else "no two of these cells are compared: the sweep trains no method to compare the others with",
            "Let --cells include cells of the baseline, or give --pairwise all.",
        )
    return pairs


def _compared(first: PlannedRecord, second: PlannedRecord, choice: Pairs, baseline: str | None) -> bool:
    """True if two cells are compared: at equal samples and seed, or if one is the untuned model."""
    methods = (first.method, second.method)
    if "base" not in methods and (first.samples, first.seed) != (second.samples, second.seed):
        return False
    return choice == "all" or baseline in methods
