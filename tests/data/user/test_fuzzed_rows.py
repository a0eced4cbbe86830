"""Whatever a file holds, it is loaded with every character, or refused in a sentence that names the row."""

from __future__ import annotations

import json
import random
import resource
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.fuzzed_rows import FuzzedFile, fuzzed_file, leaves, spoiled_row
from helpers.questions import HUB_ROWS

from bench.data import loaders
from bench.data.duplicates import shared_texts
from bench.data.examples import Dialogue, TrainingRow, render_example
from bench.data.open_questions import open_questions_fingerprint, references_hash
from bench.data.ordering import canonical_order
from bench.data.questions import Question, Wording
from bench.data.tasks import commonsense_tasks
from bench.data.templates import make_template
from bench.data.user.user_sets import UserSet, load_user_set
from bench.errors import UserError
from bench.sweep.sections import OpenSet, OwnSet

CPU_SECONDS, BYTES = 5, 1_000_000_000
"""A file of a few hundred kilobytes takes hundredths of a second and a few megabytes."""
OF_THE_SET = (
    "could each be",
    "do not say what they are",
    "the answer of every row",
    "no row has the column",
    "has no rows",
    "is not utf-8 text",
    "the header has",
    "holds no rows",
    "is no parquet file",
)
"""Refusals of a set as a whole, in which no row is to blame."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fails in code that computes for more than 5 s (of this process: other load does not count) or takes another GB of
    address space (MemoryError)."""

    def too_slow(*_: object) -> None:
        raise AssertionError(f"more than {CPU_SECONDS} s of computing")

    before, limits = signal.signal(signal.SIGVTALRM, too_slow), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def check(file: FuzzedFile) -> bool:
    """Load a file and check what came of it; whether it was loaded."""
    try:
        with bounded():
            user_set = load_user_set("mine", OwnSet(train=str(file.path)), ("train",))
            texts = list(_used(user_set))
    except UserError as error:
        assert "\n" not in error.problem and len(error.problem) < 2000 and error.fix
        assert str(file.path) in error.problem or "data set mine" in error.problem
        if not file.damaged:
            assert file.spoiled is not None, "a good file is refused"
            named = f"row {file.spoiled}: " in error.problem
            assert named or any(phrase in error.problem for phrase in OF_THE_SET)
        return False
    if not file.damaged:
        _check_characters(file, user_set, "\n".join(texts))
    return True


def _used(user_set: UserSet) -> Iterator[str]:
    """What the rows give in training, by the code that runs after loading."""
    rows = canonical_order(user_set.train)
    shared_texts(rows)
    for row in rows:
        example = render_example(row, Wording(), "question", make_template("alpaca"))
        (example.prompt + example.answer).encode()
        yield from _texts(row)


def _texts(row: TrainingRow) -> Iterable[str]:
    if isinstance(row, Question):
        return (row.text, *row.choices)
    if isinstance(row, Dialogue):
        return (row.system, *(turn.text for turn in row.turns), *(turn.input for turn in row.turns), *row.answers)
    return (row.prompt, row.answer)


def _check_characters(file: FuzzedFile, user_set: UserSet, texts: str) -> None:
    """Every text in the columns that were read is in the rows, save in rows that are left out for an empty answer."""
    mapped = user_set.settings.columns
    columns = [
        name
        for part, value in mapped.items()
        if part != "label"
        for name in ([value] if isinstance(value, str) else value)
    ]
    for number, row in enumerate(file.rows, start=1):
        if not isinstance(row, dict) or (number == file.spoiled and "left out" in user_set.reading):
            continue
        for column in columns:
            for text in leaves(row.get(column)):
                assert text in texts or text[:1] in "[{", f"{text!r} of row {number} is lost"


def _run(folder: Path, seeds: Iterable[int]) -> list[bool]:
    loaded = []
    for seed in seeds:
        file = fuzzed_file(folder, seed)
        try:
            loaded.append(check(file))
        except Exception as error:
            raise AssertionError(f"seed {seed}, {file.path}, row {file.spoiled}") from error
    return loaded


def test_fuzzed_rows_load_whole_or_are_refused_in_a_sentence(tmp_path: Path) -> None:
    loaded = _run(tmp_path, range(300))
    assert 60 < sum(loaded) < 240  # the generator makes both


@pytest.mark.slow
def test_many_more_fuzzed_rows(tmp_path: Path) -> None:
    _run(tmp_path, range(300, 5300))


BUILT_IN_ROWS: dict[str, dict[str, object]] = {
    "questions": {
        "question_id": 1,
        "category": "c",
        "turns": ["1?", "2?"],
        "reference": ["1", "2"],
        "inputs": ["", "x"],
    },
    "references": {"question_id": 1, "choices": [{"index": 0, "turns": ["1", "2"]}]},
    "boolq": {"instruction": HUB_ROWS["boolq_closed"][1], "input": "", "output": "x", "answer": "false"},
    "ARC-Easy": {"instruction": HUB_ROWS["arc_easy"][1], "input": "", "output": "x", "answer": "answer2"},
    "alpaca": {"instruction": "Say it.", "input": "", "output": "It."},
}
"""A row of each file that built-in tasks and sets of open questions are read from."""


def _load_built_in(kind: str, path: Path) -> object:
    if kind == "alpaca":
        return [row.key for row in loaders.load_alpaca("alpaca", str(path))]
    if kind == "questions":
        return open_questions_fingerprint(loaders.load_open_questions("own", OpenSet(questions=str(path))))
    if kind == "references":
        questions = path.with_name("questions.jsonl")
        questions.write_text(json.dumps(BUILT_IN_ROWS["questions"]))
        settings = OpenSet(questions=str(questions), references=str(path))
        return references_hash(loaders.load_open_questions("own", settings))
    task = next(task for task in commonsense_tasks().values() if task.source and task.source.folder == kind)
    return [question.key for question in loaders.load_commonsense(task, "train", str(path.parents[1]))]


@pytest.mark.parametrize("kind", BUILT_IN_ROWS)
def test_fuzzed_files_of_built_in_sets_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind / "train.json"
    path.parent.mkdir()
    loaded = 0
    for seed in range(100):
        rng = random.Random(f"{kind} {seed}")
        good = BUILT_IN_ROWS[kind]
        others = [{**good, "question_id": place} for place in (2, 3)]
        path.write_text(json.dumps([others[0], spoiled_row(good, rng), others[1]]))
        try:
            with bounded():
                _load_built_in(kind, path)
            loaded += 1
        except UserError as error:
            assert "\n" not in error.problem and error.fix, seed
            assert "row 2: " in error.problem or "occurs twice" in error.problem, (seed, error.problem)
    assert 0 < loaded < 100
