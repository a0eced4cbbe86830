"""Reads FastChat's judgments of a results folder's answers, so that the report shows them with its own.

A judgment counts only if it is known which answer was judged: by its prompt, which holds the answer, or by the file of
its model's answers. Judgments of other models, questions or answers are counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.data.files.bad_rows import RowError, parse_all
from bench.data.files.json_rows import Row
from bench.data.files.row_files import read_rows
from bench.data.open_questions import ReferenceAnswer
from bench.errors import UserError, unknown
from bench.hashing import short_hash
from bench.judging import parsers, prompts
from bench.judging.fastchat_files import AnswerKey, FastChatBench, comparison_prompts, fastchat_benches, rating_prompts
from bench.judging.judgment_records import (
    AnswersToCompare,
    AnswerToRate,
    JudgmentType,
    ModelRating,
    ModelReply,
    PairwiseVerdict,
    Rating,
)
from bench.judging.ledger import Ledger, cell_ratings, pairwise_verdicts, write_judge
from bench.judging.prompts import Prompt
from bench.judging.thoughts import text_after_thoughts
from bench.store import locks
from bench.store.folder import Results
from bench.store.judge_record import JudgeRecord
from bench.sweep.schema import describe

UNANSWERED = "without a judgment: the endpoint did not answer"
NO_JUDGMENT = "$ERROR$"
"""FastChat's judgment where the endpoint did not answer."""


class _FastChatJudgment(BaseModel):
    """The fields that are read of a row; it has others."""

    model_config = ConfigDict(extra="ignore", strict=False, allow_inf_nan=False)

    question_id: int | str
    judge: tuple[str, str]
    turn: int = Field(ge=1, le=2)
    tstamp: float = 0.0


class _SingleRow(_FastChatJudgment):
    """A row of JUDGE_single.jsonl."""

    model: str
    score: float
    judgment: str
    user_prompt: str = ""


class _PairRow(_FastChatJudgment):
    """A row of JUDGE_pair.jsonl."""

    model_1: str
    model_2: str
    g1_winner: str
    g2_winner: str
    g1_judgment: str
    g2_judgment: str
    g1_user_prompt: str = ""
    g2_user_prompt: str = ""


RowType = TypeVar("RowType", _SingleRow, _PairRow)


@dataclass
class _Import:
    """An import into one set of questions."""

    bench: FastChatBench
    answer_files: Mapping[tuple[str, str], tuple[str, ...]]
    """The turns of the files of answers, by model and question (as text)."""
    new: int = 0
    present: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Judgments that were left out, by the reason."""
    judges: dict[str, JudgeRecord] = field(default_factory=dict)
    ratings: dict[tuple[str, str], Ledger[Rating]] = field(default_factory=dict)
    """Ledgers by cell and judge; each is read once."""
    verdicts: dict[str, Ledger[PairwiseVerdict]] = field(default_factory=dict)

    def judge(self, name: str) -> JudgeRecord:
        """The record of a judge, by its name in FastChat's files."""
        if name not in self.judges:
            settings = {"from": "FastChat's files", "prompts": prompts.templates_hash()}
            self.judges[name] = JudgeRecord(kind="openai", name=name, scale=(1.0, 10.0), settings=settings)
            write_judge(self.bench.results, self.judges[name])
        return self.judges[name]

    def answer(self, model: str, row: _FastChatJudgment) -> AnswerToRate | None:
        """The recorded answer that a row judges, if the folder has one."""
        folder = self.bench.folders.get(model, model)
        if folder not in self.bench.names:
            self.left_out[f"of {model}, which is no cell of this folder"] += 1
            return None
        key: AnswerKey = (folder, row.question_id, row.turn)
        if key not in self.bench.answers:
            self.left_out["of questions or turns that the cells have not answered"] += 1
        return self.bench.answers.get(key)

    def prompt_hash(self, candidates: Sequence[Prompt], shown: str, answers: Iterable[tuple[str, AnswerToRate]]) -> str:
        """The hash of the prompt of a judgment of these answers (with their models); empty where it was another's."""
        for prompt in candidates:
            if prompt.user == shown:
                return prompt.hash
        texts = ((self.answer_files.get((model, str(answer.question.id))), answer) for model, answer in answers)
        if all(turns is not None and turns[: answer.turn] == answer.answers for turns, answer in texts):
            return short_hash(shown)
        self.left_out["of other answers than the recorded ones"] += 1
        return ""

    def add(
        self,
        ledger: Ledger[JudgmentType],
        judged: AnswerToRate | AnswersToCompare,
        prompt_hash: str,
        judgment: JudgmentType,
    ) -> None:
        """Add a judgment to its ledger, unless it is there."""
        if ledger.lacks(judged, prompt_hash):
            ledger.add(judgment)
            self.new += 1
        else:
            self.present += 1

    def reply(self, row: _FastChatJudgment, prompt_hash: str, judgment: str) -> ModelReply:
        return ModelReply(
            judge=(self.judge(row.judge[0]).label, row.judge[1]),
            prompt_hash=prompt_hash,
            judgment=_writable(judgment),
            served="",
            finish_reason="",
            prompt_tokens=None,
            completion_tokens=None,
            tstamp=row.tstamp,
        )


def import_fastchat(results: Results, source: Path, sets: Sequence[str] = ()) -> list[str]:
    """Import the judgments of a folder of FastChat (`data/BENCH_NAME`); returns what was done, in sentences.

    Raises UserError for a folder without judgments, for a row that is not FastChat's, where it is not clear which set
    of questions the folder is of, and where none of the judgments is of an answer of this folder.
    """
    bench = _bench_of(results, source, sets)
    single = sorted(source.glob("model_judgment/*_single.jsonl"))
    pairs = sorted(source.glob("model_judgment/*_pair.jsonl"))
    if not single and not pairs:
        raise UserError(
            f"{source} holds no judgments of FastChat",
            "Give the folder that holds model_judgment/JUDGE_single.jsonl or JUDGE_pair.jsonl (FastChat's "
            "data/BENCH_NAME). Answers alone cannot be imported: the cells of a results folder are its models.",
        )
    ratings = [row for path in single for row in _rows(path, _SingleRow)]
    comparisons = [row for path in pairs for row in _rows(path, _PairRow)]
    with locks.judging(results, "fastchat") as held:
        if not held:
            raise UserError(
                f"another process imports judgments into {results.path}, or is packing it",
                "Wait until it has finished.",
            )
        state = _Import(bench, _answer_files(source))
        for row in ratings:
            _import_rating(state, row)
        for comparison in comparisons:
            _import_comparison(state, comparison)
    lines = [f"{state.new:,} judgments imported, {state.present:,} were there"]
    lines += [f"{count:,} left out: {reason}" for reason, count in state.left_out.most_common(5)]
    if not state.new and not state.present:
        names = ", ".join(list(bench.folders)[:3])
        raise UserError(
            "; ".join([f"no judgment of {source} is of an answer in {results.path}", *lines[1:]]),
            f"FastChat's models must be named as the cells are ({names}, ...): `bench judge FOLDER --export DIR` "
            "writes their answers for FastChat.",
        )
    return lines


def _bench_of(results: Results, source: Path, sets: Sequence[str]) -> FastChatBench:
    """The set of questions that a folder is of: the one that is chosen, the one of its name, or the only one."""
    benches = {bench.set: bench for bench in fastchat_benches(results)}
    chosen = sets[0] if len(sets) == 1 else source.resolve().name
    if chosen not in benches and (sets or len(benches) > 1):
        raise unknown("set of open questions for --sets", ",".join(sets) or chosen, benches)
    return benches[chosen] if chosen in benches else next(iter(benches.values()))


def _rows(path: Path, kind: type[RowType]) -> list[RowType]:
    """Raises UserError for rows that are not FastChat's."""

    def parse(row: Row) -> RowType:
        try:
            return kind.model_validate(row)
        except ValidationError as error:
            raise RowError(describe(error).split("; ")[0][:200]) from None

    return parse_all(path, read_rows(path), parse)


def _answer_files(source: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """The turns of all files of answers, by model and question. Raises UserError for rows that are not FastChat's."""

    def parse(row: Row) -> ReferenceAnswer:
        try:
            return ReferenceAnswer.from_row(row)
        except (KeyError, IndexError, TypeError) as error:
            raise RowError(f"it is no answer in FastChat's format ({type(error).__name__}: {error})") from None

    return {
        (path.stem, str(answer.id)): tuple(text.strip() for text in answer.turns)
        for path in sorted(source.glob("model_answer/*.jsonl"))
        for answer in parse_all(path, read_rows(path), parse)
    }


def _import_rating(state: _Import, row: _SingleRow) -> None:
    answer = state.answer(row.model, row)
    if answer is None:
        return
    if row.judgment == NO_JUDGMENT:
        state.left_out[UNANSWERED] += 1
        return
    prompt_hash = state.prompt_hash(rating_prompts(answer), row.user_prompt, [(row.model, answer)])
    if not prompt_hash:
        return
    rating = ModelRating(
        **answer.record().model_dump(),
        **state.reply(row, prompt_hash, row.judgment).model_dump(),
        score=None if row.score == -1 else row.score,
        strict=parsers.strict_rating(text_after_thoughts(row.judgment, "")),
    )
    place = answer.model, rating.judge[0]
    if place not in state.ratings:
        state.ratings[place] = Ledger(cell_ratings(state.bench.results.folder_named(answer.model), rating.judge[0]))
    state.add(state.ratings[place], answer, prompt_hash, rating)


def _import_comparison(state: _Import, row: _PairRow) -> None:
    """Both games of a row."""
    first, second = state.answer(row.model_1, row), state.answer(row.model_2, row)
    if first is None or second is None:
        return
    models = [(row.model_1, first), (row.model_2, second)]
    games = (
        (AnswersToCompare(first, second, 1), row.g1_winner, row.g1_judgment, row.g1_user_prompt, "model_1"),
        (AnswersToCompare(second, first, 2), row.g2_winner, row.g2_judgment, row.g2_user_prompt, "model_2"),
    )
    for pair, winner, judgment, shown, model_a in games:
        prompt_hash = state.prompt_hash(comparison_prompts(pair), shown, models)
        if judgment == NO_JUDGMENT:
            state.left_out[UNANSWERED] += 1
            continue
        if not prompt_hash:
            continue
        verdict: parsers.Verdict | None = "tie" if winner == "tie" else None
        if winner in ("model_1", "model_2"):
            verdict = "A" if winner == model_a else "B"
        recorded = PairwiseVerdict(
            **pair.record().model_dump(),
            **state.reply(row, prompt_hash, judgment).model_dump(),
            winner=verdict,
            strict=parsers.strict_verdict(text_after_thoughts(judgment, "")),
        )
        label = recorded.judge[0]
        if label not in state.verdicts:
            state.verdicts[label] = Ledger(pairwise_verdicts(state.bench.results, label))
        state.add(state.verdicts[label], pair, prompt_hash, recorded)


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
