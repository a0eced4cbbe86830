"""Validation in training: what is held out, whose weights are kept, and that a resumed training knows them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sweeps import bench, sweep_file
from helpers.training import EXAMPLES, cell_of
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from bench import methods
from bench.data.encoding import encode
from bench.errors import Diverged
from bench.progress import ignore_progress
from bench.store.folder import CellFolder
from bench.store.records import TrainingLogRow
from bench.sweep.sections import TrainingConfig
from bench.training.checkpoint import latest_checkpoint
from bench.training.trainer import TrainingResult, train
from bench.training.validation import Validator, split_validation

HELD_OUT = 6


class Stopped(Exception):
    """What ends a training here as a kill would."""


def trained(
    tiny: Path, folder: Path, stop: int | None = None, **settings: Any
) -> tuple[Any, list[dict[str, Any]], TrainingResult | None]:
    """Eight epochs on 14 examples at a rate that is too high: two steps an epoch, validated after each second one."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    given = {"batch_size": 8, "epochs": 8, "validation": {"examples": HELD_OUT, "steps": 2}, **settings}
    config = TrainingConfig.model_validate({"logging_steps": 1, "checkpoint_minutes": 0, **given})
    cell = cell_of("lora", model, batch_size=8, epochs=8, rank=8, lr=0.4)
    set_seed(0)
    model = methods.get("lora").attach(model, cell)
    log: list[dict[str, Any]] = []

    def hear(row: TrainingLogRow) -> None:
        log.append(row.model_dump(exclude_unset=True, exclude={"seconds"}))
        if row.loss is not None and row.step == stop:
            raise Stopped

    try:
        result = train(model, tokenizer, methods.get("lora"), cell, config, EXAMPLES, folder, hear, ignore_progress)
    except Stopped:
        return model, log, None
    return model, log, result


def loss_on_held_out(model: Any, tiny: Path) -> float:
    """Mean over the answers' tokens, one example after the other, by transformers' own loss."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    _, held_out = split_validation(EXAMPLES, HELD_OUT, 0)
    total, count = 0.0, 0
    model.eval()
    for example in held_out:
        row = encode(tokenizer, example, 256, append_eos=True)
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[0, : row.prompt_length] = -100
        tokens = len(row.ids) - row.prompt_length
        with torch.no_grad():
            total += model(input_ids=ids, labels=labels).loss.item() * tokens
        count += tokens
    return total / count


def test_the_weights_of_the_lowest_loss_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    model, log, result = trained(tiny_model, tmp_path)
    losses = {row["step"]: row["validation_loss"] for row in log if "validation_loss" in row}
    assert list(losses) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert result.best_step == min(losses, key=losses.get) < 16, "else the last weights would pass as well"
    assert result.validation_loss == losses[result.best_step]
    assert loss_on_held_out(model, tiny_model) == pytest.approx(result.validation_loss, abs=1e-5)
    assert result.steps == 16 and result.final_loss == [row for row in log if "loss" in row][-1]["loss"]


def test_validation_changes_nothing_of_the_training(tiny_model: Path, tmp_path: Path) -> None:
    """Dropout and order go on as if nothing had been looked at in between."""
    _, often, _ = trained(tiny_model, tmp_path / "often", validation={"examples": HELD_OUT, "steps": 1})
    _, once, _ = trained(tiny_model, tmp_path / "once", validation={"examples": HELD_OUT, "steps": 99})
    steps = [[row for row in log if "loss" in row] for log in (often, once)]
    assert steps[0] == steps[1]


def test_what_is_held_out_is_not_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    kept, held_out = split_validation(EXAMPLES, HELD_OUT, 0)
    assert len(held_out) == HELD_OUT and not set(kept) & set(held_out) and set(kept) | set(held_out) == set(EXAMPLES)
    assert kept == [one for one in EXAMPLES if one in kept]
    assert split_validation(EXAMPLES, HELD_OUT, 0) == (kept, held_out) != split_validation(EXAMPLES, HELD_OUT, 1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    _, _, result = trained(tiny_model, tmp_path, epochs=1)
    assert result.tokens == sum(len(encode(tokenizer, one, 256, append_eos=True).ids) for one in kept)


def test_a_resumed_training_knows_the_best_weights(tiny_model: Path, tmp_path: Path) -> None:
    model, log, whole = trained(tiny_model, tmp_path / "whole")
    _, _, nothing = trained(tiny_model, tmp_path / "parts", stop=15)
    assert nothing is None and latest_checkpoint(tmp_path / "parts").step == 14 > whole.best_step
    again, rest, result = trained(tiny_model, tmp_path / "parts")
    assert rest == log and result.resumed == 1
    assert (result.best_step, result.validation_loss) == (whole.best_step, whole.validation_loss)
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(one.equal(other) for one, other in pairs)


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    validator = Validator([1], 1, 1, lambda rows: (float("nan"), len(rows)))
    assert math.isnan(validator.validate(torch.nn.Linear(1, 1), step=1))
    with pytest.raises(Diverged):
        validator.restore(torch.nn.Linear(1, 1))


def test_a_method_that_takes_weights_away_cannot_be_validated(tiny_model: Path, tmp_path: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    given = ["--set", "methods=[{method: adalora, rank: 2}]", "--set", "training.validation={examples: 8, steps: 2}"]
    refused = bench("plan", path, *given)
    assert refused.exit_code == 2 and "adalora does not support training.validation" in refused.output


@pytest.mark.slow
def test_a_sweep_validates(tiny_model: Path, tmp_path: Path) -> None:
    """The command line: it is another cell, its loss stands in its record; too few samples are refused."""
    path = sweep_file(tmp_path, tiny_model)
    only = ["--only", "lora-r2*", "--workers", "0", "--results", tmp_path]
    done = bench("run", path, *only, "--set", "training.validation={examples: 8, steps: 2}")
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "tiny" / "cells").glob("lora-r2-*")
    cell = CellFolder(folder).cell()
    assert cell.training["validation"] == {"examples": 8, "steps": 2}
    assert (cell.trained_on, cell.steps) == (24, 3)
    assert '"best_step": ' in (folder / "metrics.json").read_text()
    assert '"validation_loss": ' in (folder / "training.jsonl").read_text()
    refused = bench("plan", path, "--set", "training.validation={examples: 32}")
    assert refused.exit_code == 2 and "holds 32 examples out of 32" in refused.output
