"""The batches of a training: which examples each step has, what is counted, and where a resumed training goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import DataLoader

from bench.data.collator import Collator
from bench.data.encoding import Encoded
from bench.training.batches import Batch, Batches
from bench.training.samplers import EpochSampler, LengthGroupedSampler

ROWS = [Encoded([10 + i] * (3 + i % 5), 2, False) for i in range(19)]
"""Each of one token, by which it is told from the others."""

CPU = torch.device("cpu")


def order_of(name: str) -> EpochSampler:
    lengths = [len(row.ids) for row in ROWS]
    if name == "length":
        return LengthGroupedSampler(lengths, 8, seed=1)
    return SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=1)


def batches_of(order: str = "length", micro_batch: int = 8, epochs: float = 2, **share: int) -> Batches:
    return Batches(ROWS, order_of(order), Collator(0, "answer"), 8, micro_batch, epochs, CPU, **share)


def examples(batch: Batch) -> list[list[int]]:
    """The first token of each example, by micro-batch."""
    return [part.inputs["input_ids"][:, 0].tolist() for part in batch.micro_batches]


@pytest.mark.parametrize("order", ["length", "random"])
@pytest.mark.parametrize("micro_batch", [8, 4, 2])
def test_each_step_has_the_next_examples_of_the_order(order: str, micro_batch: int) -> None:
    """torch's DataLoader over the same order gives the same micro-batches; a step takes up to 8 examples of them, and
    none of the next epoch."""
    sampler, expected = order_of(order), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        loader = DataLoader(ROWS, batch_size=micro_batch, sampler=sampler, collate_fn=list)
        parts = [[row.ids[0] for row in rows] for rows in loader]
        expected += [parts[at : at + 8 // micro_batch] for at in range(0, len(parts), 8 // micro_batch)]
    batches = batches_of(order, micro_batch)
    assert [examples(batch) for batch in batches.after(0)] == expected
    assert batches.steps == len(expected) == 6


def test_the_random_draws_are_those_of_torchs_data_loader() -> None:
    """An epoch begins with the draw of a seed: dropout has the masks that it has in a loop over a DataLoader."""
    torch.manual_seed(5)
    for _ in range(2):
        list(DataLoader(ROWS, batch_size=8, sampler=order_of("length"), collate_fn=list))
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(batches_of().after(0))
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize("order", ["length", "random"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_the_batches_after_a_step_are_the_rest(order: str, step: int) -> None:
    """In an epoch and between two, with the generator as it was after the step."""

    def with_draws(batches: Iterator[Batch]) -> list[tuple[list[list[int]], float]]:
        return [(examples(batch), torch.rand(()).item()) for batch in batches]

    torch.manual_seed(7)
    whole = with_draws(batches_of(order, 4).after(0))
    torch.manual_seed(7)
    first = batches_of(order, 4).after(0)
    before = [(examples(next(first)), torch.rand(()).item()) for _ in range(step)]
    assert before + with_draws(batches_of(order, 4).after(step)) == whole


def test_epochs_of_a_log_end_with_their_last_batch() -> None:
    assert [batch.epoch for batch in batches_of(micro_batch=2).after(0)] == [0.4, 0.8, 1, 1.4, 1.8, 2]
    assert [batch.epoch for batch in batches_of(epochs=1.5).after(0)] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])


@pytest.mark.parametrize("micro_batch", [2, 1])
def test_what_processes_count_together_is_what_one_counts(micro_batch: int) -> None:
    """Of 19 examples the last batch has three, so that of four processes one has none. Empty places are padding."""
    alone = list(batches_of().after(0))
    shares = [list(batches_of(micro_batch=micro_batch, process=i, processes=4).after(0)) for i in range(4)]
    for batch, parts in zip(alone, zip(*shares, strict=True), strict=True):
        assert sum(part.tokens for part in parts) == batch.tokens
        assert sum(part.supervised for part in parts) == batch.supervised
        assert all(part.places >= part.tokens for part in parts)
    last = [part[-1] for part in shares]
    assert 0 in [part.tokens for part in last] and all(part.places > 0 for part in last)


def test_a_batch_counts_its_tokens() -> None:
    batch = next(batches_of(micro_batch=4).after(0))
    rows = [row for row in ROWS for part in examples(batch) if row.ids[0] in part]
    assert batch.tokens == sum(len(row.ids) for row in rows) and len(rows) == 8
    assert batch.supervised == sum(len(row.ids) - 2 for row in rows)
    assert batch.places == sum(max(len(row.ids) for row in rows if row.ids[0] in part) * 4 for part in examples(batch))
