"""Training of a model on examples: transformers' `Trainer`, with the loss at supervised positions only.

N supervised positions of a batch, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from bench.costs import Meter, Reading, optimizer_state_bytes
from bench.costs.flops import attended_pairs
from bench.data.collator import Collator
from bench.data.encoding import Encoded, encode_all
from bench.data.example_lengths import check_supervised, set_lengths
from bench.data.examples import Example
from bench.errors import CellProblem
from bench.methods.method import Method
from bench.models.compat.transformers_masks import KnownPadding
from bench.models.compat.transformers_trainer import HookedTrainer, tensorboard_callback, use_one_gpu
from bench.models.device import compute_device, synchronize
from bench.models.embedded_tokens import check_embedded
from bench.models.hooks import HeadAt, causal_lm, drop_prompt_mask
from bench.store.records import SetLengths, TrainingLogRow
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training import checkpoint
from bench.training.callbacks import AfterStep, TrainingMonitor
from bench.training.checkpoint_writer import CheckpointWriter
from bench.training.compilation import compiled
from bench.training.samplers import DistributedSampler, LengthGroupedSampler
from bench.training.throughput import Throughput
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


class FineTuner(HookedTrainer):
    """Trainer with the method's optimizer, and the loss and the output head at supervised positions only."""

    def __init__(
        self,
        cell: Cell,
        method: Method,
        order: LengthGroupedSampler | DistributedSampler | None,
        throughput: Throughput,
        model: nn.Module,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, **kwargs)
        self.cell, self.method, self.order, self.throughput = cell, method, order, throughput
        self.monitor: TrainingMonitor | None = None
        self.checkpoints: CheckpointWriter | None = None
        self.validator: Validator[Encoded] | None = None

    def train_sampler(self) -> LengthGroupedSampler | DistributedSampler | None:
        return self.order

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.method.optimizer(self.trained_model, self.cell)
        optimizer = super().create_optimizer(model)
        parameters = {id(parameter) for parameter in self.trained_model.parameters()}
        if any(id(parameter) not in parameters for group in optimizer.param_groups for parameter in group["params"]):
            raise CellProblem(
                f"method {self.cell.method}: its optimizer holds parameters that are not the model's",
                "It must look for them in the model that it is given: sharding has replaced the earlier parameters.",
            )
        return optimizer

    def save_checkpoint(self) -> None:
        if self.checkpoints is not None:
            rows = self.monitor.rows if self.monitor is not None else []
            self.checkpoints.write(self, self.trained_model, self.throughput, rows, self.validator)

    @property
    def _resumed_from(self) -> checkpoint.Checkpoint:
        assert self.checkpoints is not None and self.checkpoints.latest is not None
        return self.checkpoints.latest

    def resume_validation(self) -> checkpoint.Checkpoint | None:
        """The checkpoint to resume from, if there is one; continues its validation."""
        latest = self.checkpoints.latest if self.checkpoints is not None else None
        if latest is not None and self.validator is not None and latest.progress.validation is not None:
            self.validator.resume(latest.progress.validation, latest.tensors("best."))
        return latest

    def restore_model(self) -> None:
        checkpoint.restore_model(self._resumed_from, self.trained_model)

    def restore_optimizer(self) -> None:
        assert self.optimizer is not None and self.lr_scheduler is not None  # created before they are restored
        scaler = self.accelerator.scaler
        checkpoint.restore_optimizer(self._resumed_from, self.optimizer, self.lr_scheduler, scaler)

    def restore_generators(self) -> None:
        checkpoint.restore_generators(self._resumed_from)

    def _summed_loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, object]:
        """The sum of the losses of a batch's supervised tokens, and the model's outputs."""
        inputs = {name: value for name, value in inputs.items() if name not in ("labels", "tokens")}
        supervised, targets, padded = inputs.pop("supervised"), inputs.pop("targets"), inputs.pop("padded")
        head = HeadAt(self.accelerator.unwrap_model(model), supervised, inputs["input_ids"].shape[1])
        with KnownPadding(padded), head:
            outputs = model(**inputs, use_cache=False)
        loss = nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="sum")  # (N, V), (N,)
        return loss, outputs

    def total_loss(self, model: nn.Module, rows: Sequence[Encoded]) -> tuple[float, int]:
        """The sum of the losses of the supervised tokens of some examples, and the number of these tokens."""
        collate: Any = self.data_collator  # ours: of `Encoded` rows
        inputs = self.prepare_batch(collate(rows))
        with self.compute_loss_context_manager():
            loss, _ = self._summed_loss(model, inputs)
        return loss.item(), inputs["targets"].numel()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        count = inputs["targets"].numel()
        self.throughput.add_batch(inputs["tokens"], inputs["input_ids"].numel(), count)
        loss, outputs = self._summed_loss(model, inputs)
        # The number of items is that of all processes, and gradients and logged losses become means over processes.
        loss = loss * self.accelerator.num_processes
        # A batch whose answers are all cut away (training.truncate: end) has no supervised token, and a loss of 0.
        items = count if num_items_in_batch is None else num_items_in_batch
        loss = loss / (items.clamp(min=1) if isinstance(items, torch.Tensor) else max(1, items))
        penalty = self.method.penalty(self.accelerator.unwrap_model(model), self.cell)
        if penalty is not None:
            # Once a step, however the batch is split; in the gradient, but not in the logged loss.
            penalty = penalty / self.current_gradient_accumulation_steps
            loss = loss + penalty - penalty.detach()
        return (loss, outputs) if return_outputs else loss


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
    dataset = _Dataset.of(tokenizer, examples, cell, config)
    check_embedded(model, tokenizer, [row.ids for row in (*dataset.rows, *dataset.held_out)])
    drop_prompt_mask(model)
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_enable({"use_reentrant": False})
    trainer, monitor = _make_trainer(model, tokenizer, method, cell, config, dataset, folder, log, advance, tensorboard)
    set_seed(cell.seed + SEED_STEP * trainer.args.process_index)
    with compiled(model) if config.compile else nullcontext(), meter or Meter() as meter:
        resumed_from = None
        if config.devices == 1 and not method.facts_for(cell.options).no_checkpoint:
            monitor.checkpoints = trainer.checkpoints = CheckpointWriter(folder, config.checkpoint_minutes, meter)
            resumed_from = trainer.resume_validation()
        throughput = Throughput(resumed_from.progress.pace if resumed_from else None)
        monitor.throughput = trainer.throughput = throughput
        output = trainer.train(resume_from_checkpoint=str(resumed_from.path) if resumed_from else None)
        synchronize(compute_device())
        rate = throughput.tokens_per_second()
        if trainer.validator:
            trainer.validator.restore(model)
    # Removes Trainer's autocast from the model's forward: scoring computes the same after training and after loading.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_disable()
    assert trainer.optimizer is not None
    tokens = throughput.tokens - dataset.filler_tokens(trainer, output.global_step)
    return TrainingResult(
        steps=output.global_step,
        micro_batch=trainer.args.per_device_train_batch_size,
        cost=trainer.checkpoints.total_cost(meter.reading) if trainer.checkpoints else meter.reading,
        tokens=tokens,
        padding=throughput.places - tokens,
        supervised=throughput.supervised,
        pairs=attended_pairs(len(row.ids) for row in dataset.rows) * config.epochs,
        tokens_per_second=rate,
        final_loss=monitor.last_loss,
        best_step=trainer.validator.best_step if trainer.validator else None,
        validation_loss=trainer.validator.best_loss if trainer.validator else None,
        truncated=dataset.truncated,
        lengths=dataset.lengths,
        optimizer_bytes=optimizer_state_bytes(trainer.optimizer),
        resumed=trainer.checkpoints.resumed if trainer.checkpoints else 0,
    )


@dataclass(frozen=True)
class _Dataset:
    """The encoded examples of a training."""

    rows: list[Encoded]
    """Without the held-out rows."""
    held_out: list[Encoded]
    """For validation."""
    truncated: int
    lengths: dict[str, SetLengths]
    """By training set."""
    steps: int
    """Optimizer steps of the training."""
    batch_size: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], cell: Cell, config: TrainingConfig
    ) -> _Dataset:
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
        steps = math.ceil(math.ceil(len(rows) / config.batch_size) * config.epochs)
        return cls(rows, held_out, truncated, lengths, steps, config.batch_size)

    @property
    def filler(self) -> Encoded:
        """The row of a process that has no example: a real one without supervision, so that all that a method does to
        it has a gradient (of zeros)."""
        return dataclasses.replace(min(self.rows, key=lambda row: len(row.ids)), supervised=False)

    def filler_tokens(self, trainer: FineTuner, steps: int) -> int:
        """Tokens of filler rows in the training of this process; they count as padding."""
        if not isinstance(trainer.order, DistributedSampler):
            return 0
        epochs = steps // math.ceil(len(self.rows) / self.batch_size)
        return trainer.order.empty_places(trainer.args.process_index) * epochs * len(self.filler.ids)


def _make_trainer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    method: Method,
    cell: Cell,
    config: TrainingConfig,
    dataset: _Dataset,
    folder: Path,
    log: Callable[[TrainingLogRow], None],
    advance: Advance,
    tensorboard: Path | None,
) -> tuple[FineTuner, TrainingMonitor]:
    """The trainer of a cell with its callbacks, and the callback that logs and shows progress."""
    lengths = [len(row.ids) for row in dataset.rows]
    throughput = Throughput()
    monitor = TrainingMonitor(log, advance, sum(lengths) * config.epochs / max(1, dataset.steps), throughput)
    callbacks: list[TrainerCallback] = [monitor, AfterStep(method, cell)]
    if "tensorboard" in config.report_to:
        callbacks.append(tensorboard_callback(tensorboard or folder / "tensorboard"))
    arguments = _training_arguments(cell, config, dataset, folder)
    trainer = FineTuner(
        cell,
        method,
        _sampler(lengths, cell, config),
        throughput,
        model,
        args=arguments,
        train_dataset=[*dataset.rows, dataset.filler] if config.devices > 1 else dataset.rows,
        data_collator=Collator(tokenizer.pad_token_id, config.loss, config.packed),
        callbacks=callbacks,
    )
    trainer.monitor = monitor
    trainer.remove_callback(PrinterCallback)
    if config.validation:
        micro_batch = arguments.per_device_train_batch_size
        trainer.validator = Validator(
            dataset.held_out, config.validation.steps, micro_batch, trainer.total_loss, monitor.add_row
        )
        trainer.add_callback(trainer.validator)
    return trainer, monitor


def _training_arguments(cell: Cell, config: TrainingConfig, dataset: _Dataset, folder: Path) -> TrainingArguments:
    """The settings of a cell as transformers' Trainer takes them."""
    device = compute_device()
    micro_batch = config.micro_batch or config.per_device
    if cell.lr is None:
        raise ValueError(f"{cell.name} has no learning rate")
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=config.per_device // micro_batch,
        learning_rate=cell.lr,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_steps if config.warmup_steps is not None else config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch_fused",
        seed=cell.seed,
        bf16=cell.base.dtype == "bfloat16",
        fp16=cell.base.dtype == "float16",
        use_cpu=device.type == "cpu",
        logging_steps=config.logging_steps or max(1, dataset.steps // 50),
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[tracker for tracker in config.report_to if tracker != "tensorboard"] or "none",
        run_name=cell.folder,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        accelerator_config={"non_blocking": device.type == "cuda"},  # a blocking copy would wait for earlier work
        disable_tqdm=True,
    )
    if device.type == "cuda":
        use_one_gpu(arguments)
    return arguments


def _sampler(
    lengths: Sequence[int], cell: Cell, config: TrainingConfig
) -> LengthGroupedSampler | DistributedSampler | None:
    """The order of the examples; None for Trainer's own random order."""
    grouped = LengthGroupedSampler(lengths, config.batch_size, cell.seed) if config.order == "length" else None
    if config.devices == 1:
        return grouped
    # What accelerate makes of Trainer's own random order.
    order = grouped or SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=cell.seed)
    return DistributedSampler(order, config.batch_size, config.micro_batch or config.per_device, config.devices)
