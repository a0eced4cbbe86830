"""Score a sweep's untuned base with lm-eval's stock HFLM and compare with the recorded rows, question by question.

    python tests/checks/untuned_against_hflm.py configs/rank_real_small.yaml [--set data.dir=FOLDER]

Writes results/<sweep>/hflm_check.json: by task both accuracies, the questions whose prediction differs, and the
largest gap (nats) between the recorded top two among them. In half precision log-likelihoods move by up to a few
tenths of a nat with the shape of a batch, so near ties may fall the other way; nothing else may.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lm_eval.models.huggingface import HFLM

from bench.evaluation import protocols
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
    untuned = plan.cells[0]
    results = Results(given.results / plan.sweep.name)
    base = find_base(untuned.base.id, untuned.base.revision)
    model = load_model(base, untuned.cell.base.dtype, untuned.training.attn_implementation).eval()
    tokenizer = load_tokenizer(base)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=16, logits_cache=False)
    found = {}
    for identity in untuned.evaluations:
        ours = results.folder(untuned.cell).items(identity.file)
        theirs = protocols.evaluate_task(stock, plan.data, identity)
        top = ours["loglikelihoods"].map(lambda scores: sorted(scores)[-1] - sorted(scores)[-2])
        row = {"n": len(ours)}
        for metric, column in (("acc", "prediction"), ("acc_norm", "prediction_norm")):
            row[metric] = {
                "recorded": float((ours[column] == ours["gold"]).mean()),
                "hflm": float((theirs[column] == theirs["gold"]).mean()),
                "predictions_that_differ": int((ours[column] != theirs[column]).sum()),
            }
        flipped = top[ours["prediction"] != theirs["prediction"]]
        row["largest_gap_of_a_differing_prediction"] = float(flipped.max()) if len(flipped) else 0.0
        apart = [
            abs(a - b)
            for mine, other in zip(ours["loglikelihoods"], theirs["loglikelihoods"], strict=True)
            for a, b in zip(mine, other, strict=True)
        ]
        row["largest_difference_of_a_loglikelihood"] = max(apart)
        row["mean_difference_of_a_loglikelihood"] = sum(apart) / len(apart)
        found[identity.task] = row
        print(identity.task, row, flush=True)
    write_json(results.path / "hflm_check.json", found)


if __name__ == "__main__":
    main()
