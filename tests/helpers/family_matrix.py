"""Every method on every decoder family: each cell of this matrix works, or the plan refuses it in a sentence.

A family is a tiny model on disk. Its plan is that of `bench run`, with the dry run of each setting. What the plan keeps
is trained for two steps, saved, loaded, scored, merged and generated from by the functions that a cell calls. lm-eval's
HFLM scores it, too.
"""

from __future__ import annotations

import gc
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from bench.environment import quiet_process
from bench.errors import UserError, first_line
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.methods.registry import get
from bench.models.compat.lm_eval import generation_request
from bench.models.hooks import drop_prompt_mask
from bench.models.load import load_model, load_tokenizer
from bench.models.locate import find_base
from bench.planning.build import make_plan
from bench.planning.plan import Plan, PlannedCell
from bench.planning.try_settings import try_settings
from bench.progress import Progress, ignore_progress
from bench.store.folder import Results
from bench.store.records import TrainingLogRow
from bench.sweep.schema import Sweep
from bench.training.trainer import train
from helpers.families import FAMILIES as FAMILIES
from helpers.families import tiny_config, tiny_family
from helpers.questions import question_set
from helpers.sweeps import tiny_tokenizer

METHODS = ("base", "full", "lora", "dora", "vera", "loreft", "prefix", "ia3", "galore")
RATES = {"full": 1e-3, "galore": 1e-3, "loreft": 1e-3}
"""Learning rates of two steps that move a tiny model; of the other methods 0.01."""
CONTEXTS = ("Is water wet? Answer:", "Which of these two is much longer than a window of sixteen tokens? Answer:")
CHOICES = (" yes", " maybe")
PROMPTS = ("Yes", "A prompt that is much longer than a window of sixteen tokens is")
TOLERANCE = 1e-3
"""Nats in float32, of a choice of a few tokens."""


@dataclass(frozen=True)
class Outcome:
    """What came of a method on a family: nothing is set if it works."""

    refused: str = ""
    """The plan's sentence."""
    broken: str = ""
    """The step that failed without the plan's having said so, and how."""


def begin_process() -> None:
    """Make this process one of those that share the machine's cores to run families."""
    quiet_process()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def run_family(family: str, folder: Path, methods: tuple[str, ...] = METHODS) -> dict[str, Outcome]:
    """The outcome of each method on a tiny model of the family, made in an empty folder."""
    with mock.patch.dict(os.environ, {"BENCH_CACHE": str(folder / "cache")}):
        plan = _plan(family, folder, methods)
        if isinstance(plan, str):
            return dict.fromkeys(methods, Outcome(refused=plan))
        gc.collect()
        gc.freeze()  # each training collects garbage, and would look at all that the libraries have loaded
        outcomes = {}
        for method in methods:
            planned = next((planned for planned in plan.cells if planned.cell.method == method), None)
            refusals = [refusal for refusal in plan.refused if refusal.what.split()[0] == method]
            if planned is None:
                outcomes[method] = Outcome(refused=_sentence(refusals[0].problem))
            else:
                outcomes[method] = Outcome(broken=_broken(plan, planned, folder))
    return outcomes


def _plan(family: str, folder: Path, methods: tuple[str, ...]) -> Plan | str:
    """The plan with what passes its dry run; the sentence if nothing is left of it."""
    base = folder / family
    _save(family, base)
    rows = [{"q": f"Is {number} odd?", "c": ["yes", "no"], "a": number % 2} for number in range(6)]
    ranks = {method: {"rank": 2} for method in ("lora", "dora", "vera", "loreft", "galore")}
    entries = [
        {"method": method, "lr": RATES.get(method, 1e-2), **ranks.get(method, {})}
        for method in methods
        if method != "base"
    ]
    entries.append({"method": "rslora", "rank": 2})  # not tried: a plan without a trained cell is an error
    sweep = Sweep.model_validate(
        {
            "name": "matrix",
            "base_model": {"id": str(base), "dtype": "float32"},
            "methods": entries,
            "samples": 4,
            "data": {**question_set(folder, rows[:4], rows[4:]), "development": 1},
            "training": {"batch_size": 2, "warmup_ratio": 0},
            "costs": {"inference": False},
        }
    )
    try:
        results, wanted = Results(folder / "results"), lambda planned: planned.cell.method in methods
        return try_settings(make_plan(sweep), results, Progress(), wanted=wanted)
    except UserError as error:
        return _sentence(error.problem)


def _sentence(problem: str) -> str:
    """The sentence of a plan without what differs between families and machines: names of cells, the base's folder, and
    numbers of tiny random models."""
    problem = re.sub(r"^cells \S+ on \S+: |^cell \S+ is impossible on \S+: ", "", problem)
    return re.sub(r"\d+\.\d+(e[-+]?\d+)?|(?<=size )\d+|(?<=\()\d+(?=\))", "…", " ".join(problem.split()))


def _save(family: str, folder: Path) -> None:
    """A tiny model whose answers depend on the prompts."""
    model = tiny_family(family)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 3
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # a router begins with zeros, and does not stay so
    model.save_pretrained(folder)
    if model.config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:  # a text model, saved without its wrapper
        tiny_config(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def _broken(plan: Plan, planned: PlannedCell, folder: Path) -> str:
    """The step that fails, and how; empty if none does."""
    step = "run"
    try:
        for step in _steps(plan, planned, folder):  # noqa: B007
            pass
    except Exception as error:  # any exception of any library is the outcome
        if os.environ.get("MATRIX_RAISE"):
            raise
        return f"{step}: {type(error).__name__}: {first_line(error)}"
    return ""


def _steps(plan: Plan, planned: PlannedCell, folder: Path) -> Iterator[str]:
    """Train the cell and compare what comes of it; the name of each step is yielded before it is done."""
    cell, method = planned.cell, get(planned.cell.method)
    facts = method.facts_for(cell.options)
    base = find_base(planned.base.id)
    tokenizer = load_tokenizer(base)

    def load() -> PreTrainedModel:
        return load_model(base, "float32", planned.training.attn_implementation, seed=0)

    yield "loading"
    model: nn.Module = load()
    if cell.data is not None:
        untuned = logits(model, trained=False)
        yield "training"
        model = method.attach(model, cell)
        examples = plan.data.subset(cell.samples, cell.seed, tokenizer)
        train(model, tokenizer, method, cell, planned.training, examples, folder / "work", ignore, ignore_progress)
        trained = logits(model)
        if torch.equal(trained, untuned):
            raise ValueError("the logits are those of the untuned base")
        yield "saving"
        saved = folder / cell.method
        saved.mkdir()
        method.save(model, saved)
        yield "loading what was saved"
        model = method.load(load(), saved, cell)
        require_equal(trained, logits(model), "logits")
    yield "scoring"
    lm = LanguageModel(model.eval(), tokenizer, None, facts.shared_prefix, pads_left=facts.pads_left)
    ours = scores(lm)
    if lm.warnings:
        raise ValueError("; ".join(lm.warnings))
    require_equal(ours, scores(PromptMaskHFLM(model, tokenizer)), "log-likelihoods of lm-eval's HFLM")
    yield "generating"
    requests = [generation_request(prompt, {"max_gen_toks": 4, "until": []}, n) for n, prompt in enumerate(PROMPTS)]
    together, alone = lm.generate_until(requests), [lm.generate_until([request])[0] for request in requests]
    if together != alone:
        raise ValueError(f"a batch of prompts gives {together}, each alone {alone}")
    if cell.data is not None and facts.mergeable:
        yield "merging"
        require_equal(trained, logits(method.merge(model)), "logits of the merged model")


@torch.no_grad()
def logits(model: nn.Module, trained: bool = True) -> torch.Tensor:
    """Of a text, (T, V)."""
    ids = torch.arange(3, 35)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if trained:
        drop_prompt_mask(model)
        inputs["prompt_mask"] = torch.ones_like(ids, dtype=torch.bool)
    output: torch.Tensor = model.eval()(**inputs).logits
    return output[0]


def scores(lm: LM) -> torch.Tensor:
    """Nats of the choices of a few questions."""
    requests = [
        Instance("loglikelihood", {}, (context, choice), number, metadata=("matrix", question, 1))
        for question, context in enumerate(CONTEXTS)
        for number, choice in enumerate(CHOICES)
    ]
    return torch.tensor([score for score, _ in lm.loglikelihood(requests, disable_tqdm=True)])


def require_equal(before: torch.Tensor, after: torch.Tensor, what: str) -> None:
    """Raises ValueError unless they are equal within the tolerance."""
    difference = float((before - after).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"{what} differ by {difference:.3g}")


class PromptMaskHFLM(HFLM):
    """lm-eval's own class, one text at a time; the model is told which tokens are the prompt."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        model.tie_weights = lambda: None  # HFLM ties once more; PEFT's wrapper has no such method
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        scores = []
        for request in requests:
            self.prompt_tokens = len(request[1])
            scores += super()._loglikelihood_tokens([request], *args, disable_tqdm=True)
        return scores

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        mask = torch.zeros_like(inps, dtype=torch.bool)
        mask[:, : self.prompt_tokens] = True
        with torch.no_grad():
            return self.model(inps, prompt_mask=mask).logits


def ignore(row: TrainingLogRow) -> None:
    """Logs nothing."""
