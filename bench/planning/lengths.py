"""How long the training examples of a plan are, and how many of them `training.max_length` cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.data.encoding import encode_all
from bench.data.example_lengths import check_supervised, length_sentences, set_lengths
from bench.errors import UserError
from bench.models.load import load_tokenizer
from bench.models.locate import find_local_tokenizer
from bench.planning.plan import Plan, PlannedCell
from bench.store.records import SetLengths

COUNTED_EXAMPLES = 3000
"""Examples that are tokenized for a plan: those of its first seed, which takes some seconds."""


@dataclass(frozen=True)
class LengthRow:
    """The lengths of the examples of a training set, in the tokens of a base model."""

    base: str
    max_length: int
    set: str
    rows: int
    cut: int
    """Rows longer than `max_length`."""
    cut_answers: int
    """Rows whose answer lost its end."""
    no_answers: int
    """Rows whose answer lost all of its tokens."""
    usual: int
    """99 % of the rows have at most so many tokens."""
    longest: int


def training_lengths(plan: Plan) -> list[LengthRow]:
    """The lengths of the first examples of each base model and limit of a plan; none of a base whose tokenizer is not
    on this machine, and none of placeholders. Raises UserError for a limit that leaves no answer to train on."""
    if plan.data.placeholders:
        return []
    planned = [*plan.cells, *plan.further]
    firsts: dict[tuple[str, str | None, int, str], PlannedCell] = {}
    for cell in planned:
        if cell.cell.data is not None:
            key = (cell.base.id, cell.base.revision, cell.training.max_length, cell.training.truncate)
            if key not in firsts or cell.cell.samples > firsts[key].cell.samples:
                firsts[key] = cell
    return [row for cell in firsts.values() for row in _rows(plan, cell)]


def _rows(plan: Plan, planned: PlannedCell) -> list[LengthRow]:
    try:
        folder = find_local_tokenizer(planned.base.id, planned.base.revision)
        tokenizer = load_tokenizer(folder) if folder is not None else None
    except UserError:  # the run says what is wrong with it
        tokenizer = None
    if tokenizer is None:
        return []
    training = planned.training
    examples = plan.data.subset(min(planned.cell.samples, COUNTED_EXAMPLES), planned.cell.seed, tokenizer)
    rows = encode_all(tokenizer, examples, training.max_length, plan.data.config.append_eos, training.truncate)
    check_supervised(rows, training)
    return [
        LengthRow(base=planned.base.id, max_length=training.max_length, set=name, **record.model_dump())
        for name, record in set_lengths(examples, rows).items()
    ]


def cut_sentences(rows: Sequence[LengthRow]) -> list[str]:
    """What the limits of a plan cut, for a person to read."""
    groups: dict[tuple[str, int], dict[str, SetLengths]] = {}
    for row in rows:
        record = SetLengths(**{name: getattr(row, name) for name in SetLengths.model_fields})
        groups.setdefault((row.base, row.max_length), {})[row.set] = record
    bases = {base for base, _ in groups}
    return [
        f"{base}: {sentence}" if len(bases) > 1 else sentence
        for (base, max_length), lengths in groups.items()
        for sentence in length_sentences(lengths, max_length)
    ]
