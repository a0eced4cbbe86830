"""Load every finished cell's saved adapter in this new process, score one task again and let it generate.

    python tests/checks/saved_again.py configs/all_methods.yaml [--set ...]

Needs the adapters of a run on this machine (they are not in git). Writes results/<sweep>/saved_again.json: by cell the
largest difference (nats) of a log-likelihood from the recorded rows, the predictions that differ, and what two prompts
in one left-padded batch are continued with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from bench import methods
from bench.evaluation import protocols
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.device import compute_device
from bench.models.dtype import computing_in
from bench.models.hooks import PromptMaskInGeneration, drop_prompt_mask
from bench.models.load import load_model, load_tokenizer
from bench.models.locate import find_base
from bench.planning.build import make_plan
from bench.store.files import write_json
from bench.store.folder import Results
from bench.sweep.load import load_sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--results", type=Path, default=Path("results"))
    given = parser.parse_args()
    plan = make_plan(load_sweep(given.config, tuple(given.set)))
    results = Results(given.results / plan.sweep.name)
    found = {}
    for planned in plan.cells:
        cell, folder = planned.cell, results.folder(planned.cell)
        method, dtype = methods.get(cell.method), planned.cell.base.dtype
        base = find_base(planned.base.id, planned.base.revision)
        tokenizer = load_tokenizer(base)
        attention = planned.training.attn_implementation
        model = load_model(base, dtype, attention, method_kwargs=method.load_kwargs(cell))
        model = method.load(model, folder.adapter, cell).eval()
        drop_prompt_mask(model)
        identity = planned.evaluations[-1]
        prompts = [rendered.contexts[0] for _, rendered in plan.data.rendered(identity.task)[:2]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(compute_device())
        arithmetic = computing_in(dtype, compute_device())
        with torch.inference_mode(), arithmetic, PromptMaskInGeneration(model, inputs["attention_mask"].bool()):
            ids = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        if identity.merged:
            model = method.merge(model).eval().to(getattr(torch, dtype))
        share = method.facts_for(cell.options).shared_prefix
        lm = LanguageModel(model, tokenizer, 16, share, None if identity.merged else dtype)
        again, recorded = protocols.evaluate_task(lm, plan.data, identity), folder.items(identity.file)
        pairs = zip(again["loglikelihoods"], recorded["loglikelihoods"], strict=True)
        found[cell.folder] = {
            "task": identity.task,
            "largest_difference_of_a_loglikelihood": max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs),
            "predictions_that_differ": int((again["prediction"] != recorded["prediction"]).sum()),
            "generated": tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True),
        }
        print(cell.name, found[cell.folder], flush=True)
    write_json(results.path / "saved_again.json", found)


if __name__ == "__main__":
    main()
