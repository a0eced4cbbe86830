"""Training of a model on examples: sets the training loop up, takes its events, and counts what it costs.

The loop itself, from the batch to the step, is `bench.training.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from torch import nn
from transformers import PreTrainedTokenizerBase, set_seed

from bench.costs import Meter, Reading, optimizer_state_bytes
from bench.costs.flops import attended_pairs
from bench.data.collator import Collator
from bench.data.encoding import Encoded, encode_all
from bench.data.example_lengths import check_supervised, set_lengths
from bench.data.examples import Example
from bench.methods.method import Method
from bench.models.device import compute_device, synchronize
from bench.models.embedded_tokens import check_embedded
from bench.models.hooks import causal_lm, drop_prompt_mask
from bench.store.records import SetLengths, TrainingLogRow
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.batches import Batches
from bench.training.checkpoint import Checkpoint
from bench.training.checkpoint_writer import CheckpointWriter
from bench.training.compilation import compiled
from bench.training.events import Logged, StepDone, Validated
from bench.training.loop import summed_loss, train_member
from bench.training.member import Member, make_accelerator, prepare_member
from bench.training.samplers import EpochSampler, LengthGroupedSampler
from bench.training.throughput import Throughput
from bench.training.trackers import make_trackers, track, tracking
from bench.training.training_log import TrainingLog
from bench.training.validation import Validator, split_validation

if TYPE_CHECKING:
    from bench.progress import Advance

SEED_STEP = 1_000_003
"""Between the seeds of two processes of one training, whose dropout masks differ."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to and what it cost."""

    steps: int
    """Optimizer steps."""
    micro_batch: int
    """Examples of a forward pass."""
    cost: Reading
    """Of the training loop alone, over all parts of a resumed training."""
    tokens: int
    """Over all epochs, without padding."""
    padding: int
    """Padding tokens."""
    supervised: int
    """Tokens at which the loss was computed."""
    pairs: float
    """Pairs of a token and a token that it attends to, over all epochs."""
    tokens_per_second: float
    """Without padding, from the end of the first step (of a single step, all of it)."""
    final_loss: float
    best_step: int | None
    """The step with the lowest validation loss, whose weights are kept; None without validation."""
    validation_loss: float | None
    """The lowest."""
    truncated: int
    """Examples that were longer than `max_length`."""
    lengths: dict[str, SetLengths]
    """How long the examples of each training set are."""
    optimizer_bytes: int
    """The optimizer's state: moments and projections."""
    resumed: int = 0
    """How often the training was resumed from a checkpoint. What was computed twice is not in the costs."""


def micro_batches(batch_size: int, first: int | None) -> list[int]:
    """The numbers of examples per forward pass to try, in turn, as memory runs out: each is the largest that divides
    the batch and is at most half of the one before."""
    sizes = [first or batch_size]
    while sizes[-1] > 1:
        sizes.append(next(size for size in range(sizes[-1] // 2, 0, -1) if batch_size % size == 0))
    return sizes


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    method: Method,
    cell: Cell,
    config: TrainingConfig,
    examples: Sequence[Example],
    folder: Path,
    log: Callable[[TrainingLogRow], None],
    advance: Advance,
    meter: Meter | None = None,
    tensorboard: Path | None = None,
) -> TrainingResult:
    """Train `model` in place on the examples, in an order that depends on the cell's seed only.

    `meter` measures the training loop. With several devices this is called in each of their processes
    (`bench.training.distributed`), and the result is the share of this process. A training on one device writes
    checkpoints to `folder` and resumes from the latest one in it; its settings and `examples` must then be the same.
    `tensorboard` is the folder of TensorBoard's log (by default in `folder`), if `config.report_to` names it.

    Raises Diverged if the loss or the gradient is not finite. If memory runs out the model is half-trained: load it
    again and take the next of `micro_batches`.
    """
    data = _TrainingData.of(tokenizer, examples, cell, config)
    check_embedded(model, tokenizer, [row.ids for row in (*data.rows, *data.held_out)])
    drop_prompt_mask(model)
    causal_lm(model).config.use_cache = False  # also where a method calls the model without saying so
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_enable({"use_reentrant": False})
    trackers = make_trackers(config, cell, tensorboard or folder / "tensorboard")
    accelerator = make_accelerator(model, cell, config, trackers)
    set_seed(cell.seed + SEED_STEP * accelerator.process_index)
    with compiled(model) if config.compile else nullcontext(), meter or Meter() as meter:
        batches = data.batches(tokenizer, cell, config, accelerator)
        member = prepare_member(model, method, cell, config, batches.steps, accelerator)
        run = _Run(member, batches, data, config, folder, log, advance, meter)
        with tracking(accelerator, cell):
            run.to_the_end()
        synchronize(compute_device())
        rate = run.throughput.tokens_per_second()
        if run.validator:
            run.validator.restore(model)
    # Removes the autocast from the model's forward: scoring computes the same after training and after loading.
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_disable()
    return run.result(meter.reading, rate)


@dataclass(frozen=True)
class _TrainingData:
    """The encoded examples of a training."""

    rows: list[Encoded]
    """Without the held-out rows."""
    held_out: list[Encoded]
    """For validation."""
    truncated: int
    lengths: dict[str, SetLengths]
    """By training set."""

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], cell: Cell, config: TrainingConfig
    ) -> _TrainingData:
        if cell.data is None:
            raise ValueError(f"{cell.name} is not trained")
        rows = encode_all(tokenizer, examples, config.max_length, cell.data.append_eos, config.truncate)
        check_supervised(rows, config)
        lengths = set_lengths(examples, rows)
        truncated = sum(row.truncated for row in rows)
        held_out: list[Encoded] = []
        if config.validation:
            seed = cell.seed if cell.data.subset_seed is None else cell.data.subset_seed
            rows, held_out = split_validation(rows, config.validation.examples, seed)
        return cls(rows, held_out, truncated, lengths)

    def batches(
        self, tokenizer: PreTrainedTokenizerBase, cell: Cell, config: TrainingConfig, accelerator: Accelerator
    ) -> Batches:
        """The share of this process in the batches of the training."""
        lengths = [len(row.ids) for row in self.rows]
        order: EpochSampler
        if config.order == "length":
            order = LengthGroupedSampler(lengths, config.batch_size, cell.seed)
        else:  # as Trainer's own random order
            order = SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=cell.seed)
        return Batches(
            self.rows,
            order,
            Collator(tokenizer.pad_token_id, config.loss, config.packed),
            config.batch_size,
            config.micro_batch or config.per_device,
            config.epochs,
            accelerator.device,
            accelerator.process_index,
            accelerator.num_processes,
        )


class _Run:
    """A training with all that takes its events: the log, the trackers, the throughput, the checkpoints."""

    def __init__(
        self,
        member: Member,
        batches: Batches,
        data: _TrainingData,
        config: TrainingConfig,
        folder: Path,
        log: Callable[[TrainingLogRow], None],
        advance: Advance,
        meter: Meter,
    ) -> None:
        self.member, self.batches, self.data, self.config = member, batches, data, config
        tokens = sum(len(row.ids) for row in data.rows) * config.epochs  # of all processes
        overflows = member.accelerator.mixed_precision == "fp16"
        self.log = TrainingLog(log, advance, batches.steps, tokens / max(1, batches.steps), overflows)
        self.validator: Validator[Encoded] | None = None
        if config.validation:
            self.validator = Validator(data.held_out, config.validation.steps, batches.micro_batch, self._loss_of)
        self.checkpoints: CheckpointWriter | None = None
        latest: Checkpoint | None = None
        if config.devices == 1 and not member.method.facts_for(member.cell.options).no_checkpoint:
            self.checkpoints = CheckpointWriter(folder, config.checkpoint_minutes, meter)
            self.checkpoints.resume(member, self.validator)
            latest = self.checkpoints.latest
        if latest is not None:
            self.log.resume(latest.progress)
        self.throughput = Throughput(latest.progress.pace if latest else None)

    def to_the_end(self) -> None:
        """Take all steps that are left. Raises Diverged."""
        first, steps = self.member.step + 1, self.batches.steps
        logging_steps = self.config.logging_steps or max(1, steps // 50)
        for event in train_member(self.member, self.batches, logging_steps, self.validator):
            match event:
                case StepDone():
                    self.throughput.add_step(event.tokens, event.places, event.supervised)
                    if event.step == first and first < steps:
                        self.throughput.finish_warm_up()
                    self.log.show_progress(event.step)
                case Validated():
                    self.log.add_validation(event)
                case Logged():
                    track(self.member.accelerator, event)
                    self.log.add_losses(event)
                    if self.checkpoints is not None and self.checkpoints.is_due() and event.step < steps:
                        micro_batch = self.batches.micro_batch
                        self.checkpoints.write(self.member, micro_batch, self.throughput, self.log.rows, self.validator)

    def _loss_of(self, rows: Sequence[Encoded]) -> tuple[float, int]:
        """The sum of the losses of the supervised tokens of some examples, and the number of these tokens."""
        micro_batch = self.batches.micro_batch_of(rows)
        return summed_loss(self.member, micro_batch).item(), micro_batch.targets.numel()

    def result(self, reading: Reading, tokens_per_second: float) -> TrainingResult:
        """What it came to; `reading` is that of this part of a resumed training."""
        return TrainingResult(
            steps=self.member.step,
            micro_batch=self.batches.micro_batch,
            cost=self.checkpoints.total_cost(reading) if self.checkpoints else reading,
            tokens=self.throughput.tokens,
            padding=self.throughput.places - self.throughput.tokens,
            supervised=self.throughput.supervised,
            pairs=attended_pairs(len(row.ids) for row in self.data.rows) * self.config.epochs,
            tokens_per_second=tokens_per_second,
            final_loss=self.log.last_loss,
            best_step=self.validator.best_step if self.validator else None,
            validation_loss=self.validator.best_loss if self.validator else None,
            truncated=self.data.truncated,
            lengths=self.data.lengths,
            optimizer_bytes=optimizer_state_bytes(self.member.optimizer),
            resumed=self.checkpoints.resumed if self.checkpoints else 0,
        )
