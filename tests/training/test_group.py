"""Members that are trained in one pass come to what they come to alone, whatever happens to the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.groups import examples_of, losses, members_of, train_alone, train_together, weights
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, get_scheduler

from bench.training.batches import Batch
from bench.training.events import Event, Logged, StepDone, Validated
from bench.training.group import Group, GroupMember, has_diverged, stack_micro_batches, train_group
from bench.training.loop import summed_loss
from bench.training.stacking import CannotGroup, StackedTensors, tensors_of
from bench.training.validation import Validator

TOLERANCE = 1e-5
"""Of the issue: float32, 20 steps. Both ways add the same numbers in other orders."""
LORA = {"rank": 4, "lr": 1e-2}


def check_equal(
    together: Sequence[GroupMember], alone: Sequence[GroupMember], events: Sequence[Sequence[Sequence[Event]]]
) -> None:
    """Losses and final weights within the tolerance; steps, tokens and learning rates equal."""
    for own, other, log, expected in zip(together, alone, *events, strict=True):
        assert float((losses(log) - losses(expected)).abs().max()) <= TOLERANCE
        assert float((weights(own) - weights(other)).abs().max()) <= TOLERANCE
        assert [event for event in log if isinstance(event, StepDone)] == [
            event for event in expected if isinstance(event, StepDone)
        ]
        rates = [[event.lr for event in each if isinstance(event, Logged)] for each in (log, expected)]
        assert rates[0] == rates[1] and len(rates[0]) == own.batches.steps == own.member.step


def first_batches(members: Sequence[GroupMember]) -> list[Batch]:
    return [next(own.batches.after(0)) for own in members]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_seeds_rates_and_lengths_of_the_members_are_their_own(
    attention: str, micro_batch: int | None, tiny_model: Path
) -> None:
    settings: dict[str, Any] = {"attention": attention, "micro_batch": micro_batch}
    together, alone = (members_of(tiny_model, "lora", LORA, **settings) for _ in range(2))
    lengths = {batch.micro_batches[0].inputs["input_ids"].shape[1] for batch in first_batches(together)}
    assert len(lengths) == 3 and len({own.member.cell.lr for own in together}) == 3
    before = [weights(own).clone() for own in together]
    check_equal(together, alone, [train_together(together), train_alone(alone)])
    assert all((weights(own) - start).abs().max() > 0.01 for own, start in zip(together, before, strict=True))


def test_dropout_draws_the_masks_that_each_member_draws_alone(tiny_model: Path) -> None:
    options = {**LORA, "dropout": 0.3}
    together, alone, without = (
        members_of(tiny_model, "lora", options, dropout=dropout) for dropout in (True, True, False)
    )
    check_equal(together, alone, [train_together(together), train_alone(alone)])
    train_together(without)
    assert all((weights(own) - weights(other)).abs().max() > 1e-3 for own, other in zip(together, without, strict=True))


def test_lora_comes_to_what_stock_peft_comes_to_by_plain_autograd(tiny_model: Path) -> None:
    """A loop of its own: PEFT's model, a batch padded to its own longest row, labels of the answers alone."""
    members = members_of(tiny_model, "lora", LORA)
    expected = [trained_by_hand(tiny_model, own) for own in members]
    events = train_together(members)
    for own, log, (parameters, their_losses) in zip(members, events, expected, strict=True):
        assert torch.allclose(losses(log), torch.tensor(their_losses), atol=TOLERANCE)
        assert torch.allclose(weights(own), parameters, atol=TOLERANCE)


def trained_by_hand(tiny: Path, own: GroupMember) -> tuple[torch.Tensor, list[float]]:
    """The trained parameters after all steps, and the loss of each."""
    cell, training, tokenizer = own.member.cell, own.member.cell.training_config, AutoTokenizer.from_pretrained(tiny)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules=cell.options["target_modules"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config)
    with torch.no_grad():  # the same start
        for name, parameter in own.member.model.named_parameters():
            model.get_parameter(name).copy_(parameter)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps, batch_size = own.batches.steps, own.batches.batch_size
    optimizer = torch.optim.AdamW(parameters, lr=cell.lr, weight_decay=training.weight_decay)
    schedule = get_scheduler(training.schedule, optimizer, math.ceil(steps * training.warmup_ratio), steps)
    rows, log = own.batches.rows, []
    for step in range(steps):
        epoch, position = divmod(step, own.batches.steps_per_epoch)
        own.batches.order.set_epoch(epoch)
        chosen = [rows[index] for index in list(own.batches.order)[position * batch_size :][:batch_size]]
        longest = max(len(row.ids) for row in chosen)
        padding = [longest - len(row.ids) for row in chosen]
        ids = torch.tensor([row.ids + [tokenizer.pad_token_id] * n for row, n in zip(chosen, padding, strict=True)])
        mask = torch.tensor([[1] * len(row.ids) + [0] * n for row, n in zip(chosen, padding, strict=True)])
        labels = torch.tensor(
            [
                [-100] * row.prompt_length + row.ids[row.prompt_length :] + [-100] * n
                for row, n in zip(chosen, padding, strict=True)
            ]
        )
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        log.append(loss.item())
    return torch.cat([parameter.detach().flatten() for parameter in parameters]), log


def test_a_group_of_one_is_trained_as_alone_bit_for_bit(tiny_model: Path) -> None:
    options = {**LORA, "dropout": 0.3}
    together, alone = (members_of(tiny_model, "lora", options, members=1, dropout=True) for _ in range(2))
    assert train_together(together) == train_alone(alone)
    assert torch.equal(weights(together[0]), weights(alone[0]))


def diverging(members: list[GroupMember], number: int = 1) -> list[GroupMember]:
    """The members, one of which has a weight that is not a number from the start."""
    with torch.no_grad():
        members[number].member.parameters[0].fill_(torch.nan)
    return members


def test_a_member_that_is_not_finite_leaves_and_changes_nothing_for_the_others(tiny_model: Path) -> None:
    """Bit for bit up to the step at which it leaves, against the group in which it is well; from there within rounding
    of alone, since the products have other shapes."""
    well, ill, alone = (members_of(tiny_model, "lora", LORA) for _ in range(3))
    diverging(ill)
    expected, events = train_together(well, logging_steps=3), train_together(ill, logging_steps=3)
    (logged,) = (event for event in events[1] if isinstance(event, Logged))
    assert has_diverged(logged) and logged.step == ill[1].member.step == 3 and events[1][-1] is logged
    for number in (0, 2):
        until = [[event for event in log[number] if event.step <= 3] for log in (events, expected)]
        assert until[0] == until[1]
    logs = train_alone(alone, logging_steps=3)
    for number in (0, 2):
        assert ill[number].member.step == 20
        assert torch.allclose(losses(events[number]), losses(logs[number]), atol=TOLERANCE)
        assert torch.allclose(weights(ill[number]), weights(alone[number]), atol=TOLERANCE)


def test_a_member_leaves_when_it_is_told_to_and_the_last_one_goes_on_alone(tiny_model: Path) -> None:
    members, alone = (members_of(tiny_model, "dora", {**LORA, "dropout": 0.3}, dropout=True) for _ in range(2))
    group, left = Group(members), {0: 5, 2: 9}
    for own, event in train_group(group, 1):
        if left.get(members.index(own)) == event.step:
            own.leaves = True
    assert [own.member.step for own in members] == [5, 20, 9]
    assert group.members == [members[1]]
    train_alone(alone)
    assert torch.allclose(weights(members[1]), weights(alone[1]), atol=TOLERANCE)
    assert not any(weights(own).isnan().any() for own in members)


def test_a_group_without_members_ends(tiny_model: Path) -> None:
    members = diverging(diverging(members_of(tiny_model, "lora", LORA, members=2), 0), 1)
    events = train_together(members)
    assert [[event.step for event in log] for log in events] == [[1, 1], [1, 1]]


def test_a_group_is_validated_as_its_members_alone(tiny_model: Path) -> None:
    logs = []
    for train in (train_together, train_alone):
        members = members_of(tiny_model, "lora", LORA)
        for own in members:
            own.validator = Validator(own.batches.rows[:3], 7, 2, lambda rows, own=own: loss_of(own, rows))
        log = [[event for event in each if isinstance(event, Validated)] for each in train(members)]
        assert [[event.step for event in each] for each in log] == [[7, 14, 20]] * 3
        logs.append(torch.tensor([[event.loss for event in each] for each in log]))
    assert torch.allclose(*logs, atol=TOLERANCE)


def loss_of(own: GroupMember, rows: Any) -> tuple[float, int]:
    micro_batch = own.batches.micro_batch_of(rows)
    return summed_loss(own.member, micro_batch).item(), micro_batch.targets.numel()


def test_the_base_is_in_memory_once_and_adapters_are_each_models_own_afterwards(tiny_model: Path) -> None:
    members = members_of(tiny_model, "lora", LORA)
    group = Group(members)
    tables = [tensors_of(own.member.model) for own in members]
    for name, tensor in tables[0].items():
        pointers = {table[name].untyped_storage().data_ptr() for table in tables}
        assert len(pointers) == 1  # of the base, or of the stack
        offsets = {table[name].storage_offset() for table in tables}
        assert len(offsets) == (3 if tensor.requires_grad else 1)
    assert len(tables[0]) > len(list(group.stacked.stacks)) > 0  # type: ignore[union-attr]
    train_together(members)
    for name, tensor in tables[0].items():
        storages = {table[name].untyped_storage().data_ptr() for table in tables}
        assert len(storages) == (3 if tensor.requires_grad else 1)


def test_what_a_member_writes_into_the_shared_base_is_an_error(tiny_model: Path) -> None:
    members = members_of(tiny_model, "lora", LORA)
    group = Group(members)
    base: PreTrainedModel = members[0].member.model.get_base_model()  # type: ignore[operator]
    with torch.no_grad():
        base.get_input_embeddings().weight.add_(1)
    with pytest.raises(RuntimeError, match="has changed a frozen tensor that all members of its group share"):
        group.end_step()


def test_a_tensor_that_a_method_replaces_is_taken_over(tiny_model: Path) -> None:
    members = members_of(tiny_model, "lora", LORA, members=2)
    stacked = StackedTensors([own.member.model for own in members])
    parameter = members[1].member.parameters[0]
    parameter.data = torch.full_like(parameter, 7.0)
    stacked.refresh()
    name = next(name for name, value in members[1].member.model.named_parameters() if value is parameter)
    assert (stacked.stacks[name][1] == 7).all() and not (stacked.stacks[name][0] == 7).any()
    assert parameter.data_ptr() == stacked.stacks[name][1].data_ptr()


def test_models_of_other_ranks_are_no_group(tiny_model: Path) -> None:
    members = [members_of(tiny_model, "lora", {"rank": rank}, members=1)[0] for rank in (2, 4)]
    with pytest.raises(CannotGroup, match=r"their models differ in the shape of .*lora_A"):
        Group(members)


def test_micro_batches_are_filled_with_what_has_no_loss(tiny_model: Path) -> None:
    """Padding to the longest row and the most supervised positions; the member's own losses stay what they are."""
    members = members_of(tiny_model, "lora", LORA)
    parts = [batch.micro_batches[0] for batch in first_batches(members)]
    stacked = stack_micro_batches(parts, pad_token_id=2)
    assert stacked.padded and stacked.inputs["input_ids"].shape[:2] == (3, 4)
    for number, part in enumerate(parts):
        length = part.inputs["input_ids"].shape[1]
        assert torch.equal(stacked.inputs["input_ids"][number, :, :length], part.inputs["input_ids"])
        assert (stacked.inputs["input_ids"][number, :, length:] == 2).all()
        assert not stacked.inputs["attention_mask"][number, :, length:].any()
        assert torch.equal(stacked.targets[number][: part.targets.numel()], part.targets)
        assert (stacked.targets[number][part.targets.numel() :] == -100).all()


def test_examples_of_members_differ() -> None:
    assert examples_of(0) == examples_of(0) != examples_of(1)
