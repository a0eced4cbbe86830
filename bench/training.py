"""Examples in, trained parameters out: transformers' `Trainer`, with the loss where it is supervised.

B rows, T tokens of the longest row, N supervised positions of a batch, H hidden size, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from bench.base_models import device
from bench.costs import optimizer_state_bytes
from bench.data.examples import Example
from bench.errors import Diverged
from bench.head import HeadAt, drop_prompt_mask
from bench.methods.method import Method
from bench.sweep import Cell, TrainingConfig

IGNORED = -100

Advance = Callable[[int, int, str], None]
"""Told (done, total, note) as the work goes on."""


@dataclass(frozen=True)
class Encoded:
    """A tokenized example; the first `prompt_length` tokens are the prompt."""

    ids: list[int]
    prompt_length: int
    truncated: bool


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    steps: int
    seconds: float
    tokens: int
    """Real tokens seen over all epochs, padding apart."""
    final_loss: float
    truncated: int
    """Examples that lost the beginning of their prompt to `max_length`."""
    optimizer_bytes: int
    """What the optimizer remembers between steps, moments and projections."""


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Context and continuation as tokens, split exactly as lm-eval scores them (TemplateLM._encode_pair).

    White space at the end of the context belongs to the continuation; both are tokenized together; an empty
    context becomes the beginning-of-text token (the end-of-text token where there is none).
    """
    if not context:
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = tokenizer.encode(continuation, add_special_tokens=False)
        return [prefix], ids[1:] if ids[:1] == [prefix] else ids
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    # A text that already begins with the beginning-of-text token gets no second one.
    special = not (tokenizer.bos_token and stripped.startswith(tokenizer.bos_token))
    whole = tokenizer.encode(stripped + continuation, add_special_tokens=special)
    head = tokenizer.encode(stripped, add_special_tokens=special)
    return head, whole[len(head) :]


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, append_eos: bool) -> Encoded:
    """Tokenize an example. One that is too long loses the beginning of its prompt, as in scoring."""
    context, answer = encode_pair(tokenizer, example.prompt, example.answer)
    if append_eos and tokenizer.eos_token_id is not None:
        answer = [*answer, tokenizer.eos_token_id]
    answer = answer[: max_length - 1]
    kept = context[-(max_length - len(answer)) :]
    return Encoded(kept + answer, len(kept), truncated=len(kept) < len(context))


class Collator:
    """Encoded examples to a right-padded batch.

    input_ids, attention_mask (B, T); labels (B, T), IGNORED where nothing is supervised; prompt_mask (B, T),
    true on prompt tokens; and, for the output head, rows and columns (N,) of the positions that predict a
    supervised token, with their targets (N,). They are found here so that the training loop never waits for the device.
    """

    def __init__(self, pad_token_id: int, loss: str) -> None:
        self.pad_token_id = pad_token_id
        self.loss = loss

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        length = max(len(row.ids) for row in rows)
        shape = (len(rows), length)
        ids = torch.full(shape, self.pad_token_id)
        mask = torch.zeros(shape, dtype=torch.long)
        prompt = torch.zeros(shape, dtype=torch.bool)
        labels = torch.full(shape, IGNORED)
        for i, row in enumerate(rows):
            n, start = len(row.ids), row.prompt_length if self.loss == "answer" else 1
            ids[i, :n] = torch.tensor(row.ids)
            mask[i, :n] = 1
            prompt[i, : row.prompt_length] = True
            labels[i, start:n] = ids[i, start:n]
        at_row, at_column = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "prompt_mask": prompt,
            "labels": labels,
            "supervised": torch.stack([at_row, at_column]),  # (2, N)
            "targets": labels[:, 1:][at_row, at_column],  # (N,)
        }


class FineTuner(Trainer):
    """Trainer with the method's optimizer, and the loss and the output head at supervised positions only."""

    def __init__(self, cell: Cell, method: Method, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.method = method
        # The loss below is a sum over the whole accumulated batch divided by its supervised tokens.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.method.optimizer(self.model, self.cell)
        return super().create_optimizer(model)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        inputs.pop("labels")
        supervised, targets = inputs.pop("supervised"), inputs.pop("targets")
        with HeadAt(self.accelerator.unwrap_model(model), supervised, inputs["input_ids"].shape[1]):
            outputs = model(**inputs, use_cache=False)
        total = nn.functional.cross_entropy(outputs.logits.float(), targets, reduction="sum")  # (N, V), (N,)
        loss = total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)
        penalty = self.method.penalty(model, self.cell)
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


class _Watch(TrainerCallback):
    """Writes training.jsonl, shows progress, and stops a training that has diverged."""

    def __init__(self, log: Callable[[dict[str, Any]], None], advance: Advance, tokens_per_step: float) -> None:
        self.log, self.advance, self.tokens_per_step = log, advance, tokens_per_step
        self.begun = time.perf_counter()
        self.last_loss = math.nan

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            control.should_log = True  # so that the last steps are looked at, too
        rate = self.tokens_per_step * state.global_step / (time.perf_counter() - self.begun)
        loss = "" if math.isnan(self.last_loss) else f"loss {self.last_loss:.3f}, "
        self.advance(state.global_step, state.max_steps, f"{loss}{rate:,.0f} tokens/s")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self.last_loss = logs["loss"]
        row: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch, 4), "loss": logs["loss"]}
        row |= {"lr": logs.get("learning_rate"), "grad_norm": logs.get("grad_norm")}
        self.log(row | {"seconds": round(time.perf_counter() - self.begun, 2)})
        # A float16 scaler skips steps whose gradient overflows, and lowers its scale: that is no divergence.
        for name in ("loss",) if args.fp16 else ("loss", "grad_norm"):
            if row[name] is not None and not math.isfinite(row[name]):
                raise Diverged(f"{name} is {row[name]} at step {state.global_step} of {state.max_steps}")


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
) -> TrainingResult:
    """Train `model` in place on the examples, in an order that the cell's seed alone decides.

    Raises Diverged when the loss or the gradient is not finite.
    """
    rows = [encode(tokenizer, one, config.max_length, cell.data.append_eos) for one in examples]
    micro = config.micro_batch or config.batch_size
    where = device()
    steps = math.ceil(math.ceil(len(rows) / config.batch_size) * config.epochs)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        learning_rate=cell.options["lr"],
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_steps if config.warmup_steps is not None else config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
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
        disable_tqdm=True,
    )
    if where.type == "cuda":  # one device a cell: Trainer would spread the batch over all that it sees
        arguments._n_gpu = min(1, arguments.n_gpu)
    tokens = sum(len(row.ids) for row in rows)
    watch = _Watch(log, advance, tokens_per_step=tokens * config.epochs / max(1, steps))
    drop_prompt_mask(model)
    trainer = FineTuner(
        cell,
        method,
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(tokenizer.pad_token_id, config.loss),
        callbacks=[watch, _AfterStep(method, cell)],
    )
    trainer.remove_callback(PrinterCallback)
    set_seed(cell.seed)
    begun = time.perf_counter()
    done = trainer.train()
    if where.type == "cuda":
        torch.cuda.synchronize()
    # Trainer's autocast goes from the model's forward: scoring has one arithmetic, whether trained just now or loaded.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return TrainingResult(
        steps=done.global_step,
        seconds=time.perf_counter() - begun,
        tokens=round(tokens * config.epochs),
        final_loss=watch.last_loss,
        truncated=sum(row.truncated for row in rows),
        optimizer_bytes=optimizer_state_bytes(trainer.optimizer),
    )
