"""Tokens that a tokenizer has and the model has no embedding of: a sentence where a text holds one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.sweeps import bench
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.errors import CellProblem
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.compat.lm_eval import generation_request


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    """As gemma-3-1b, which has a token for images in its tokenizer alone."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(folder)
    return folder


def test_scoring_and_answering_a_text_with_such_a_token_is_refused(base: Path) -> None:
    lm = LanguageModel(AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base))
    plain, image = (Instance("loglikelihood", {}, (text, " yes"), 0, ("task", 0, 1)) for text in ("It?", "<image>?"))
    asked, about_image = (generation_request(text, {"max_gen_toks": 2}, 0) for text in ("It?", "<image>?"))
    assert lm.loglikelihood([plain]) and len(lm.generate_until([asked])) == 1
    says = r"the token '<image>' with the id 259, .* embeddings of 259 tokens"
    with pytest.raises(CellProblem, match=says):
        lm.loglikelihood([image])
    with pytest.raises(CellProblem, match=says):
        lm.generate_until([about_image])


def test_a_cell_that_would_learn_such_a_token_says_so(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"<image> number {number}?", "completion": f"{number}"} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sweep = {
        "name": "image",
        "base_model": str(base),
        "methods": [{"method": "lora", "rank": 2, "lr": 0.01}],
        "samples": 4,
        "data": {"train": str(tmp_path / "rows.jsonl")},
        "evaluation": {"tasks": ["world_two"], "limit": 4},
        "costs": {"inference": False},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    done = bench("run", tmp_path / "sweep.yaml", "--results", tmp_path / "r")
    (metrics,) = (tmp_path / "r").glob("**/cells/lora*/metrics.json")
    content = json.loads(metrics.read_text())
    assert content["status"] == "failed" and "the token '<image>' with the id 259" in content["reason"], done.output
