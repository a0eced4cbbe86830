"""What must hold for every method, whoever made it: train, save, load in another process, merge, score, generate.

Each is trained once on the tiny llama (fp32); the tests look at what came of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import EXACT, FAMILIES, SETTINGS, TRAINED, batch, slow_beyond_families
from helpers.paths import ROOT
from helpers.training import EXAMPLES, cell_of, trained
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import methods
from bench.data.collator import Collator
from bench.data.encoding import encode
from bench.evaluation.merge_check import probe
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.hooks import PromptMaskInGeneration, causal_lm, drop_prompt_mask
from bench.sweep.cell import Cell

pytestmark = pytest.mark.filterwarnings(
    # peft 0.21.2, by name: generating with prompts, loading an AdaLoRA whose ranks were allotted.
    "ignore:Position ids are not supported:UserWarning",
    "ignore:The following rank_pattern keys did not match:UserWarning",
    "ignore:.*LoRA tensor.s. have invalid shape:UserWarning",
    "ignore:Sparse invariant checks are implicitly disabled:UserWarning",  # FRoD's sparse products
)


MUTATE = {"pissa", "osf", "psoft"}
"""Methods that take a part of the base's weights into the adapter when they are attached."""


class Outcome:
    """A method, trained."""

    def __init__(self, name: str, folder: Path, tiny: Path) -> None:
        options = {
            "lr": 1e-2,
            **({"dropout": 0.0} if "dora" in name or name == "lora" else {}),
            **SETTINGS.get(name, {}),
        }
        options = {key: value for key, value in options.items() if key != "dropout" or "+" not in name}
        self.method, self.folder, self.tiny = methods.get(name), folder / "adapter", tiny
        self.model, self.log = trained(folder, tiny, name, {"epochs": 2, "batch_size": 4}, **options)
        self.cell = cell_of(name, AutoModelForCausalLM.from_pretrained(tiny), epochs=2, batch_size=4, **options)
        self.model.eval()
        drop_prompt_mask(self.model)
        self.folder.mkdir(parents=True)
        self.method.save(self.model, self.folder)
        self.logits = probe(self.model, batch(tiny), "float32")

    def loaded(self) -> Any:
        torch.manual_seed(1234)  # nothing may hang on the random state that the training had
        base = AutoModelForCausalLM.from_pretrained(self.tiny)
        model = self.method.load(base, self.folder, self.cell).eval()
        drop_prompt_mask(model)
        return model


def answer_loss(model: Any, tiny: Path) -> float:
    """Mean loss of the answers' tokens, in evaluation (PVeRA's training loss is that of random weights)."""
    inputs = batch(tiny)
    targets = inputs["labels"][:, 1:][inputs["attention_mask"][:, 1:].bool()]
    rows = inputs["attention_mask"].cumsum(1)[inputs["attention_mask"].bool()]
    logits = probe(model, inputs, "float32")
    # Token i predicts token i + 1 of its row: what predicts the first token of a row is not there.
    return float(torch.nn.functional.cross_entropy(logits[:-1][rows[1:] > 1], targets, ignore_index=-100))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    trained_methods: dict[str, Outcome] = {}

    def get(name: str) -> Outcome:
        if name not in trained_methods:
            trained_methods[name] = Outcome(name, tmp_path_factory.mktemp(name.replace("+", "_")), tiny_model)
        return trained_methods[name]

    return get


@pytest.mark.parametrize("name", slow_beyond_families(EXACT))
def test_training_moves_the_model_and_leaves_the_base_alone(name: str, outcomes: Any, tiny_model: Path) -> None:
    outcome = outcomes(name)
    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    drop_prompt_mask(base)
    assert not torch.allclose(outcome.logits, probe(base, batch(tiny_model), "float32"), atol=1e-5)
    assert answer_loss(outcome.model, tiny_model) < answer_loss(base, tiny_model)
    assert sum(p.numel() for p in outcome.model.parameters() if p.requires_grad) > 0
    assert all(p.dtype == torch.float32 for p in outcome.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", slow_beyond_families(EXACT))
def test_frozen_weights_are_bit_identical_after_training(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """Against the weights as the method attached itself to them: PiSSA and its like take a part out first."""
    options = {"lr": 1e-2, **SETTINGS.get(name, {})}
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of(name, base, **options)
    torch.manual_seed(0)
    before = {
        key: value.detach().clone()
        for key, value in methods.get(name).attach(base, cell).named_parameters()
        if not value.requires_grad
    }
    model, _ = trained(tmp_path, tiny_model, name, {"epochs": 1, "batch_size": 10}, **options)
    frozen = {key: value for key, value in model.named_parameters() if not value.requires_grad}
    assert frozen.keys() == before.keys()
    original = dict(AutoModelForCausalLM.from_pretrained(tiny_model).named_parameters())
    for key, value in frozen.items():
        assert torch.equal(value, before[key]), key
        plain = key.removeprefix("base_model.").removeprefix("model.").replace(".base_layer", "")
        if name not in MUTATE and plain in original:
            assert torch.equal(value, original[plain]), key


@pytest.mark.parametrize("name", slow_beyond_families(EXACT))
def test_saved_and_loaded_answer_alike(name: str, outcomes: Any, tiny_model: Path) -> None:
    outcome = outcomes(name)
    assert outcome.folder.exists() and list(outcome.folder.rglob("*.safetensors"))
    assert not [file.name for file in outcome.folder.rglob("*") if file.suffix in {".bin", ".pt", ".pkl", ".pth"}]
    logits = probe(outcome.loaded(), batch(tiny_model), "float32")
    # AdaLoRA's matrices are saved at their allotted ranks (sums of other lengths), CPT's offsets added to their tokens.
    assert torch.allclose(logits, outcome.logits, atol=1e-6 if name in ("adalora", "cpt") else 0, rtol=0)


@pytest.mark.parametrize(
    "names", [FAMILIES, pytest.param(tuple(EXACT), marks=pytest.mark.slow)], ids=["families", "all"]
)
def test_a_new_process_loads_them_to_the_same_logits(
    names: tuple[str, ...], outcomes: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """All methods in one new process; logits within 1e-6."""
    cells = {}
    for name in names:
        outcome = outcomes(name)
        torch.save(outcome.logits, tmp_path / f"{name}.pt")
        cells[name] = (str(outcome.folder), outcome.cell.model_dump(mode="json"))
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    code = f"""
        import json, sys, warnings, torch
        warnings.simplefilter("ignore")
        sys.path[:0] = {[str(ROOT / "tests")]!r}
        from pathlib import Path
        from transformers import AutoModelForCausalLM
        from helpers.methods import batch
        from bench import methods
        from bench.evaluation.merge_check import probe
        from bench.models.hooks import drop_prompt_mask
        from bench.sweep.cell import Cell
        tiny, inputs = {str(tiny_model)!r}, batch(Path({str(tiny_model)!r}))
        for name, (folder, cell) in json.loads(Path({str(tmp_path / "cells.json")!r}).read_text()).items():
            base = AutoModelForCausalLM.from_pretrained(tiny)
            model = methods.get(name).load(base, Path(folder), Cell.model_validate(cell)).eval()
            drop_prompt_mask(model)
            expected = torch.load({str(tmp_path)!r} + f"/{{name}}.pt")
            print(name, float((probe(model, inputs, "float32") - expected).abs().max()))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    off = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert off.keys() == cells.keys()
    assert {name: value for name, value in off.items() if float(value) > 1e-6} == {}


@pytest.mark.parametrize("name", slow_beyond_families(EXACT))
def test_merged_is_unmerged(name: str, outcomes: Any, tiny_model: Path) -> None:
    """fp32, 1e-5; a method that cannot merge says why."""
    outcome = outcomes(name)
    facts = outcome.method.facts_for(outcome.cell.options)
    if not facts.mergeable:
        assert len(facts.cannot_merge) > 10
        return
    merged = outcome.method.merge(outcome.loaded()).eval()
    assert type(merged).__name__ == "LlamaForCausalLM"
    drop_prompt_mask(merged)
    assert torch.allclose(probe(merged, batch(tiny_model), "float32"), outcome.logits, atol=1e-5)


@pytest.mark.parametrize(
    "name", slow_beyond_families(name for name in EXACT if not methods.METHODS[name].facts.no_packing)
)
def test_examples_of_one_row_do_not_see_one_another(name: str, outcomes: Any, tiny_model: Path) -> None:
    """Logits of examples packed into one row are those of examples in rows of their own."""
    outcome = outcomes(name)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [encode(tokenizer, example, 256, True) for example in EXAMPLES[:6]]
    packed = Collator(tokenizer.pad_token_id, "answer", packed=True)(rows)
    keys = ("input_ids", "position_ids", "prompt_mask")
    with torch.no_grad():
        logits = outcome.model.eval()(**{key: packed[key] for key in keys}, use_cache=False).logits[0]
    assert (logits - outcome.logits).abs().max() < 1e-5 * max(1.0, float(outcome.logits.abs().max())), name


@pytest.mark.parametrize(
    "name", slow_beyond_families(name for name in EXACT if methods.METHODS[name].facts.shared_prefix != "none")
)
def test_shared_prefixes_score_as_recomputed(name: str, outcomes: Any, tiny_model: Path) -> None:
    """The registry's word that a context may be run once for all choices (fp32, 1e-4 nats)."""
    from lm_eval.api.instance import Instance

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    pairs = [(i, f"Question: what is {i}?\nAnswer:", answer) for i in range(4) for answer in (" it is 7", " it", " no")]
    # These share only a part of their contexts.
    pairs += [(5, f"It was {word}", " that came of it") for word in ("it", "the end", "that")]
    requests = [Instance("loglikelihood", {}, tuple(pair), 0, metadata=("task", doc, 1)) for doc, *pair in pairs]
    model = outcomes(name).loaded()
    share = methods.METHODS[name].facts.shared_prefix
    shared, alone = (
        [score for score, _ in LanguageModel(model, tokenizer, size, share).loglikelihood(requests)]
        for size, share in ((None, share), (1, "none"))
    )
    assert shared == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("name", slow_beyond_families(TRAINED))
def test_generates_batched_as_one_by_one(name: str, outcomes: Any, tiny_model: Path) -> None:
    """Greedy, left padding, with a key-value cache: the same tokens."""
    model = outcomes(name).model
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, padding_side="left")

    def generated(texts: list[str]) -> list[list[int]]:
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.inference_mode(), PromptMaskInGeneration(model, inputs["attention_mask"].bool()):
            ids = model.generate(
                **inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        return ids[:, -5:].tolist()

    texts = ["Question: what is 3?\nAnswer:", "Question: what is 12345?\nAnswer:"]
    batched = generated(texts)
    assert all(len(row) == 5 for row in batched)
    assert batched == [generated([text])[0] for text in texts]


@pytest.mark.parametrize("name", slow_beyond_families(TRAINED))
def test_answers_generated_in_batches_are_those_of_one_by_one(name: str, outcomes: Any, tiny_model: Path) -> None:
    """Through the harness's decoder, where rows leave the batch as they end, and by beams."""
    from lm_eval.api.instance import Instance

    outcome, tokenizer = outcomes(name), AutoTokenizer.from_pretrained(tiny_model)
    model = outcome.loaded()
    facts = outcome.method.facts_for(outcome.cell.options)

    def generated(size: int, **settings: Any) -> list[str]:
        lm = LanguageModel(model, tokenizer, size, facts.shared_prefix, pads_left=facts.pads_left)
        kwargs = {"max_gen_toks": 6, **settings}
        texts = [f"Question: what is {number}?\nAnswer:" for number in (3, 12345, 77, 12)]
        return lm.generate_until([Instance("generate_until", {}, (text, kwargs), 0) for text in texts])

    single = generated(1)
    assert generated(4) == single
    stop = max(single, key=len)[1:2]  # a text that some of them hold
    if stop:
        assert generated(4, until=[stop]) == generated(1, until=[stop]) == [text.partition(stop)[0] for text in single]
    assert len(generated(1, num_beams=4)) == 4


@pytest.mark.parametrize("name", slow_beyond_families(EXACT))
def test_a_token_sees_neither_its_neighbours_nor_what_follows(name: str, outcomes: Any, tiny_model: Path) -> None:
    """A row alone gives the logits that it gives in a padded batch, and a later token changes no earlier logits
    (fp32, 1e-4): else a score would depend on the batch."""
    model = outcomes(name).model
    inputs = {
        key: value for key, value in batch(tiny_model).items() if key in ("input_ids", "attention_mask", "prompt_mask")
    }
    lengths = inputs["attention_mask"].sum(1).tolist()
    together = probe(model, inputs, "float32").split(lengths)
    alone = {key: value[:1, : lengths[0]].clone() for key, value in inputs.items()}
    assert torch.allclose(probe(model, alone, "float32"), together[0], atol=1e-4)
    alone["input_ids"][0, -1] = 77  # the last token of the answer
    assert torch.allclose(probe(model, alone, "float32")[:-1], together[0][:-1], atol=1e-4)


@pytest.mark.parametrize("name", slow_beyond_families(name for name in EXACT if "reft" not in name))
def test_scores_are_a_plain_hflms(name: str, outcomes: Any, tiny_model: Path) -> None:
    """Against lm-eval's own class on the same model at batch 1 (fp32, 1e-4 nats). ReFT, which needs the prompt mask
    that HFLM cannot give, is compared with pyreft in test_reft.py."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    outcome, tokenizer = outcomes(name), AutoTokenizer.from_pretrained(tiny_model)
    pairs = [(f"Question: what is {i}?\nAnswer:", answer) for i in (1, 23456) for answer in (" it is 7", " it")]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    model = outcome.loaded()
    facts = outcome.method.facts_for(outcome.cell.options)
    ours = LanguageModel(model, tokenizer, 4, facts.shared_prefix).loglikelihood(requests)
    model.tie_weights = lambda: None
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    theirs = stock.loglikelihood(requests, disable_tqdm=True)
    assert [score for score, _ in ours] == pytest.approx([score for score, _ in theirs], abs=1e-4)


def test_causal_lm_is_the_innermost_model(outcomes: Any) -> None:
    assert type(causal_lm(outcomes("lora").model)).__name__ == "LlamaForCausalLM"
    assert isinstance(outcomes("lora").cell, Cell)
