"""One setting of a method, tried on a tiny copy of its base: attached, trained a step, saved, loaded, scored, merged.

The code is that of a cell. A setting that fails here would have failed in the night.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from bench.data.examples import Example
from bench.errors import Diverged, UserError, first_line
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.methods.registry import get
from bench.models.compat.lm_eval import generation_request
from bench.models.device import on_cpu
from bench.models.load import load_model
from bench.models.locate import ModelFolder
from bench.models.progress_bars import no_progress_bars
from bench.models.tiny_copy import tiny_copy
from bench.models.weights import quantization_of
from bench.planning.plan import PlannedCell
from bench.progress import ignore_progress
from bench.store.records import TrainingLogRow
from bench.store.scratch import ScratchFolder
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import TrainingConfig, ValidationConfig
from bench.training.trainer import train

END = "<end>"
EXAMPLES = (Example("2 + 2 is", " 4"), Example("The capital of France is", " Paris"), Example("", "Yes, they do."))
QUESTIONS = (("Is water wet? Answer:", (" yes", " no")), ("A much longer question, is it? Answer:", (" yes", " maybe")))
PROMPTS = ("Short:", "A prompt that is longer than a window of sixteen tokens:")
LARGEST_RANK = 2
TOLERANCE = 1e-3
"""Nats, in float32: between a trained model and what was saved of it, and between merged and unmerged."""


class DryRunError(UserError):
    """A setting that cannot run: `problem` says at which stage and why."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 257 tokens: the bytes and an end-of-text token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: id for id, character in enumerate([*alphabet, END])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, bos_token=END)


class DryRun:
    """Tries settings on a tiny copy of a base model, in a folder that is removed on leaving."""

    def __init__(self, skeleton: PreTrainedModel, trust_remote_code: bool = False) -> None:
        """`skeleton`: the base without weights. `trust_remote_code`: its own code may run."""
        self.skeleton, self.trust_remote_code = skeleton, trust_remote_code
        self.tokenizer = byte_tokenizer()
        self.copies: dict[bool, ModelFolder | None] = {}
        """By whether they have all of the base's layers."""

    def __enter__(self) -> DryRun:
        self.temporary = ScratchFolder("dry-run-")
        self.folder = self.temporary.path
        gc.freeze()  # each training collects garbage twice, and would look at all that the libraries have loaded
        return self

    def __exit__(self, *error: object) -> None:
        gc.unfreeze()
        self.temporary.cleanup()

    def try_setting(self, planned: PlannedCell, all_layers: bool = False) -> bool:
        """Run a small cell of this setting; False if the base has no tiny copy. `all_layers`: the setting picks layers.

        Raises DryRunError, which names the stage, if any part of it fails or changes what the model computes.
        """
        with on_cpu(), _random_state():
            copy = self._copy(all_layers)
            if copy is None:
                return False
            stage, method = _Stage(), get(planned.cell.method)
            try:
                _run(planned, copy, self.tokenizer, self.folder / "work", stage)
            except Diverged:
                pass  # of random weights; says nothing of the base's
            except UserError as error:
                raise self._failure(stage, error.problem, error.fix) from error
            except Exception as error:  # a library may raise anything
                reason = method.explain(planned.cell.options, f"{type(error).__name__}: {first_line(error)}")
                raise self._failure(stage, reason) from error
        return True

    def _failure(self, stage: _Stage, reason: str, fix: str = "") -> DryRunError:
        kind = quantization_of(self.skeleton.config)
        if not kind:
            return DryRunError(f"{stage.name} fails: {reason}", fix)
        return DryRunError(
            f"its weights are quantized already ({kind}, by its config.json), and {stage.name} fails: {reason}",
            "Give the model in floats: methods quantize it themselves (quantization: nf4). Or install what its kind of "
            "quantization needs.",
        )

    def _copy(self, all_layers: bool) -> ModelFolder | None:
        if all_layers not in self.copies:
            set_seed(0)
            model = tiny_copy(self.skeleton, len(self.tokenizer), all_layers, self.trust_remote_code)
            folder = self.folder / ("deep" if all_layers else "shallow")
            if model is not None:
                with no_progress_bars():
                    model.save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)
            base = ModelFolder("tiny copy", "", folder, trust_remote_code=self.trust_remote_code)
            self.copies[all_layers] = None if model is None else base
        return self.copies[all_layers]


class _Stage:
    name = "loading the base"


def _run(
    planned: PlannedCell, base: ModelFolder, tokenizer: PreTrainedTokenizerFast, work: Path, stage: _Stage
) -> None:
    method = get(planned.cell.method)
    cell, config = small_cell(planned.cell), small_training(planned.training)
    facts = method.facts_for(cell.options)

    def load() -> PreTrainedModel:
        kwargs = method.load_kwargs(cell)
        return load_model(base, cell.base.dtype, config.attn_implementation, method_kwargs=kwargs, seed=0)

    def language_model(model: nn.Module) -> LanguageModel:
        return LanguageModel(model.eval(), tokenizer, None, facts.shared_prefix, cell.base.dtype, facts.pads_left)

    if cell.data is None:
        stage.name = "scoring"
        check_generation(language_model(load()), cell, stage)
        return
    stage.name = "attaching"
    model = method.attach(load(), cell)
    stage.name = "training"
    rows: list[TrainingLogRow] = []
    train(model, tokenizer, method, cell, config, EXAMPLES, work, rows.append, ignore_progress)
    require_gradient(rows)
    stage.name = "scoring"
    trained = loglikelihoods(language_model(model))
    stage.name = "saving"
    with tempfile.TemporaryDirectory(dir=work.parent) as saved:
        method.save(model, Path(saved))
        stage.name = "loading what was saved"
        loaded = method.load(load(), Path(saved), cell)
        lm = language_model(loaded)
        require_equal(trained, loglikelihoods(lm), cell, "the saved model scores other than the trained one")
        stage.name = "scoring"
        alone = loglikelihoods(LanguageModel(loaded, tokenizer, 1, "none", cell.base.dtype))
        require_equal(trained, alone, cell, "a batch of texts scores other than each text alone")
        check_generation(lm, cell, stage)
        if facts.mergeable:
            stage.name = "merging"
            before = loglikelihoods(LanguageModel(loaded.float(), tokenizer, None, facts.shared_prefix))
            merged = method.merge(loaded.float()).eval()
            require_equal(before, loglikelihoods(LanguageModel(merged, tokenizer)), None, "merging changes the scores")


def small_cell(cell: Cell) -> Cell:
    """The cell with a small rank, which the widths of a tiny copy allow."""
    options: Settings = dict(cell.options)
    rank = options.get("rank")
    if isinstance(rank, int):
        options["rank"] = min(rank, LARGEST_RANK)
    # Validated anew: a copy would keep the id that the cell has computed for itself.
    return Cell.model_validate({**cell.model_dump(mode="json"), "options": options})


def small_training(config: TrainingConfig) -> TrainingConfig:
    """A training of one step, on this process alone; what does not change the computation is left out."""
    validation = ValidationConfig(examples=1, steps=1) if config.validation is not None else None
    return TrainingConfig.model_validate(
        {
            **config.model_dump(),
            **{"epochs": 1.0, "batch_size": len(EXAMPLES), "micro_batch": None, "devices": 1, "max_length": 64},
            **{"validation": validation, "compile": False, "checkpoint_minutes": None, "report_to": ()},
        }
    )


def require_gradient(rows: Sequence[TrainingLogRow]) -> None:
    """Raises ValueError if no gradient reached what is trained: under a scale of 0 or a dropout of 1, say."""
    if rows and all(row.grad_norm == 0 for row in rows):
        raise ValueError("all gradients are 0: these settings train nothing")


def loglikelihoods(lm: LanguageModel) -> list[float]:
    """Of the choices of a few questions, in nats."""
    requests = [
        Instance("loglikelihood", {}, (context, choice), number, metadata=("dry run", question, 1))
        for question, (context, choices) in enumerate(QUESTIONS)
        for number, choice in enumerate(choices)
    ]
    return [value for value, _ in lm.loglikelihood(requests)]


def check_generation(lm: LanguageModel, cell: Cell, stage: _Stage) -> None:
    """That prompts of unlike length get the same texts in a batch as each alone; in half precision only that there are
    texts, because rounding decides near ties there."""
    stage.name = "generating"
    check_independence(lm.model)
    requests = [
        generation_request(prompt, {"until": [END], "max_gen_toks": 4, "do_sample": False}, number)
        for number, prompt in enumerate(PROMPTS)
    ]
    together = lm.generate_until(requests)
    if cell.base.dtype == "float32":
        alone = [text for request in requests for text in lm.generate_until([request])]
        if together != alone:
            raise ValueError(f"a batch of prompts gives {together}, each alone {alone}")


@torch.no_grad()
def check_independence(model: nn.Module) -> None:
    """That a text read with a cache has the same logits after another text. Some recurrent models keep a state that
    only a text at position 0 resets, and virtual tokens before the text take this position.

    Raises ValueError if another text changes them.
    """

    def logits(start: int) -> torch.Tensor:
        ids = torch.arange(start, start + 24, device=next(model.parameters()).device)[None]
        prompt = torch.ones_like(ids)
        output: torch.Tensor = model(
            input_ids=ids, attention_mask=prompt, prompt_mask=prompt.bool(), use_cache=True
        ).logits
        return output.float()

    first, _, again = logits(32), logits(64), logits(32)
    difference = float((first - again).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"a text that was read before changes the logits of another one by {difference:.3g}")


def require_equal(before: list[float], after: list[float], cell: Cell | None, problem: str) -> None:
    """Raises ValueError if any log-likelihood moved. With a `cell` in half precision, as far as rounding moves it."""
    tolerance = TOLERANCE if cell is None or cell.base.dtype == "float32" else 0.5
    difference = max(abs(a - b) for a, b in zip(before, after, strict=True))
    if not difference <= tolerance:
        raise ValueError(f"{problem} by {difference:.3g} nats")


@contextmanager
def _random_state() -> Iterator[None]:
    """Leaves the random state of the process as it was."""
    with torch.random.fork_rng(devices=[]):
        yield
