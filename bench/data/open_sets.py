"""The open questions that the cells of a sweep answer in free text: which sets, and which questions of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.data import loaders, placeholders
from bench.data.examples import Dialogue, TrainingRow
from bench.data.open_questions import OpenQuestion
from bench.data.ordering import canonical_order, seeded_shuffle
from bench.data.synthetic.talk import WORLD_TALK, talk_questions
from bench.errors import UserError, unknown
from bench.sweep.schema import Sweep
from bench.sweep.sections import MT_BENCH, AnswersConfig, DataConfig

HELD_OUT = "held_out"
"""The set of open questions that consists of held-out instructions."""
MAX_HELD_OUT_SHARE = 0.2
"""Of any training set, so that a small set is not used up by its development split or by held-out instructions."""


def held_out_instructions(
    pools: Mapping[str, Sequence[TrainingRow]], config: DataConfig
) -> dict[str, tuple[Dialogue, ...]]:
    """For each set of instructions, those that no cell is trained on. Only dialogues of one turn without a system text
    are held out: they can be asked as open questions."""
    sets = {name: pool for name, pool in pools.items() if pool and isinstance(pool[0], Dialogue)}
    share = -(-config.held_out // len(sets)) if sets else 0
    held_out = {}
    for name, pool in sets.items():
        candidates = {
            row.normalized: row for row in pool if isinstance(row, Dialogue) and len(row.turns) == 1 and not row.system
        }  # one row of those that ask the same
        drawn = seeded_shuffle(canonical_order(candidates.values()), f"{config.seed}:{name}:held out")
        # Rows that ask the same all go with the one that is held out: half of what is asked stays, however often.
        most = min(int(len(pool) * MAX_HELD_OUT_SHARE), len(candidates) // 2)
        held_out[name] = tuple(drawn[: min(share, most)])
    return held_out


def mt_bench_from_hub(config: AnswersConfig) -> bool:
    """Whether MT-Bench's questions are asked and come from the hub, not from a file of the user."""
    user_set = config.sets.get(MT_BENCH)
    return MT_BENCH in config.questions and (user_set is None or user_set.questions is None)


def open_question_sets(
    sweep: Sweep, held_out: Mapping[str, tuple[Dialogue, ...]], use_placeholders: bool
) -> dict[str, tuple[OpenQuestion, ...]]:
    """The questions that every cell answers, by set, in the order of their origin.

    Raises UserError for an unknown set, and for a set without a question that fits.
    """
    config = sweep.answers
    if config is None:
        return {}
    unused = [name for name in config.sets if name not in config.questions]
    if unused:
        raise UserError(
            f"answers.sets.{unused[0]} is not used: answers.questions is {', '.join(config.questions)}",
            f"Add {unused[0]} to answers.questions, or remove the set.",
        )
    sets = {}
    for name in dict.fromkeys(config.questions):
        if use_placeholders and name == MT_BENCH and mt_bench_from_hub(config):
            user_set = config.sets.get(MT_BENCH)
            rows = placeholders.mt_bench_questions(user_set is not None and user_set.references is not None)
        else:
            rows = _load(name, config, held_out)
        if config.with_reference:
            rows = tuple(question for question in rows if question.references)
        if not rows:
            raise UserError(
                f"no question of {name} has a reference answer",
                f"Give answers.sets.{name}.references (MT-Bench's: FastChat's reference_answer/gpt-4.jsonl), or leave "
                "out answers.with_reference.",
            )
        if config.limit is not None and config.limit < len(rows):
            drawn = {row.id for row in seeded_shuffle(rows, f"{sweep.data.seed}:{name}:limit")[: config.limit]}
            rows = tuple(row for row in rows if row.id in drawn)
        sets[name] = rows
    return sets


def _load(name: str, config: AnswersConfig, held_out: Mapping[str, tuple[Dialogue, ...]]) -> tuple[OpenQuestion, ...]:
    if name in config.sets or name == MT_BENCH:
        return loaders.load_open_questions(name, config.sets.get(name))
    if name == WORLD_TALK:
        return talk_questions()
    if name != HELD_OUT:
        raise unknown("set of open questions", name, [HELD_OUT, MT_BENCH, WORLD_TALK, *config.sets])
    rows = tuple(
        OpenQuestion(row.key, task, row.turns, (row.answers,)) for task, rows in held_out.items() for row in rows
    )
    if not rows:
        raise UserError(
            "answers.questions has held_out, and no instruction is held out of the training sets",
            "Train on a set of instructions (alpaca, world_talk, one of your own) with data.held_out above 0.",
        )
    return rows
