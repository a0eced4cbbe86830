"""The order of examples: every one once an epoch, batches of like length, a function of the seed alone."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.training import EXAMPLES, cell_of
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import methods
from bench.progress import ignore_progress
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.samplers import EMPTY, MEGA_BATCH, LengthGroupedSampler, share_of
from bench.training.trainer import train

CHANCE = random.Random(0)
LENGTHS = [CHANCE.choice([8, 20, 40, 90, 200]) + i % 7 for i in range(1999)]


def batches(order: LengthGroupedSampler) -> list[list[int]]:
    flat = list(order)
    return [flat[at : at + order.batch_size] for at in range(0, len(flat), order.batch_size)]


def padding(found: list[list[int]]) -> float:
    """The share of a batch's tokens that are padding."""
    wasted = sum(max(LENGTHS[i] for i in one) * len(one) - sum(LENGTHS[i] for i in one) for one in found)
    return wasted / (wasted + sum(LENGTHS))


def test_an_epoch_has_every_example_once_and_little_padding() -> None:
    order = LengthGroupedSampler(LENGTHS, 16, seed=0)
    found = batches(order)
    assert sorted(i for one in found for i in one) == list(range(1999)) and len(order) == 1999
    assert [len(one) for one in found] == [16] * 124 + [15]
    assert all(LENGTHS[a] >= LENGTHS[b] for one in found for a, b in pairwise(one))
    assert max(LENGTHS) == LENGTHS[found[0][0]]  # what does not fit in memory fails at the first step
    shuffled = random.Random(1).sample(range(1999), 1999)
    assert padding(found) < 0.1 < 0.4 < padding([shuffled[at : at + 16] for at in range(0, 1999, 16)])


def test_long_and_short_batches_are_mixed() -> None:
    """Not from long to short: the means of the thirds of an epoch are alike."""
    means = [sum(LENGTHS[i] for i in one) / len(one) for one in batches(LengthGroupedSampler(LENGTHS, 16, seed=0))]
    thirds = [sum(means[at : at + 41]) / 41 for at in (0, 41, 82)]
    assert max(thirds) < 1.5 * min(thirds)
    # A mega-batch is a random draw: examples far apart in the shuffled order do not meet.
    assert len(LENGTHS) > 2 * MEGA_BATCH * 16


def test_seed_and_epoch_alone_decide() -> None:
    one, other = LengthGroupedSampler(LENGTHS, 16, seed=3), LengthGroupedSampler(LENGTHS, 16, seed=3)
    first = list(one)
    assert first == list(one) == list(other) != list(LengthGroupedSampler(LENGTHS, 16, seed=4))
    one.set_epoch(1)
    assert list(one) != first
    one.set_epoch(0)
    assert list(one) == first


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17])
def test_few_examples(n: int) -> None:
    assert sorted(LengthGroupedSampler(LENGTHS[:n], 16, seed=0)) == list(range(n))


@pytest.mark.parametrize("micro", [None, 2])
def test_training_follows_it_in_every_epoch(micro: int | None, tiny_model: Path, tmp_path: Path) -> None:
    """Two methods see the same batches in the same order, whatever the micro-batch."""
    seen: dict[str, list[list[int]]] = {}
    config = TrainingConfig(batch_size=4, micro_batch=micro, epochs=2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for name in ("lora", "full"):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        cell = cell_of(name, base, epochs=2, batch_size=4)
        model = methods.get(name).attach(base, cell)
        rows = seen.setdefault(name, [])

        def look(module: nn.Module, args: tuple, kwargs: dict, rows: list[list[int]] = rows) -> None:
            rows.extend(kwargs["input_ids"].tolist())

        model.register_forward_pre_hook(look, with_kwargs=True)
        train(model, tokenizer, methods.get(name), cell, config, EXAMPLES, tmp_path, lambda row: None, ignore_progress)
    assert seen["lora"] == seen["full"]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in seen["lora"]]
    n = len(EXAMPLES)
    assert len(texts) == 2 * n and sorted(texts[:n]) == sorted(texts[n:]) and texts[:n] != texts[n:]


def test_a_random_order_is_what_it_was_before_it_had_a_name(tiny_model: Path) -> None:
    """Cells recorded before keep their identity, and a cell by length is another."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("lora", base)
    named = {order: {**cell.training, "order": order} for order in ("random", "length")}
    before = {key: value for key, value in cell.training.items() if key != "order"}
    ids = {order: Cell(**{**dict(cell), "training": training}).id for order, training in named.items()}
    assert ids["random"] == Cell(**{**dict(cell), "training": before}).id != ids["length"]


@pytest.mark.parametrize("n", [1, 4, 5, 7, 8])
@pytest.mark.parametrize(("micro", "processes"), [(4, 2), (2, 2), (1, 4), (1, 8), (2, 1), (8, 1)])
def test_every_example_of_a_batch_is_dealt_once_and_evenly(n: int, micro: int, processes: int) -> None:
    batch = [100 + i for i in range(n)]
    shares = [share_of(batch, micro, process, processes) for process in range(processes)]
    assert sorted(i for share in shares for part in share for i in part if i != EMPTY) == batch
    assert {len(share) for share in shares} == {math.ceil(n / (micro * processes))}
    for parts in zip(*shares, strict=True):
        counts = [sum(i != EMPTY for i in part) for part in parts]
        assert max(counts) - min(counts) <= 1
        assert processes == 1 or {len(part) for part in parts} == {micro}  # gradients have one shape in all of them


def test_a_process_alone_has_no_empty_places() -> None:
    assert share_of([3, 1, 4, 1, 5], 2) == [[3, 1], [4, 1], [5]]
