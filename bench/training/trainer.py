"""Examples in, trained parameters out: transformers' `Trainer`, with the loss where it is supervised.

N supervised positions of a batch, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import nn
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from bench.costs import Meter, Reading, optimizer_state_bytes
from bench.costs.flops import attended_pairs
from bench.data.encoding import Collator, Encoded, encode_all
from bench.data.examples import Example
from bench.errors import CellProblem
from bench.methods.method import Method
from bench.models.compat.transformers_masks import KnownPadding
from bench.models.device import compute_device, synchronize
from bench.models.hooks import HeadAt, causal_lm, drop_prompt_mask
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training import checkpoint
from bench.training.callbacks import Keeper, Pace, Watch
from bench.training.compilation import compiled
from bench.training.samplers import ByLength, Dealt
from bench.training.validation import Validator, split

if TYPE_CHECKING:
    from bench.progress import Advance


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    steps: int
    micro_batch: int
    """Examples of a forward pass."""
    cost: Reading
    """Of the training loop alone."""
    tokens: int
    """Real tokens seen over all epochs, padding apart."""
    padding: int
    """Tokens computed for nothing, to make rows of a batch equally long."""
    supervised: int
    """Tokens that the loss was taken at."""
    pairs: float
    """Of a token and one that it attends to, over all epochs."""
    tokens_per_second: float
    """Real tokens, from the end of the first step on (of a single step, all of it)."""
    final_loss: float
    best_step: int | None
    """At which the validation loss was lowest, whose weights these are; None without validation."""
    validation_loss: float | None
    """The lowest."""
    truncated: int
    """Examples that lost the beginning of their prompt to `max_length`."""
    optimizer_bytes: int
    """What the optimizer remembers between steps, moments and projections."""
    resumed: int = 0
    """How often it went on from a checkpoint; costs are those of all parts, but for what was done twice."""


class FineTuner(Trainer):
    """Trainer with the method's optimizer, and the loss and the output head at supervised positions only."""

    def __init__(self, cell: Cell, method: Method, order: ByLength | Dealt | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.method = method
        self.order = order
        self.pace = Pace()
        self.keeper: Keeper | None = None
        self.validator: Validator | None = None
        # The loss below is a sum over the whole accumulated batch divided by its supervised tokens.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        if self.order is None:
            return super()._get_train_sampler(train_dataset)
        return self.order

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.method.optimizer(self.model, self.cell)
        optimizer = super().create_optimizer(model)
        there = {id(one) for one in self.model.parameters()}
        if any(id(one) not in there for group in optimizer.param_groups for one in group["params"]):
            raise CellProblem(
                f"method {self.cell.method}: its optimizer holds parameters that are not the model's",
                "It must look for them in the model that it is given: sharding has replaced those of before.",
            )
        return optimizer

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.keeper.keep(self, self.pace, self.validator)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.restore_model(self.keeper.found, self.model)

    def _load_optimizer_and_scheduler(self, found: str | None) -> None:
        if found is not None:
            checkpoint.restore_optimizer(self.keeper.found, self.optimizer, self.lr_scheduler, self.accelerator.scaler)

    def _load_scaler(self, found: str | None) -> None:
        pass  # with the optimizer

    def _load_rng_state(self, found: str | None) -> None:
        checkpoint.restore_generators(self.keeper.found)

    def _total(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """The sum of the losses of a batch's supervised tokens, and the model's outputs."""
        inputs = {key: one for key, one in inputs.items() if key not in ("labels", "tokens")}
        supervised, targets, padded = inputs.pop("supervised"), inputs.pop("targets"), inputs.pop("padded")
        head = HeadAt(self.accelerator.unwrap_model(model), supervised, inputs["input_ids"].shape[1])
        with KnownPadding(padded), head:
            outputs = model(**inputs, use_cache=False)
        total = nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="sum")  # (N, V), (N,)
        return total, outputs

    def total_loss(self, model: nn.Module, rows: Sequence[Encoded]) -> tuple[float, int]:
        """The sum of the losses of some examples' supervised tokens, and how many these are."""
        inputs = self._prepare_inputs(self.data_collator(rows))
        with self.compute_loss_context_manager():
            total, _ = self._total(model, inputs)
        return total.item(), inputs["targets"].numel()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        count = inputs["targets"].numel()
        self.pace.saw(inputs["tokens"], inputs["input_ids"].numel(), count)
        total, outputs = self._total(model, inputs)
        # The tokens are those of all processes, and gradients and logged losses become the mean over processes.
        total = total * self.accelerator.num_processes
        loss = total / (count if num_items_in_batch is None else num_items_in_batch)
        penalty = self.method.penalty(self.accelerator.unwrap_model(model), self.cell)
        if penalty is not None:
            # Once a step, however the batch is split; in the gradient, and not in the loss that is logged.
            penalty = penalty / self.current_gradient_accumulation_steps
            loss = loss + penalty - penalty.detach()
        return (loss, outputs) if return_outputs else loss


class _AfterStep(TrainerCallback):
    """Tells the method of each optimizer step, while the gradients are still there."""

    def __init__(self, method: Method, cell: Cell) -> None:
        self.method, self.cell = method, cell

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        self.method.after_step(model, self.cell, state.global_step + 1)


def micro_batches(batch_size: int, first: int | None) -> list[int]:
    """The examples per forward pass to try, one after the other, as memory runs out: each the largest that divides the
    batch and is at most half of the one before."""
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
    log: Callable[[dict[str, Any]], None],
    advance: Advance,
    meter: Meter | None = None,
) -> TrainingResult:
    """Train `model` in place on the examples, in an order that the cell's seed alone decides; `meter` reads what the
    training loop costs. With several devices this is called in each of their processes
    (`bench.training.distributed`), and the result is that process's share.

    A training on one device leaves checkpoints in `folder` and goes on from the last one that it finds there; its
    settings and `examples` must be the same.

    Raises Diverged when the loss or the gradient is not finite. Where memory runs out the model is half-trained: begin
    anew with the next of `micro_batches`.
    """
    rows = encode_all(tokenizer, examples, config.max_length, cell.data.append_eos)
    truncated = sum(row.truncated for row in rows)
    held_out: list[Encoded] = []
    if config.validation:
        drawn_by = cell.seed if cell.data.subset_seed is None else cell.data.subset_seed
        rows, held_out = split(rows, config.validation.examples, drawn_by)
    micro = config.micro_batch or config.per_device
    where = compute_device()
    steps = math.ceil(math.ceil(len(rows) / config.batch_size) * config.epochs)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.per_device // micro,
        learning_rate=cell.options["lr"],
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_steps if config.warmup_steps is not None else config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch_fused",
        seed=cell.seed,
        bf16=cell.base.dtype == "bfloat16",
        fp16=cell.base.dtype == "float16",
        use_cpu=where.type == "cpu",
        logging_steps=config.logging_steps or max(1, steps // 50),
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=list(config.report_to) or "none",
        run_name=cell.folder,
        remove_unused_columns=False,
        dataloader_pin_memory=where.type == "cuda",
        accelerator_config={"non_blocking": where.type == "cuda"},  # copying a batch there would wait for all before
        disable_tqdm=True,
    )
    if where.type == "cuda":  # one device a cell: Trainer would spread the batch over all that it sees
        arguments._n_gpu = min(1, arguments.n_gpu)
    lengths = [len(row.ids) for row in rows]
    watch = Watch(log, advance, tokens_per_step=sum(lengths) * config.epochs / max(1, steps))
    drop_prompt_mask(model)
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_enable({"use_reentrant": False})
    order = ByLength(lengths, config.batch_size, cell.seed) if config.order == "length" else None
    if config.devices > 1:
        # What accelerate makes of Trainer's own random order.
        random = SeedableRandomSampler(rows, generator=torch.Generator(), data_seed=cell.seed)
        order = Dealt(order or random, config.batch_size, micro, config.devices)
        # Where a process has no example: a real one, so that whatever a method does to it has a gradient, if of zeros.
        blank = dataclasses.replace(min(rows, key=lambda row: len(row.ids)), supervised=False)
    trainer = FineTuner(
        cell,
        method,
        order,
        model=model,
        args=arguments,
        train_dataset=[*rows, blank] if config.devices > 1 else rows,
        data_collator=Collator(tokenizer.pad_token_id, config.loss, config.packed),
        callbacks=[watch, _AfterStep(method, cell)],
    )
    trainer.remove_callback(PrinterCallback)
    if config.validation:
        trainer.validator = Validator(held_out, config.validation.steps, micro, trainer.total_loss, watch.note)
        trainer.add_callback(trainer.validator)
    set_seed(cell.seed + 1_000_003 * arguments.process_index)  # dropout of its own in each process
    with compiled(model) if config.compile else nullcontext(), meter or Meter() as meter:
        found = None
        if config.devices == 1 and not method.facts_for(cell.options).no_checkpoint:
            watch.keeper = trainer.keeper = Keeper(folder, config.checkpoint_minutes, watch, meter)
            found = trainer.keeper.found
        if found and trainer.validator:
            trainer.validator.go_on(found.so_far["validation"], found.tensors("best."))
        pace = watch.pace = trainer.pace = Pace(found.so_far["pace"] if found else None)
        done = trainer.train(resume_from_checkpoint=str(found.path) if found else None)
        synchronize(where)
        rate = pace.tokens_per_second()
        if trainer.validator:
            trainer.validator.restore(model)
    # Trainer's autocast goes from the model's forward: scoring has one arithmetic, whether trained just now or loaded.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if config.gradient_checkpointing:
        causal_lm(model).activation_checkpointing_disable()
    tokens = pace.tokens
    if config.devices > 1:  # what stands in for an example is padding
        last_batches = done.global_step // math.ceil(len(rows) / config.batch_size)
        tokens -= order.places_left(arguments.process_index) * last_batches * len(blank.ids)
    return TrainingResult(
        steps=done.global_step,
        micro_batch=micro,
        cost=trainer.keeper.cost(meter.reading) if trainer.keeper else meter.reading,
        tokens=tokens,
        padding=pace.places - tokens,
        supervised=pace.supervised,
        pairs=attended_pairs(lengths) * config.epochs,
        tokens_per_second=rate,
        final_loss=watch.last_loss,
        best_step=trainer.validator.best_step if trainer.validator else None,
        validation_loss=trainer.validator.best_loss if trainer.validator else None,
        truncated=truncated,
        optimizer_bytes=optimizer_state_bytes(trainer.optimizer),
        resumed=trainer.keeper.resumed if trainer.keeper else 0,
    )
