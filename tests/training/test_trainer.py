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
from bench.models.hooks import HeadAt, drop_prompt_mask
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


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_loss_curves_are_the_stock_trainers_on_the_same_batches(method: str, tmp_path: Path, tiny_model: Path) -> None:
    """20 steps in float32: every logged loss within 1e-4, every weight too. Stock: Trainer's own loss, collator and
    optimizer, PEFT's own weight norm; our order of examples."""
    settings = {"epochs": 4, "batch_size": 4, "max_grad_norm": 1.0}
    options = {"lr": 1e-3} if method == "full" else {"lr": 1e-2, "rank": 4, "dropout": 0.0}
    ours, log = trained(tmp_path, tiny_model, method, settings, **options)
    base, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    cell = cell_of(method, base, **{**options, **({"norm": "peft"} if method == "dora" else {})})
    set_seed(0)
    theirs = methods.get(method).attach(base, cell)
    rows = [encode(tokenizer, one, 256, True) for one in EXAMPLES]
    labelled = [
        {
            "input_ids": row.ids,
            "attention_mask": [1] * len(row.ids),
            "labels": [-100] * row.prompt_length + row.ids[row.prompt_length :],
        }
        for row in rows
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=4,
        per_device_train_batch_size=4,
        learning_rate=options["lr"],
        warmup_steps=0.1,
        weight_decay=0.0,
        optim="adamw_torch",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100)
    trainer = Trainer(model=theirs, args=arguments, train_dataset=labelled, data_collator=collate)
    order = LengthGroupedSampler([len(row.ids) for row in rows], 4, seed=0)
    trainer._get_train_sampler = lambda *_: order
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    stock = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(stock) == len(log) == 20
    assert [row["loss"] for row in log] == pytest.approx(stock, abs=1e-4)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-4)


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
