"""Prepares the data of a sweep: `prepare_data` reads, draws and cleans all of it once, for every cell.

The order of the steps is fixed, and no cell changes it. Every set is put into canonical order (by content hash, so that
its origin does not matter). The data seed draws the held-out instructions, the development questions and the test
questions. Training rows whose question occurs in a test or development set are removed. A cell then takes a seeded,
nested subset (`SweepData.subset`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.data import placeholders
from bench.data.catalog import (
    ALPACA,
    available_tasks,
    check_lm_eval_texts,
    comes_from_hub,
    is_scorable,
    load_test_questions,
    load_training_rows,
    training_sets,
)
from bench.data.duplicates import compared_text, distinct, shared_texts
from bench.data.examples import Dialogue, TrainingRow
from bench.data.open_questions import OpenQuestion
from bench.data.open_sets import (
    HELD_OUT,
    MAX_HELD_OUT_SHARE,
    held_out_instructions,
    mt_bench_from_hub,
    open_question_sets,
)
from bench.data.ordering import canonical_order, seeded_shuffle
from bench.data.questions import Question
from bench.data.sweep_data import Overlap, SweepData
from bench.data.synthetic.talk import TALK_NOTE, WORLD_TALK
from bench.data.synthetic.world import TASK_NOTE, WORLD_TASKS
from bench.data.tasks import Task
from bench.data.user.user_sets import UserSet, load_user_set
from bench.errors import UserError, unknown
from bench.sweep.schema import Sweep
from bench.sweep.sections import MT_BENCH, DataConfig


def prepare_data(sweep: Sweep, use_placeholders: bool = False) -> SweepData:
    """Read, draw and clean the data of a sweep. With `use_placeholders`, placeholders replace the rows of a hub.

    Raises UserError for data that are unknown, missing or malformed; its subclass OutOfReach for data of a hub that
    cannot be loaded.
    """
    tasks = available_tasks(sweep.data)
    training = training_sets(sweep.data, tasks)
    user_sets = _read_user_sets(sweep, training)
    config = sweep.data.model_copy(update={"sets": {name: user_set.settings for name, user_set in user_sets.items()}})
    scored = _scored_tasks(sweep, config, training, tasks)
    check_lm_eval_texts({*training, *scored}, tasks, config)
    rows = _read(training, scored, tasks, config, user_sets, use_placeholders)
    shared = _shared_texts(rows)

    held_out = held_out_instructions(rows.pools, config)
    open_questions = open_question_sets(sweep, held_out, use_placeholders)
    development = _development(rows, config, shared)
    judged_by_loss: dict[str, tuple[TrainingRow, ...]] = {}
    if sweep.tune is not None and not any(development.values()):
        judged_by_loss = _development_answers(rows, config, held_out)
    drawn: dict[str, Sequence[TrainingRow]] = {
        name: [*development[name], *judged_by_loss.get(name, ()), *held_out.get(name, ())] for name in rows.pools
    }
    evaluated: dict[str, Sequence[TrainingRow]] = {**rows.tests}
    evaluated |= {
        name: [_opening(row) for row in questions] for name, questions in open_questions.items() if name != HELD_OUT
    }
    pools, overlap = _clean(rows.pools, drawn, evaluated, shared, remove=config.deduplicate)
    for name, pool in pools.items():
        if not pool:
            raise UserError(
                f"no training row of {name} is left: the questions of all {len(rows.pools[name]):,} are in a test or "
                "development set too",
                "Give other training rows, or set data.deduplicate: false to train on them all the same.",
            )

    questions = {
        name: tuple(seeded_shuffle(rows.tests[name], f"{config.seed}:{name}:limit")[: sweep.evaluation.limit])
        for name in scored
    }
    used = {*training, *scored}
    notes = [TASK_NOTE] if used & set(WORLD_TASKS) else []
    notes += [TALK_NOTE] if WORLD_TALK in {*training, *open_questions} else []
    mt_bench = (MT_BENCH,) if use_placeholders and sweep.answers and mt_bench_from_hub(sweep.answers) else ()
    return SweepData(
        config=config,
        tasks={name: tasks[name] for name in sorted(used)},
        pools=pools,
        development=development,
        development_answers=judged_by_loss,
        questions=questions,
        overlap=overlap,
        notes=tuple(notes),
        open_questions=open_questions,
        readings={name: user_set.reading for name, user_set in user_sets.items()},
        placeholders=(*rows.placeholders, *mt_bench),
    )


def _read_user_sets(sweep: Sweep, training: Sequence[str]) -> dict[str, UserSet]:
    """The user's own sets. Raises UserError for one that the sweep does not use."""
    config, scored = sweep.data, sweep.evaluation.tasks or ()
    for name in config.sets:
        if name not in training and name not in scored:
            raise UserError(
                f"data.sets.{name} is not used: data.train is {', '.join(config.train)}",
                f"Set data.train: {name}, add {name} to evaluation.tasks, or remove the set.",
            )
    sets = {}
    for name, settings in config.sets.items():
        with _needed(name, training, config):
            sets[name] = load_user_set(name, settings, ("train", "test") if name in training else ("test",))
    return sets


@contextmanager
def _needed(name: str, training: Collection[str], config: DataConfig) -> Iterator[None]:
    """Adds to an error of a task that is only evaluated why the sweep cannot go on without it, as it does without a
    task of lm-eval: other rows would be trained on, or drawn for development, so that its cells would be others."""
    try:
        yield
    except UserError as error:
        if name in training or not (config.deduplicate or config.development):
            raise
        kept_apart = "training rows that ask the same as its questions are removed (data.deduplicate)"
        if not config.deduplicate:
            kept_apart = "development questions are drawn that are not among its questions"
        rest = (
            f"The sweep does not go on without {name}, because {kept_apart}: without them its cells would be others. "
            f"To train and score the others all the same, leave {name} out of evaluation.tasks."
        )
        raise type(error)(error.problem, f"{error.fix} {rest}".strip()) from error


def _scored_tasks(
    sweep: Sweep, config: DataConfig, training: Sequence[str], tasks: Mapping[str, Task]
) -> tuple[str, ...]:
    """The tasks that cells are scored on, save lm-eval's user_sets, which bring their data themselves."""
    of_lm_eval = sweep.evaluation.of_lm_eval
    chosen = sweep.evaluation.tasks
    if chosen is None:
        chosen = tuple(name for name in training if is_scorable(name, config))
    scored = tuple(name for name in chosen if name not in of_lm_eval)
    if not scored and not of_lm_eval and sweep.answers is None:
        raise UserError(
            "nothing to be scored on",
            "Give evaluation.tasks (a task, or a file of questions), data.sets.NAME.test, or answers: prompts and "
            "instructions have no choices that could be scored.",
        )
    for name in scored:
        if name not in tasks:
            raise unknown("task", name, tasks)
        if not is_scorable(name, config):
            raise UserError(f"{name} cannot be scored on: it has no test set of questions")
    return scored


@dataclass(frozen=True)
class _Rows:
    """The rows of a sweep as they were read, in canonical order."""

    pools: dict[str, list[TrainingRow]]
    """By training set."""
    tests: dict[str, list[Question]]
    """By task: those that are scored, and those of every training set, from which training rows are kept apart."""
    placeholders: tuple[str, ...]


def _read(
    training: Sequence[str],
    scored: Sequence[str],
    tasks: dict[str, Task],
    config: DataConfig,
    user_sets: Mapping[str, UserSet],
    use_placeholders: bool,
) -> _Rows:
    tested = sorted(name for name in {*scored, *training} if is_scorable(name, config))
    replaced = [
        name for name in dict.fromkeys((*training, *tested)) if use_placeholders and comes_from_hub(name, config)
    ]
    pools: dict[str, list[TrainingRow]] = {}
    for name in training:
        if name in user_sets:
            pools[name] = canonical_order(user_sets[name].train)
        elif name not in replaced:
            pools[name] = canonical_order(load_training_rows(name, tasks, config))
        elif name == ALPACA:
            pools[name] = canonical_order(placeholders.alpaca_rows(name))
        else:
            pools[name] = canonical_order(placeholders.task_questions(name, "train"))
    tests: dict[str, list[Question]] = {}
    for name in tested:
        if name in user_sets:
            tests[name] = canonical_order(user_sets[name].test)
        elif name in replaced:
            tests[name] = canonical_order(placeholders.task_questions(name, "test"))
        else:
            with _needed(name, training, config):
                tests[name] = canonical_order(load_test_questions(name, tasks, config))
    for name, rows in (*pools.items(), *tests.items()):
        if not rows:
            raise UserError(f"the data set {name} is empty")
    return _Rows(pools, tests, tuple(replaced))


def _shared_texts(rows: _Rows) -> frozenset[str]:
    """The texts that many different questions of a set share."""
    names = {*rows.pools, *rows.tests}
    return frozenset().union(*(shared_texts([*rows.pools.get(name, ()), *rows.tests.get(name, ())]) for name in names))


def _development(rows: _Rows, config: DataConfig, shared: frozenset[str]) -> dict[str, tuple[Question, ...]]:
    """Different development questions drawn from each training set; none occurs in a test set."""
    share = -(-config.development // len(rows.pools)) if rows.pools else 0
    tested = {compared_text(question, shared) for questions in rows.tests.values() for question in questions}
    development = {}
    for name, pool in rows.pools.items():
        fresh = [row for row in pool if isinstance(row, Question) and compared_text(row, shared) not in tested]
        drawn = seeded_shuffle(fresh, f"{config.seed}:{name}:development")
        different = len({row.normalized_with_choices for row in pool})
        development[name] = tuple(distinct(drawn, min(share, int(different * MAX_HELD_OUT_SHARE))))
    return development


def _development_answers(
    rows: _Rows, config: DataConfig, held_out: Mapping[str, Sequence[TrainingRow]]
) -> dict[str, tuple[TrainingRow, ...]]:
    """Rows without choices, drawn from each training set that has no questions: learning rates are chosen by how likely
    their answers are. None is held out to be answered."""
    share = -(-config.development // len(rows.pools))
    drawn: dict[str, tuple[TrainingRow, ...]] = {}
    for name, pool in rows.pools.items():
        taken = {row.key for row in held_out.get(name, ())}
        fresh = [row for row in pool if not isinstance(row, Question) and row.key not in taken]
        most = int(len({row.normalized_with_choices for row in pool}) * MAX_HELD_OUT_SHARE)
        shuffled = seeded_shuffle(fresh, f"{config.seed}:{name}:development")
        drawn[name] = tuple(distinct(shuffled, min(share, most)))
    return drawn


def _opening(question: OpenQuestion) -> Dialogue:
    """An open question in the form in which training rows are compared with it: by its first turn."""
    return Dialogue("", question.turns, ("",) * len(question.turns))


def _clean(
    pools: Mapping[str, Sequence[TrainingRow]],
    drawn: Mapping[str, Sequence[TrainingRow]],
    tests: Mapping[str, Sequence[TrainingRow]],
    shared: frozenset[str],
    remove: bool,
) -> tuple[dict[str, tuple[TrainingRow, ...]], dict[str, Overlap]]:
    """The pools without the rows that were drawn from them (for development or as held-out instructions) and, with
    `remove`, without any other row that asks the same as a drawn row or a test question."""
    evaluated = [row for rows in (*tests.values(), *drawn.values()) for row in rows]
    questions = {compared_text(row, shared) for row in evaluated}
    texts_with_choices = {row.normalized_with_choices for row in evaluated}
    cleaned, overlap = {}, {}
    for name, pool in pools.items():
        drawn_count = Counter(row.key for row in drawn[name])
        held_out = {row.key for row in drawn[name] if isinstance(row, Dialogue)}
        remaining: list[TrainingRow] = []
        by_question = by_question_and_choices = removed = 0
        for row in pool:
            if row.key in held_out:  # the held-out instruction or a copy of it
                continue
            if drawn_count[row.key]:  # the drawn row itself, not a duplicate of it
                drawn_count[row.key] -= 1
                continue
            duplicate = compared_text(row, shared) in questions
            by_question += duplicate
            by_question_and_choices += row.normalized_with_choices in texts_with_choices
            removed += duplicate and remove
            if not (duplicate and remove):
                remaining.append(row)
        cleaned[name] = tuple(remaining)
        overlap[name] = Overlap(by_question, by_question_and_choices, removed)
    return cleaned, overlap
