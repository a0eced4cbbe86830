"""Tokens kept on disk: the same as made anew, and never those of other texts or another tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sweeps import make_tiny_model
from transformers import AutoTokenizer

from bench.data import encoding
from bench.data.encoding import encode, encode_all
from bench.data.examples import Example

EXAMPLES = [Example(f"Question: what is {i}?\nAnswer:", f" it is {i * 7}") for i in range(20)] + [Example("", " é")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def test_kept_tokens_are_those_of_each_example(cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = [encode(tokenizer, example, 256, True) for example in EXAMPLES]
    assert encode_all(tokenizer, EXAMPLES, 256, True) == expected
    assert len(list(cache.iterdir())) == 1
    again = AutoTokenizer.from_pretrained(tiny_model)
    monkeypatch.setattr(encoding, "encode_pair", None)  # nothing is tokenized again, whatever the length allowed
    assert encode_all(again, EXAMPLES, 256, True) == expected
    cut = [row.ids for row in encode_all(again, EXAMPLES, 12, False)]
    assert cut == [row.ids[:-1][-12:] for row in expected]


def test_other_texts_and_another_tokenizer_have_their_own(cache: Path, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    other = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "bos", bos=True))
    encode_all(tokenizer, EXAMPLES, 256, True)
    assert encode_all(other, EXAMPLES, 256, True) == [encode(other, example, 256, True) for example in EXAMPLES]
    assert len(encode_all(tokenizer, EXAMPLES[:3], 256, True)) == 3
    assert len(list(cache.iterdir())) == 3


def test_a_damaged_file_is_made_anew(cache: Path, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = encode_all(tokenizer, EXAMPLES, 256, True)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert encode_all(tokenizer, EXAMPLES, 256, True) == expected and path.read_bytes() == content


def test_a_cache_that_cannot_be_written_to_costs_nothing_but_time(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert len(encode_all(tokenizer, EXAMPLES, 256, True)) == len(EXAMPLES)
