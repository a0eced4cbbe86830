"""Tokenizing, batching, the loss, and the training itself, against lm-eval, transformers and torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sweeps import make_tiny_model
from helpers.training import EXAMPLES, cell_of, trained
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from bench import methods
from bench.data.collator import Collator
from bench.data.encoding import Encoded, encode, encode_pair
from bench.data.examples import Example
from bench.errors import Diverged
from bench.models.compat.transformers_masks import KnownPadding
from bench.models.hooks import HeadAt, drop_prompt_mask
from bench.sweep.sections import TrainingConfig
from bench.training.samplers import LengthGroupedSampler


@pytest.mark.parametrize("bos", [False, True])
def test_encode_pair_is_lm_evals(bos: bool, tmp_path: Path) -> None:
    from bench.evaluation.prefix_sharing_lm import LanguageModel

    folder = make_tiny_model(tmp_path / "m", bos=bos)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lm = LanguageModel(AutoModelForCausalLM.from_pretrained(folder), tokenizer, 1)
    for context, answer in [("Answer:", " yes"), ("Response:\n    ", "the answer"), ("<s>a", " b"), ("é ", "ü")]:
        assert encode_pair(tokenizer, context, answer) == lm._encode_pair(context, answer)
    assert encode_pair(tokenizer, "", " yes")[0] == [lm.prefix_token_id]


def test_long_examples_lose_the_beginning_of_their_prompt(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    whole = encode(tokenizer, Example("p" * 50, " answer"), 256, append_eos=True)
    cut = encode(tokenizer, Example("p" * 50, " answer"), 20, append_eos=True)
    assert (len(cut.ids), cut.truncated, whole.truncated) == (20, True, False)
    assert cut.ids == whole.ids[-20:] and cut.ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("supervise", ["answer", "all"])
def test_collator_marks_prompt_and_supervision(supervise: str) -> None:
    batch = Collator(9, supervise)([Encoded([1, 2, 3, 4], 2, False), Encoded([5, 6], 1, False)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["prompt_mask"].tolist() == [[True, True, False, False], [True, False, False, False]]
    first = -100 if supervise == "answer" else 2
    assert batch["labels"].tolist() == [[-100, first, 3, 4], [-100, 6, -100, -100]]
    assert batch["padded"] and not Collator(9, supervise)([Encoded([5, 6], 1, False)] * 2)["padded"]
    assert batch["targets"].tolist() == [label for row in batch["labels"].tolist() for label in row[1:] if label >= 0]


def test_packed_rows_begin_anew_with_each_example() -> None:
    batch = Collator(9, "all", packed=True)([Encoded([1, 2, 3, 4], 2, False), Encoded([5, 6], 1, False)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]] and "attention_mask" not in batch
    assert batch["prompt_mask"].tolist() == [[True, True, False, False, True, False]]
    assert batch["labels"].tolist() == [[-100, 2, 3, 4, -100, 6]]  # 5 would be predicted by another example
    assert not batch["padded"] and batch["tokens"] == 6


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packing_changes_nothing(attention: str, tmp_path: Path, tiny_model: Path) -> None:
    """Batches of unlike lengths (random order), in float32: the losses, the weights, the tokens that are counted."""
    settings = {"epochs": 2, "batch_size": 8, "order": "random", "attn_implementation": attention}
    told = []
    for packed in (False, True):
        model, log = trained(
            tmp_path, tiny_model, "lora", {**settings, "packed": packed}, dropout=0, lr=1e-2, target_modules="auto"
        )
        told.append((dict(model.named_parameters()), [row["loss"] for row in log]))
    (padded, losses), (packed, packed_losses) = told
    assert packed_losses == pytest.approx(losses, abs=1e-5) and losses[-1] < losses[0] - 0.1
    for name, one in padded.items():
        assert torch.allclose(one, packed[name], atol=1e-5), name


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_loss_at_supervised_positions_is_transformers_own(method: str, tiny_model: Path) -> None:
    """Loss and every gradient equal those of the model's own loss over whole rows (fp32; summation order: 1e-5)."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [encode(tokenizer, one, 256, True) for one in EXAMPLES[:5]]
    batch = Collator(tokenizer.pad_token_id, "answer")(rows)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = methods.get(method).attach(base, cell_of(method, base)).eval()
    twin = copy.deepcopy(model)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "prompt_mask")}
    drop_prompt_mask(model)
    with HeadAt(model, batch["supervised"], batch["input_ids"].shape[1]):
        logits = model(**inputs).logits
    assert logits.shape == (len(batch["targets"]), 259)
    ours = cross_entropy(logits, batch["targets"])
    inputs.pop("prompt_mask")
    theirs = twin(**inputs, labels=batch["labels"]).loss
    assert torch.allclose(ours, theirs, atol=1e-6)
    ours.backward()
    theirs.backward()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        if other.requires_grad:
            assert torch.allclose(mine.grad, other.grad, atol=1e-5)


LORA = {"lr": 1e-2, "rank": 4, "dropout": 0.0}
LIKE_STOCK: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "full": ("full", {}, {"lr": 1e-3}),
    "lora": ("lora", {}, LORA),
    "dora": ("dora", {}, {**LORA, "norm": "peft"}),
    "random order": ("lora", {"order": "random"}, LORA),
    "dropout": ("lora", {"order": "random"}, {**LORA, "dropout": 0.1}),
    "accumulation": ("lora", {"micro_batch": 1}, LORA),
    # Of 20 examples: batches of 6, 6, 6 and 2, which are two, two, two and one forward pass.
    "accumulation, random order, dropout": (
        "lora",
        {"batch_size": 6, "micro_batch": 3, "order": "random"},
        {**LORA, "dropout": 0.1},
    ),
    "part of an epoch": ("lora", {"epochs": 2.3, "batch_size": 6, "order": "random"}, LORA),
    "cosine, warmup steps": ("lora", {"schedule": "cosine", "warmup_steps": 7}, LORA),
    "no warmup": ("lora", {"warmup_ratio": 0.0}, LORA),
    "weight decay, clipping": ("full", {"weight_decay": 0.5, "max_grad_norm": 0.05}, {"lr": 1e-3}),
    "three steps a line": ("lora", {"epochs": 3, "logging_steps": 3}, LORA),
}
"""Trainings of ours that the stock Trainer must repeat: a method, settings and options."""


@pytest.mark.parametrize("name", LIKE_STOCK)
def test_a_training_is_the_stock_trainers_on_the_same_batches(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """In float32, losses within a millionth and weights within 1e-6. Stock: Trainer's own loss, collator, optimizer,
    schedule, random order and seeds; by length, our order of examples. It has the output head at all positions, and so
    adds up floats in another order."""
    ours, log, theirs, stock = both(name, Trainer, tmp_path, tiny_model)
    assert len(stock) == len(log) > 3 and log[-1]["step"] == stock[-1]["step"]
    assert [row["lr"] for row in log] == [row["learning_rate"] for row in stock]
    assert [row["epoch"] for row in log] == [round(row["epoch"], 4) for row in stock]
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in stock], rel=1e-6)
    assert [row["grad_norm"] for row in log] == pytest.approx([row["grad_norm"] for row in stock], rel=1e-5)
    assert abs(log[-1]["loss"] - log[0]["loss"]) > 0.01
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-6)


class TrainerAtSupervisedPositions(Trainer):
    """Stock, but for the part that it documents as the user's: the loss, with the output head where ours has it."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        texts = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        with HeadAt(model, inputs["supervised"], inputs["input_ids"].shape[1]), KnownPadding(inputs["padded"]):
            logits = model(**texts, use_cache=False).logits
        return cross_entropy(logits.float(), inputs["targets"], reduction="sum") / num_items_in_batch


@pytest.mark.parametrize("name", LIKE_STOCK)
def test_with_the_same_loss_it_is_the_stock_trainers_bit_for_bit(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """Order, dropout, accumulation, clipping, optimizer and schedule: every logged number, every weight."""
    ours, log, theirs, stock = both(name, TrainerAtSupervisedPositions, tmp_path, tiny_model)
    logged = {"loss": "loss", "grad_norm": "grad_norm", "lr": "learning_rate"}
    for key, key_of_stock in logged.items():
        assert [row[key] for row in log] == [row[key_of_stock] for row in stock], key
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.equal(other)


def both(name: str, kind: type[Trainer], folder: Path, tiny: Path) -> tuple[Any, list[dict], Any, list[dict]]:
    """The model and the log of a training of ours, and those of the same training by a Trainer of transformers."""
    method, given, options = LIKE_STOCK[name]
    settings = {"epochs": 4, "batch_size": 4, "logging_steps": 1, **given}
    ours = trained(folder, tiny, method, settings, **options)
    return *ours, *stock_training(kind, folder, tiny, method, TrainingConfig(**settings), options)


def stock_training(
    kind: type[Trainer], folder: Path, tiny: Path, method: str, settings: TrainingConfig, options: dict[str, Any]
) -> tuple[Any, list[dict]]:
    """The model and the log of such a Trainer: of transformers' own collator, or of ours where the loss needs it."""
    base, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    cell = cell_of(method, base, **options)
    set_seed(0)
    model = methods.get(method).attach(base, cell)
    rows = [encode(tokenizer, one, 256, True) for one in EXAMPLES]
    micro_batch = settings.micro_batch or settings.batch_size
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=settings.batch_size // micro_batch,
        learning_rate=options["lr"],
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio if settings.warmup_steps is None else settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        seed=cell.seed,
        use_cpu=True,
        logging_steps=settings.logging_steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    labelled = [
        {
            "input_ids": row.ids,
            "attention_mask": [1] * len(row.ids),
            "labels": [-100] * row.prompt_length + row.ids[row.prompt_length :],
        }
        for row in rows
    ]
    collate: Any = DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100)
    if kind is not Trainer:
        labelled, collate = rows, Collator(tokenizer.pad_token_id, settings.loss)
    trainer = kind(model=model, args=arguments, train_dataset=labelled, data_collator=collate)
    if settings.order == "length":
        order = LengthGroupedSampler([len(row.ids) for row in rows], settings.batch_size, seed=cell.seed)
        trainer._get_train_sampler = lambda *_: order
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model, [row for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_training_learns_repeats_itself_and_leaves_the_base_alone(
    method: str, tmp_path: Path, tiny_model: Path
) -> None:
    lr = 5e-3 if method == "full" else 3e-2
    first, log = trained(tmp_path, tiny_model, method, {"epochs": 3, "batch_size": 4}, lr=lr)
    again, _ = trained(tmp_path, tiny_model, method, {"epochs": 3, "batch_size": 4}, lr=lr)
    assert log[-1]["loss"] < log[0]["loss"] - 0.1
    before = dict(AutoModelForCausalLM.from_pretrained(tiny_model).named_parameters())
    for (name, mine), other in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other), name
        if not mine.requires_grad:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(mine, before[plain]), name


def test_micro_batches_change_nothing(tmp_path: Path, tiny_model: Path) -> None:
    """Without dropout, whose masks depend on the shape of a batch, accumulation is the same training (fp32, 1e-5)."""
    settings = {"epochs": 1, "batch_size": 8}
    whole, log = trained(tmp_path, tiny_model, "lora", settings, dropout=0, lr=1e-3)
    split, split_log = trained(tmp_path, tiny_model, "lora", {**settings, "micro_batch": 2}, dropout=0, lr=1e-3)
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in split_log], abs=1e-5)
    for mine, other in zip(whole.parameters(), split.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_same_examples_in_the_same_order_for_every_method(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list] = {}
    inner = Collator.__call__

    def spy(self: Collator, rows: Any) -> Any:
        seen[method].append([row.ids for row in rows])
        return inner(self, rows)

    monkeypatch.setattr(Collator, "__call__", spy)
    for method in ("lora", "dora", "full"):
        seen[method] = []
        trained(tmp_path, tiny_model, method, {"epochs": 2, "batch_size": 4})
    assert seen["lora"] == seen["dora"] == seen["full"]
    assert len(seen["lora"]) == 10


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(Diverged, match="at step"):
        trained(tmp_path, tiny_model, "full", {"epochs": 4, "batch_size": 4, "weight_decay": 100}, lr=1000)
