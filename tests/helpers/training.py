"""Short trainings of tiny models, for the tests of whatever needs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from bench import methods
from bench.data.examples import Example
from bench.progress import Advance, ignore_progress
from bench.store.records import TrainingLogRow
from bench.sweep.cell import BaseIdentity, Cell, CellData
from bench.sweep.sections import TrainingConfig
from bench.training.trainer import train

EXAMPLES = [Example(f"Question: what is {i}?\nAnswer:", f" it is {i * 7}") for i in range(20)]


def cell_of(method: str, model: Any, epochs: float = 1, batch_size: int = 16, **options: Any) -> Cell:
    return Cell(
        base=BaseIdentity(id="tiny", revision="-", dtype="float32"),
        method=method,
        method_version="1",
        options=methods.get(method).resolve(options, model),
        samples=len(EXAMPLES),
        seed=0,
        data=CellData(train=("x",), format="question", mix="equal", subset_seed=None, append_eos=True, fingerprint="x"),
        training=TrainingConfig(epochs=epochs, batch_size=batch_size).model_dump(mode="json"),
    )


def append_to(log: list[dict[str, Any]]) -> Callable[[TrainingLogRow], None]:
    """Appends the rows of a training's log as they are in its file."""
    return lambda row: log.append(row.model_dump(exclude_unset=True))


def trained(
    folder: Path,
    tiny: Path,
    method: str,
    settings: dict[str, Any],
    advance: Advance = ignore_progress,
    **options: Any,
) -> tuple[Any, list[dict]]:
    attention = settings.get("attn_implementation", "sdpa")
    model = AutoModelForCausalLM.from_pretrained(tiny, attn_implementation=attention)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    steps = {key: settings[key] for key in ("epochs", "batch_size") if key in settings}
    cell = cell_of(method, model, **steps, **options)
    set_seed(0)
    model = methods.get(method).attach(model, cell)
    log: list[dict] = []
    config = TrainingConfig(**{"logging_steps": 1, **settings})
    train(model, tokenizer, methods.get(method), cell, config, EXAMPLES, folder, append_to(log), advance)
    return model, log
