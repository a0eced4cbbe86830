"""The data as cells use them: nested subsets, texts, fingerprints."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.paths import RESULTS
from helpers.questions import CHATML, HELD_OUT, alpaca_file, data_of, question_rows, question_set
from transformers import AutoTokenizer

from bench.data.prepare import prepare_data
from bench.errors import UserError
from bench.store.folder import Results
from bench.sweep.load import load_sweep


@pytest.mark.parametrize("mix", ["equal", "proportional"])
def test_subsets_are_nested_seeded_and_mixed(mix: str) -> None:
    data = data_of({"train": "world", "mix": mix})
    large = data.subset(600, 3)
    assert data.subset(150, 3) == large[:150]
    assert data.subset(150, 4) != large[:150]
    assert len(set(map(id, large))) == 600
    if mix == "equal":
        texts = [
            set(map(repr, data.subset(data.max_samples(), 3)[i :: len(data.pools)])) for i in range(len(data.pools))
        ]
        assert all(len(part) > 1 for part in texts)
    fixed = data_of({"train": "world", "mix": mix, "subset_seed": 3})
    assert fixed.subset(150, 9) == large[:150]


def test_order_of_a_file_changes_nothing_and_content_does(tmp_path: Path) -> None:
    rows = question_rows(60)
    first = data_of(question_set(tmp_path, rows, question_rows(9, "other")))
    again = data_of(question_set(tmp_path, rows[::-1], question_rows(9, "other")))
    assert again.fingerprint == first.fingerprint
    assert again.subset(20, 0) == first.subset(20, 0)
    rows[7]["c"][1] = "changed"
    assert data_of(question_set(tmp_path, rows, question_rows(9, "other"))).fingerprint != first.fingerprint


def test_subsets_are_nested_and_in_the_templates_words(tmp_path: Path, chatting: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "template": "chat"}, HELD_OUT)
    few, many = data.subset(4, 0, tokenizer), data.subset(12, 0, tokenizer)
    assert many[:4] == few and data.subset(4, 1, tokenizer) != few
    assert all(example.prompt.startswith("<|user|>") for example in many)
    assert data.subset(4, 0)[0].prompt.startswith("Below is")  # no tokenizer: enough to count characters


def test_a_template_is_checked_on_the_rows_that_cells_learn_from(tmp_path: Path, chatting: Path) -> None:
    """A row that no cell draws stops no sweep."""
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "template": "chat"}, HELD_OUT)
    drawn = [example.answer for example in data.subset(3, 0, tokenizer)]
    assert len(set(drawn)) == 3
    cut = f"message['content'] | replace('{drawn[2]}', '')"
    tokenizer.chat_template = CHATML.replace("message['content']", cut)
    data.check_template(tokenizer, {0: 2})
    with pytest.raises(UserError, match="leaves out or changes the answer"):
        data.check_template(tokenizer, {0: 3})


def test_committed_cells_were_trained_on_these_data() -> None:
    """Their identities and comparisons depend on it: the fingerprint of a committed sweep's data is what it was."""
    results = Results(RESULTS / "quickstart")
    environments = [folder.environment() for folder in results.folders()]
    recorded = {environment.data_fingerprint for environment in environments if environment is not None}
    assert recorded == {prepare_data(load_sweep(results.path / "sweep.yaml")).fingerprint}
