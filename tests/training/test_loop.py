"""The events of the training loop: what is said of each step, in which order, and at what point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import EXAMPLES, cell_of
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from bench import methods
from bench.data.collator import Collator
from bench.data.encoding import encode_all
from bench.models.hooks import drop_prompt_mask
from bench.sweep.sections import TrainingConfig
from bench.training.batches import Batches
from bench.training.events import Event, Logged, StepDone, Validated
from bench.training.loop import summed_loss, train_member
from bench.training.member import Member, make_accelerator, prepare_member
from bench.training.samplers import LengthGroupedSampler
from bench.training.validation import Validator


def prepared(tiny: Path, method: str = "lora", epochs: float = 2, **settings: Any) -> tuple[Member, Batches]:
    """A member that is ready to be trained on batches of 8 of the 20 examples, and its batches."""
    base, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    config = TrainingConfig(batch_size=8, epochs=epochs, **settings)
    cell = cell_of(method, base, batch_size=8, epochs=epochs, lr=1e-2, rank=4, dropout=0.0)
    set_seed(0)
    model = methods.get(method).attach(base, cell)
    drop_prompt_mask(model)
    accelerator = make_accelerator(model, cell, config, [])
    rows = encode_all(tokenizer, EXAMPLES, 256, append_eos=True)
    order = LengthGroupedSampler([len(row.ids) for row in rows], 8, seed=0)
    micro_batch = config.micro_batch or 8
    batches = Batches(
        rows, order, Collator(tokenizer.pad_token_id, "answer"), 8, micro_batch, epochs, accelerator.device
    )
    return prepare_member(model, methods.get(method), cell, config, batches.steps, accelerator), batches


def kinds(events: list[Event]) -> list[tuple[str, int]]:
    return [(type(event).__name__, event.step) for event in events]


def test_a_step_is_done_then_validated_then_logged(tiny_model: Path) -> None:
    member, batches = prepared(tiny_model)
    validator = Validator(batches.rows[:4], 4, 2, lambda rows: loss_of(member, batches, rows))
    events = list(train_member(member, batches, 3, validator))
    assert kinds(events) == [
        *[("StepDone", 1), ("StepDone", 2), ("StepDone", 3), ("Logged", 3), ("StepDone", 4), ("Validated", 4)],
        *[("StepDone", 5), ("StepDone", 6), ("Validated", 6), ("Logged", 6)],
    ]
    validated = [event for event in events if isinstance(event, Validated)]
    assert validator.best_loss == min(event.loss for event in validated)
    done = [event for event in events if isinstance(event, StepDone)]
    assert sum(event.tokens for event in done) == 2 * sum(len(row.ids) for row in batches.rows)
    assert member.prepared.training


def loss_of(member: Member, batches: Batches, rows: Any) -> tuple[float, int]:
    micro_batch = batches.micro_batch_of(rows)
    return summed_loss(member, micro_batch).item(), micro_batch.targets.numel()


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_logged_loss_is_the_mean_of_its_steps(micro_batch: int | None, tiny_model: Path) -> None:
    """1e-6 for the order of the sums."""
    member, batches = prepared(tiny_model, epochs=1, micro_batch=micro_batch)
    twin, _ = prepared(tiny_model, epochs=1, micro_batch=micro_batch)
    expected = []
    for event in train_member(twin, batches, 100):
        if isinstance(event, StepDone):
            expected.append(twin.loss.item())
            twin.forget_losses()
    (logged,) = [event for event in train_member(member, batches, 100) if isinstance(event, Logged)]
    assert logged.loss == pytest.approx(sum(expected) / 3, abs=1e-6)
    assert (logged.step, logged.epoch) == (3, 1.0) and member.loss.item() == 0


def test_between_two_events_the_training_stands_still(tiny_model: Path) -> None:
    """A checkpoint may be written: the step is counted, its gradients are cleared, its learning rate is behind."""
    member, batches = prepared(tiny_model)
    for event in train_member(member, batches, 1):
        assert event.step == member.step == member.schedule.last_epoch
        assert all(parameter.grad is None for parameter in member.parameters)
    assert member.step == batches.steps == 6


def test_a_member_that_has_taken_steps_goes_on(tiny_model: Path) -> None:
    whole, batches = prepared(tiny_model)
    expected = list(train_member(whole, batches, 1))
    member, batches = prepared(tiny_model)
    events = []
    for event in train_member(member, batches, 1):
        events.append(event)
        if isinstance(event, Logged) and event.step == 4:
            break
    events += train_member(member, batches, 1)
    assert events == expected
    pairs = zip(whole.parameters, member.parameters, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
