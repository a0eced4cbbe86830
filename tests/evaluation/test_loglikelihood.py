"""Scores against lm-eval on its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import make_tiny_model
from test_data import HUB_ROWS, data_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import evaluation
from bench.data.questions import render
from bench.data.tasks import FOLDER, commonsense_tasks
from bench.data.tasks.rows import document, from_hub
from bench.evaluation.lm import LanguageModel
from bench.sweep import EvaluationConfig


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("format", ["question", "llm_adapters"])
def test_scores_are_those_of_a_plain_hflm(format: str, share: bool, attention: str, tiny_model: Path) -> None:
    """Per-choice log-likelihoods at batch 8 equal a stock HFLM's at batch 1 (fp32: 1e-4 nats), accuracies exactly."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    data = data_of({"train": "world", "format": format}, limit=12)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=attention)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    for identity in evaluation.identities(data, data_of_evaluation(), "float32", mergeable=True):
        items = evaluation.evaluate(LanguageModel(model, tokenizer, 8, share), data, identity)
        for (_, rendered), row in zip(data.rendered(identity.task), items.itertuples(), strict=True):
            pairs = zip(rendered.contexts, rendered.continuations, strict=True)
            requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
            theirs = [score for score, _ in stock.loglikelihood(requests, disable_tqdm=True)]
            assert list(row.loglikelihoods) == pytest.approx(theirs, abs=1e-4)
            assert row.prediction == max(range(len(theirs)), key=theirs.__getitem__)
            assert row.acc == (row.prediction == row.gold)
        assert evaluation.scores(items, "acc")["acc"] == pytest.approx(items["acc"].mean())


def test_awkward_requests_score_as_in_a_plain_hflm(tmp_path: Path) -> None:
    """Over the model's limit, empty contexts, one-token answers, one answer that begins another; with and without a
    beginning-of-text token (fp32, batch 1: 1e-4 nats)."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    pairs = [("a" * 600, " yes"), ("a" * 600, " no and no"), ("a" * 511, " b"), ("", "empty"), ("", "emptier")]
    pairs += [("Q:", "a"), ("Q:", "ab"), ("Q:", "abc"), ("Q: ", "x"), ("R:", "y")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    for bos in (False, True):
        folder = make_tiny_model(tmp_path / str(bos), bos=bos)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
        theirs = stock.loglikelihood(requests, disable_tqdm=True)
        for share in (True, False):
            ours = LanguageModel(model, tokenizer, 3, share).loglikelihood(requests)
            assert [one for one, _ in ours] == pytest.approx([one for one, _ in theirs], abs=1e-4)
            assert [one for _, one in ours] == [one for _, one in theirs]


def data_of_evaluation() -> EvaluationConfig:
    return EvaluationConfig(limit=12)


def test_acc_norm_is_lm_evals(tiny_model: Path) -> None:
    import lm_eval

    data = data_of({"train": "world"}, limit=30, tasks=["world_four"])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    lm = LanguageModel(model, tokenizer, 8)
    identity = evaluation.identities(data, data_of_evaluation(), "float32", mergeable=True)[0]
    task = evaluation.lm_eval_task(data.rendered("world_four"), identity)
    theirs = lm_eval.evaluate(lm, {"world_four": task}, bootstrap_iters=0)["results"]["world_four"]
    ours = evaluation.scores(evaluation.evaluate(lm, data, identity), "acc_norm")
    assert (ours["acc"], ours["acc_norm"]) == (theirs["acc,none"], theirs["acc_norm,none"])
    assert ours["score"] == ours["acc_norm"]


@pytest.mark.parametrize("task", ["arc_easy", "winogrande", "hellaswag", "boolq_closed"])
def test_the_task_files_run_in_lm_eval_alone(task: str) -> None:
    """Loaded by lm-eval's own task manager; only the rows, which it would fetch from the hub, are given."""
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    assert task in manager.all_tasks
    rows = datasets.Dataset.from_list([HUB_ROWS[task][0]])
    config = load_yaml(FOLDER / f"{task}.yaml")
    split = config["test_split"]
    config = {key: value for key, value in config.items() if not key.startswith("dataset_")}
    loaded = ConfigurableTask(config={**config, "custom_dataset": lambda **_: {"train": rows, split: rows}})
    definition = commonsense_tasks()[task]
    question = from_hub(task, HUB_ROWS[task][0])
    assert dict(next(iter(loaded.test_docs()))) == document(question, render(question, definition.wording, "question"))


def test_rows_that_contradict_their_record_are_refused() -> None:
    items = pd.DataFrame({"prediction": [0, 1], "gold": [0, 0], "acc": [1.0, 1.0]})
    with pytest.raises(ValueError, match="1 recorded accuracies"):
        evaluation.check(items)


def test_identity_follows_what_decides_a_score() -> None:
    data, config = data_of({"train": "world"}, limit=12), data_of_evaluation()
    first = evaluation.identities(data, config, "float32", mergeable=True)[0]
    assert first == evaluation.identities(data, config, "float32", mergeable=True)[0]
    other = data_of({"train": "world", "format": "llm_adapters"}, limit=12)
    changed = [
        evaluation.identities(data, config, "bfloat16", mergeable=True)[0],
        evaluation.identities(data, config, "float32", mergeable=False)[0],
        evaluation.identities(data_of({"train": "world"}, limit=11), config, "float32", mergeable=True)[0],
        evaluation.identities(other, config, "float32", mergeable=True)[0],
    ]
    assert len({first.id, *(one.id for one in changed)}) == 5
