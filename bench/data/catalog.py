"""The tasks and training sets that a sweep may name, and how the rows of each are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.data import loaders
from bench.data.examples import Dialogue, TrainingRow
from bench.data.open_questions import Turn
from bench.data.questions import Question, Wording
from bench.data.synthetic.talk import WORLD_TALK, talk_instructions
from bench.data.synthetic.world import WORLD_TASKS, build_world
from bench.data.tasks import Task, commonsense_tasks
from bench.errors import UserError, unknown
from bench.sweep.file_sets import ENDINGS
from bench.sweep.sections import LM_EVAL, DataConfig

ALPACA = "alpaca"
INSTRUCTION_SETS = (ALPACA, WORLD_TALK)
"""Sets of instructions that need no entry in `data.sets`."""
GROUPS = ("world", "commonsense")
"""Names that stand for several training sets."""


def available_tasks(config: DataConfig) -> dict[str, Task]:
    """Every task that this sweep may name. Raises UserError for a user's set that has the name of a built-in set."""
    tasks = {**commonsense_tasks(), **{name: Task(name, wording) for name, wording in WORLD_TASKS.items()}}
    tasks |= {name: Task(name, Wording()) for name in INSTRUCTION_SETS}
    for name in config.sets:
        if name in tasks or name in GROUPS:
            raise UserError(
                f"data.sets.{name}: the name is taken by a built-in set",
                "Choose another name. A file that is named in data.train or evaluation.tasks has the name of the file.",
            )
        if not name.strip() or name.startswith(LM_EVAL):
            raise UserError(
                f"data.sets: {name!r} cannot be the name of a set", f"A name is not blank, and no {LM_EVAL}TASK."
            )
        tasks[name] = Task(name, Wording())
    return tasks


def training_sets(config: DataConfig, tasks: dict[str, Task]) -> list[str]:
    """The training sets by name, sorted, with groups expanded. Raises UserError for an unknown name."""
    groups = {"world": list(WORLD_TASKS), "commonsense": list(commonsense_tasks())}
    names: list[str] = []
    for name in config.train:
        if name not in groups and name not in tasks:
            raise _unknown_set(name, [*groups, *tasks])
        names.extend(groups.get(name, [name]))
    return sorted(set(names))


def _unknown_set(name: str, allowed: Sequence[str]) -> UserError:
    error = unknown("training set", name, allowed)
    return UserError(error.problem, f"{error.fix} Or give a file, whose name ends with {', '.join(ENDINGS)}.")


def is_scorable(name: str, config: DataConfig) -> bool:
    """Whether a set has test questions with choices."""
    if name in INSTRUCTION_SETS:
        return False
    user_set = config.sets.get(name)
    return user_set is None or (user_set.test is not None and "question" in user_set.columns)


def check_lm_eval_texts(names: Iterable[str], tasks: Mapping[str, Task], config: DataConfig) -> None:
    """Raises UserError for a commonsense task whose texts are not lm-eval's in the format `lm_eval`."""
    if config.format != "lm_eval":
        return
    for name in sorted(set(names) & set(commonsense_tasks())):
        if not tasks[name].lm_eval:
            raise UserError(
                f"data.format: lm_eval cannot word {name}: lm-eval has no such task (its boolq shows the passage)",
                f"Leave {name} out, or set data.format: question. evaluation.tasks: lm_eval:boolq is lm-eval's task.",
            )
        if name == "hellaswag" and not comes_from_hub(name, config):
            raise UserError(
                "data.format: lm_eval cannot word hellaswag from data.dir: lm-eval capitalises the second sentence, "
                "and LLM-Adapters' files do not say where it begins",
                "Leave data.dir out, so that hellaswag is read from the hub, or leave hellaswag out.",
            )


def comes_from_hub(name: str, config: DataConfig) -> bool:
    """Whether a built-in set is read from a hub, not from files of the user."""
    return config.alpaca is None if name == ALPACA else name in commonsense_tasks() and config.dir is None


def load_training_rows(name: str, tasks: dict[str, Task], config: DataConfig) -> Sequence[TrainingRow]:
    """The training rows of a built-in set, in the order of their origin. Raises UserError for missing or malformed
    data."""
    if name == ALPACA:
        return loaders.load_alpaca(name, config.alpaca)
    if name == WORLD_TALK:
        return [Dialogue(name, (Turn(row.instruction, row.input),), (row.output,)) for row in talk_instructions()]
    return (
        build_world().train[name] if name in WORLD_TASKS else loaders.load_commonsense(tasks[name], "train", config.dir)
    )


def load_test_questions(name: str, tasks: dict[str, Task], config: DataConfig) -> Sequence[Question]:
    """The test questions of a built-in task, in the order of their origin. Raises UserError like the training rows."""
    return (
        build_world().test[name] if name in WORLD_TASKS else loaders.load_commonsense(tasks[name], "test", config.dir)
    )
