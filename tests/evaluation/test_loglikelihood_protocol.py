"""Scores against lm-eval on its own."""

from __future__ import annotations

import itertools
import logging
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.questions import HUB_ROWS, data_of
from helpers.sweeps import make_tiny_model
from helpers.tokenizers import make_tokenizer
from helpers.training import trained
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.data.questions import render
from bench.data.tasks import FOLDER, commonsense_tasks
from bench.data.tasks.rows import document, from_hub
from bench.evaluation import loglikelihood_protocol, protocols, scoring
from bench.evaluation.loglikelihood_protocol import choice_loglikelihoods
from bench.evaluation.plan_evaluations import evaluation_identities
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.evaluation.sharing_check import passed
from bench.sweep.sections import EvaluationConfig

FAST_CASES = (("question", "any", "sdpa"), ("question", "context", "eager"))


@pytest.mark.parametrize(
    ("format", "share", "attention"),
    [
        pytest.param(*case, marks=[] if case in FAST_CASES else pytest.mark.slow)
        for case in itertools.product(("question", "llm_adapters"), ("any", "context", "none"), ("sdpa", "eager"))
    ],
)
def test_scores_are_those_of_a_plain_hflm(format: str, share: str, attention: str, tiny_model: Path) -> None:
    """Per-choice log-likelihoods at batch 8 equal a stock HFLM's at batch 1 (fp32: 1e-4 nats), accuracies exactly."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    data = data_of({"train": "world", "format": format}, limit=12)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=attention)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    for identity in evaluation_identities(data, data_of_evaluation(), "float32", mergeable=True):
        items = protocols.evaluate_task(LanguageModel(model, tokenizer, 8, share), data, identity)
        for (_, rendered), row in zip(data.rendered(identity.task), items.itertuples(), strict=True):
            pairs = zip(rendered.contexts, rendered.continuations, strict=True)
            requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
            theirs = [score for score, _ in stock.loglikelihood(requests, disable_tqdm=True)]
            assert list(row.loglikelihoods) == pytest.approx(theirs, abs=1e-4)
            assert row.prediction == max(range(len(theirs)), key=theirs.__getitem__)
            assert row.acc == (row.prediction == row.gold)
        assert scoring.compute_scores(items, "acc").acc == pytest.approx(items["acc"].mean())


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
        for share in ("any", "context", "none"):
            ours = LanguageModel(model, tokenizer, 3, share).loglikelihood(requests)
            assert [one for one, _ in ours] == pytest.approx([one for one, _ in theirs], abs=1e-4)
            assert [one for _, one in ours] == [one for _, one in theirs]


@pytest.mark.parametrize("bos", [False, True])
def test_a_tokenizer_that_appends_its_end_scores_and_generates_as_one_that_does_not(bos: bool, tmp_path: Path) -> None:
    """With an end-of-text token before each answer, ARC-Easy fell from 35 to 23 per cent. The reference is a stock HFLM
    whose tokenizer appends nothing."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from tokenizers import processors

    folder = make_tiny_model(tmp_path / "model", bos=bos)
    model, plain = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    appending = AutoTokenizer.from_pretrained(folder)
    appending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{'<s> ' if bos else ''}$A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert appending.encode("a") == [*plain.encode("a"), appending.eos_token_id]
    stock = HFLM(pretrained=model, tokenizer=plain, backend="causal", batch_size=1, logits_cache=False)
    texts = [("Answer:", " yes"), ("Answer:", " no"), ("", "yes"), ("Q: ", "x"), ("<s>R:", "y")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in texts]
    theirs = [value for value, _ in stock.loglikelihood(requests, disable_tqdm=True)]
    asked = [
        Instance("generate_until", {}, (text, {"until": [], "max_gen_toks": 6, "do_sample": False}), 0)
        for text in ("Answer:", "Q: what is it", "<s>R:")
    ]
    answers = [stock.generate_until([request], disable_tqdm=True)[0] for request in asked]
    for tokenizer in (plain, appending):
        lm = LanguageModel(model, tokenizer, 2, "any")
        assert [value for value, _ in lm.loglikelihood(requests)] == pytest.approx(theirs, abs=1e-4)
        assert lm.generate_until(asked) == answers


def test_choices_that_differ_where_a_token_spans_the_join_have_scores_of_their_own() -> None:
    """HFLM drops the character that shares a token with the context, and scores both choices alike."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer("llama3")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).eval()
    pairs = [("2+2\nA", ":\n4"), ("2+2\nA:", "\n4"), ("2+2\nA:", "4")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    spanning, joined, plain = (value for value, _ in LanguageModel(model, tokenizer, 1).loglikelihood(requests))
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    theirs = [value for value, _ in stock.loglikelihood(requests, disable_tqdm=True)]
    assert theirs[1] == pytest.approx(theirs[2], abs=1e-4)  # the line break is lost
    assert plain == pytest.approx(theirs[2], abs=1e-4)
    assert joined == pytest.approx(spanning, abs=1e-4) == pytest.approx(theirs[0], abs=1e-4)


def data_of_evaluation() -> EvaluationConfig:
    return EvaluationConfig(limit=12)


def test_acc_norm_is_lm_evals(tiny_model: Path) -> None:
    import lm_eval

    data = data_of({"train": "world"}, limit=30, tasks=["world_four"])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    lm = LanguageModel(model, tokenizer, 8)
    identity = evaluation_identities(data, data_of_evaluation(), "float32", mergeable=True)[0]
    task = loglikelihood_protocol.loglikelihood_lm_eval_task(data.rendered("world_four"), identity)
    theirs = lm_eval.evaluate(lm, {"world_four": task}, bootstrap_iters=0)["results"]["world_four"]
    ours = scoring.compute_scores(protocols.evaluate_task(lm, data, identity), "acc_norm")
    assert (ours.acc, ours.acc_norm) == (theirs["acc,none"], theirs["acc_norm,none"])
    assert ours.score == ours.acc_norm


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
        scoring.check_rows(items)


def test_identity_follows_what_decides_a_score() -> None:
    data, config = data_of({"train": "world"}, limit=12), data_of_evaluation()
    first = evaluation_identities(data, config, "float32", mergeable=True)[0]
    assert first == evaluation_identities(data, config, "float32", mergeable=True)[0]
    other = data_of({"train": "world", "format": "llm_adapters"}, limit=12)
    changed = [
        evaluation_identities(data, config, "bfloat16", mergeable=True)[0],
        evaluation_identities(data, config, "float32", mergeable=False)[0],
        evaluation_identities(data_of({"train": "world"}, limit=11), config, "float32", mergeable=True)[0],
        evaluation_identities(other, config, "float32", mergeable=True)[0],
    ]
    assert len({first.id, *(one.id for one in changed)}) == 5


def question_requests(*questions: list[tuple[str, str]]) -> list[Any]:
    """lm-eval's requests of questions, each a list of (context, continuation)."""
    from lm_eval.api.instance import Instance

    return [
        Instance("loglikelihood", {}, pair, number, metadata=("task", doc, 1))
        for doc, pairs in enumerate(questions)
        for number, pair in enumerate(pairs)
    ]


QUESTIONS = (
    [("Question: which of these?\nAnswer:", f" {'x' * n} it") for n in range(1, 6)],  # five choices
    [("Question: is it?\nAnswer: ", one) for one in "ab"],  # one token each
    [(f"He asked {one}", " because the other had come late") for one in ("Ann", "Andrew")],  # part of a prefix
    [("The correct", f" answer is answer{n}") for n in (1, 2, 3)],
    [("A:", text) for text in (" a", " an", " an apple")],  # one begins another
    [("", "empty"), ("", "emptier")],
    [("a" * 505, " short"), ("a" * 505, " too long for it")],
)


@pytest.mark.parametrize("bos", [False, True])
def test_whatever_is_shared_scores_as_in_a_plain_hflm(bos: bool, tmp_path: Path) -> None:
    """fp32, 1e-4 nats, in one batch and in many."""
    from lm_eval.models.huggingface import HFLM

    folder = make_tiny_model(tmp_path / "model", bos=bos)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    requests = question_requests(*QUESTIONS)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    theirs = stock.loglikelihood(requests, disable_tqdm=True)
    shuffled = list(range(len(requests)))
    random.Random(0).shuffle(shuffled)
    for share in ("any", "context", "none"):
        for size in (None, 1, 3):
            lm = LanguageModel(model, tokenizer, size, share)
            ours = lm.loglikelihood(requests)
            assert [one for one, _ in ours] == pytest.approx([one for one, _ in theirs], abs=1e-4)
            assert [one for _, one in ours] == [one for _, one in theirs]
            assert not lm.warnings and (lm.sharing_check is None) == (share == "none")
            again = lm.loglikelihood([requests[i] for i in shuffled])
            assert [one for one, _ in again] == pytest.approx([theirs[i][0] for i in shuffled], abs=1e-4)


def test_sharing_that_changes_scores_is_found_and_given_up(tiny_model: Path, tmp_path: Path) -> None:
    """Prefix tuning, where PEFT puts its prompts before the row again: allowed here against the registry's word."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    requests = question_requests(*QUESTIONS[:4])
    for name, autocast in (("prefix", None), ("prefix", "bfloat16"), ("prompt", None)):
        options = {"lr": 1.0, "rank": 8}
        model, _ = trained(tmp_path, tiny_model, name, {"epochs": 2, "batch_size": 4}, **options)
        model.eval()
        whole = LanguageModel(model, tokenizer, 1, "none", autocast).loglikelihood(requests)
        lm = LanguageModel(model, tokenizer, 1, "any", autocast)
        assert lm.loglikelihood(requests) == whole
        assert lm.share == "none" and not passed(lm.sharing_check)
        assert "every text was computed whole" in lm.warnings[0]


def test_a_batch_that_does_not_fit_is_halved(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    requests = question_requests(*QUESTIONS)
    expected = LanguageModel(model, tokenizer, 1, "any").loglikelihood(requests)
    lm, forward, refused = LanguageModel(model, tokenizer, None, "any"), model.forward, []

    def limited(input_ids: Any, **inputs: Any) -> Any:
        if input_ids.numel() > 600:
            refused.append(input_ids.numel())
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(model, "forward", limited)
    found = lm.loglikelihood(requests)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=1e-4)
    assert refused and lm.limit.tokens <= 600
    assert lm.limit.used[0] == 1024 and lm.limit.used[-1] == lm.limit.tokens
    monkeypatch.setattr(model, "forward", lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        lm.loglikelihood(requests)


@pytest.mark.slow
def test_half_precision_flips_near_ties_only(tiny_model: Path) -> None:
    """bfloat16 against the same model's scores at batch 1: answers differ only within 0.5 nats of a tie."""
    from lm_eval.models.huggingface import HFLM

    data = data_of({"train": "world"}, limit=40)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="bfloat16")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    flips = n = 0
    for task in data.questions:
        items = data.rendered(task)
        lm = LanguageModel(model, tokenizer, None, "any")
        for ours, theirs in zip(choice_loglikelihoods(lm, items), choice_loglikelihoods(stock, items), strict=True):
            first, second = max(theirs), theirs[max(range(len(ours)), key=ours.__getitem__)]
            flips, n = flips + (first != second), n + 1
            assert first - second <= 0.5
        assert not lm.warnings
    print(f"{flips} of {n} answers differ")


def test_a_choice_without_tokens_is_refused(tiny_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    for choice in ("", "x" * 600):
        with pytest.raises(ValueError, match="from 1 to 512 can be scored"):
            LanguageModel(model, tokenizer, 1, "any").loglikelihood(question_requests([("Q:", choice)]))


def test_the_check_waits_for_a_question_with_branches(tiny_model: Path, tmp_path: Path) -> None:
    """One-token answers share everything and have no branch: nothing is proved by them."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model, _ = trained(tmp_path, tiny_model, "prefix", {"epochs": 2, "batch_size": 4}, lr=1.0, rank=8)
    lm = LanguageModel(model.eval(), tokenizer, None, "any")
    lm.loglikelihood(question_requests([("Q:", "a"), ("Q:", "b")], [("R:", "aa"), ("R:", "ab")]))
    assert lm.sharing_check is None and lm.share == "any"
    lm.loglikelihood(question_requests([("Q:", "ax"), ("Q:", "bx")]))
    assert lm.share == "none" and not passed(lm.sharing_check)


def test_a_context_of_white_space_alone_is_refused(tiny_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(ValueError, match="white space alone"):
        LanguageModel(model, tokenizer, 1, "any").loglikelihood(question_requests([("  ", "a")]))


def test_lm_eval_says_nothing_on_the_terminal(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker's last lines are recorded when it dies: lm-eval's advice on metadata would push them out."""
    data = data_of({"train": "world"}, limit=4)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    lm = LanguageModel(model, AutoTokenizer.from_pretrained(tiny_model))
    identity = evaluation_identities(data, data_of_evaluation(), "float32", mergeable=True)[0]
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    try:
        protocols.evaluate_task(lm, data, identity)
        assert caplog.text == ""
        logger.warning("as before")
        assert "as before" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(before)
