"""Groups of tiny members, and each method trained together against alone.

A member of a group has its own seed, learning rate and examples, so that the rows of two members have other lengths.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed

from bench import methods
from bench.data.collator import Collator
from bench.data.encoding import encode_all
from bench.data.examples import Example
from bench.methods.method import Method
from bench.models.hooks import causal_lm, drop_prompt_mask
from bench.sweep.cell import BaseIdentity, Cell, CellData, Settings
from bench.sweep.sections import TrainingConfig
from bench.training.batches import Batches
from bench.training.events import Event, Logged
from bench.training.group import Group, GroupMember, train_group
from bench.training.loop import summed_loss, train_member
from bench.training.member import make_accelerator, prepare_member
from bench.training.parity import why_alone
from bench.training.random_stream import RandomStream
from bench.training.samplers import LengthGroupedSampler
from bench.training.shared_base import attach_on_shared_base

ROWS, BATCH, EPOCHS = 16, 4, 5
"""Twenty steps."""
FACTORS = (1.0, 0.5, 2.0)
"""Of the members' learning rates."""


def examples_of(seed: int, rows: int = ROWS) -> list[Example]:
    """Questions and answers of many lengths, drawn by the seed."""
    numbers = random.Random(seed)
    words = ("odd", "even", "a square", "a prime number", "the sum of two squares")
    return [
        Example(f"Is {numbers.randrange(10 ** numbers.randrange(1, 9))} {numbers.choice(words)}?", f" {answer}")
        for answer in numbers.choices(["yes", "no", "nobody knows"], k=rows)
    ]


def without_dropout(options: Settings) -> Settings:
    """The settings with every probability of dropout 0."""
    return {
        key: without_dropout(value)
        if isinstance(value, dict)
        else 0.0
        if "dropout" in key and isinstance(value, float)
        else value
        for key, value in options.items()
    }


def cells_of(
    method: Method,
    base: PreTrainedModel,
    members: int,
    config: TrainingConfig,
    options: Mapping[str, Any],
    dropout: bool,
    dtype: str,
) -> list[Cell]:
    """Cells of the seeds 0, 1, ..., with learning rates in turn of `FACTORS`."""
    cells = []
    for seed in range(members):
        resolved = scaled_rates(method.resolve(dict(options), base), FACTORS[seed % len(FACTORS)])
        cells.append(
            Cell(
                base=BaseIdentity(id="tiny", revision="-", dtype=dtype),
                method=method.name,
                method_version=method.version,
                options=resolved if dropout else without_dropout(resolved),
                samples=ROWS,
                seed=seed,
                data=CellData(
                    train=("x",), format="question", mix="equal", subset_seed=None, append_eos=True, fingerprint="x"
                ),
                training=config.model_dump(mode="json"),
            )
        )
    return cells


def scaled_rates(options: Settings, factor: float) -> Settings:
    """The settings with every learning rate times a factor."""
    return {
        key: scaled_rates(value, factor)
        if isinstance(value, dict)
        else value * factor
        if key == "lr" and isinstance(value, float)
        else value
        for key, value in options.items()
    }


def members_of(
    tiny: Path,
    name: str | Method,
    options: Mapping[str, Any] | None = None,
    members: int = 3,
    dropout: bool = False,
    attention: str = "sdpa",
    dtype: str = "float32",
    examples: Callable[[int], Sequence[Example]] = examples_of,
    **settings: Any,
) -> list[GroupMember]:
    """Members of a method that are ready to be trained, on one base in the same memory."""
    config = TrainingConfig(**{"batch_size": BATCH, "epochs": EPOCHS, **settings})
    method, tokenizer = methods.get(name) if isinstance(name, str) else name, AutoTokenizer.from_pretrained(tiny)
    cells = cells_of(method, AutoModelForCausalLM.from_pretrained(tiny), members, config, options or {}, dropout, dtype)

    def load(cell: Cell) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            tiny, attn_implementation=attention, **{"dtype": dtype, **method.load_kwargs(cell)}
        )
        set_seed(cell.seed)
        return model

    models = attach_on_shared_base(method, cells, load)
    accelerator = make_accelerator(models[0], cells[0], config, [])
    prepared = []
    for cell, model in zip(cells, models, strict=True):
        drop_prompt_mask(model)
        causal_lm(model).config.use_cache = False
        set_seed(cell.seed)
        stream = RandomStream()
        rows = encode_all(tokenizer, examples(cell.seed), config.max_length, append_eos=True)
        batches = Batches(
            rows,
            LengthGroupedSampler([len(row.ids) for row in rows], config.batch_size, cell.seed),
            Collator(tokenizer.pad_token_id, "answer", config.packed),
            config.batch_size,
            config.micro_batch or config.batch_size,
            config.epochs,
            accelerator.device,
        )
        member = prepare_member(model, method, cell, config, batches.steps, accelerator)
        prepared.append(GroupMember(member, batches, stream))
    return prepared


def train_alone(members: Sequence[GroupMember], logging_steps: int = 1) -> list[list[Event]]:
    """Train one member after the other; the events of each."""
    events = []
    for peer in members:
        with peer.stream.active():
            events.append(list(train_member(peer.member, peer.batches, logging_steps, peer.validator)))
    return events


def train_together(members: Sequence[GroupMember], logging_steps: int = 1) -> list[list[Event]]:
    """Train all members in one pass; the events of each."""
    events: dict[GroupMember, list[Event]] = {peer: [] for peer in members}
    for peer, event in train_group(Group(members), logging_steps):
        events[peer].append(event)
    return list(events.values())


def weights(peer: GroupMember) -> torch.Tensor:
    """All trained parameters of a member, end to end."""
    return nn.utils.parameters_to_vector(peer.member.parameters).detach()


def losses(events: Sequence[Event]) -> torch.Tensor:
    return torch.tensor([event.loss for event in events if isinstance(event, Logged)])


@torch.no_grad()
def final_loss(peer: GroupMember) -> float:
    """Of a member's model by itself, outside of training, on some of its examples (a mean over tokens)."""
    peer.member.model.eval()
    micro_batch = peer.batches.micro_batch_of(peer.batches.rows[:BATCH])
    return summed_loss(peer.member, micro_batch).item() / micro_batch.targets.numel()


@dataclass(frozen=True)
class Comparison:
    """A method's members trained together and alone."""

    alone: str | None
    """Why they are trained alone; None if they are trained together."""
    loss: float = 0.0
    """Largest difference of a loss between both ways: of a step, or of the trained model outside of training."""
    weight: float = 0.0
    """Largest difference of a trained parameter after the last step."""
    moved: float = 0.0
    """Largest change of a trained parameter by the training."""


def compared(tiny: Path, name: str, options: Mapping[str, Any] | None = None, **settings: Any) -> Comparison:
    """Three members trained for 20 steps, without dropout, together and alone."""
    together = members_of(tiny, name, options, **settings)
    reason = why_alone(together)
    if reason is not None:
        return Comparison(reason)
    first = [weights(peer).clone() for peer in together]
    alone = members_of(tiny, name, options, **settings)
    pairs = zip(train_together(together), train_alone(alone), strict=True)
    apart = [float((losses(events) - losses(others)).abs().max()) for events, others in pairs]
    apart += [abs(final_loss(peer) - final_loss(other)) for peer, other in zip(together, alone, strict=True)]
    ends = [(weights(peer), weights(other)) for peer, other in zip(together, alone, strict=True)]
    return Comparison(
        None,
        max(apart),
        max(float((peer - other).abs().max()) for peer, other in ends),
        min(float((peer - before).abs().max()) for (peer, _), before in zip(ends, first, strict=True)),
    )
