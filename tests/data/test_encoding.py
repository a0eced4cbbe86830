"""Prompt and answer as tokens: every character of an answer is trained, and nothing else.

Tokens kept on disk: the same as made anew, and never those of other texts or another tokenizer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import make_tiny_model
from helpers.tokenizers import ANSWERED, ASKED, KINDS, Kind, make_tokenizer, text_of
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bench.data import encoding
from bench.data.encoding import encode, encode_all, encode_pair, encode_prompt
from bench.data.examples import Example
from bench.data.open_questions import Turn
from bench.data.questions import render
from bench.data.tasks import commonsense_tasks
from bench.data.tasks.rows import from_llm_adapters
from bench.data.templates import AlpacaTemplate
from bench.errors import UserError

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


# ---- the join of prompt and answer

OTHERS = (" ", "\n", "  ", ":", "e\u0301", "日本", "🙂", "the", "Question", ".", "\t", "'s", "0", "\u00a0")
BESIDE = [*ASKED, *ANSWERED, *OTHERS]
"""Pieces of random texts."""


def check_join(tokenizer: Any, prompt: str, answer: str) -> bool:
    """Checks the split of a text against the texts of its tokens; returns whether a token spans the join."""
    head, tail = encode_pair(tokenizer, prompt, answer)
    alone = encode_prompt(tokenizer, prompt.rstrip())
    assert head, "the answer's first token has something before it"
    if head == [tokenizer.bos_token_id] and alone[:1] != head:
        head = []  # all of the prompt is in a token with the answer
    text = text_of(tokenizer, head + tail)
    metaspace = text.removesuffix((prompt + answer).encode())
    assert metaspace in (b"", b" "), "the tokens are those of the whole text"
    asked = metaspace + prompt.rstrip().encode()
    # No character of the answer is in the prompt's tokens, and these are what the model is asked with.
    assert asked.startswith(text_of(tokenizer, head))
    assert head == alone[: len(head)]
    if head == alone:
        assert text_of(tokenizer, tail) == text[len(asked) :], "nothing of the prompt is trained"
        return False
    # As much is prompt as can be: the next token is not the prompt's own, because it goes on into the answer or
    # because the answer changes how the prompt's end is cut into tokens.
    assert not alone or tail[0] != alone[len(head)]
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_every_character_of_an_answer_is_trained_and_nothing_else(kind: Kind) -> None:
    """Random texts, whose joins many tokens span."""
    draw = random.Random(kind)
    tokenizer = make_tokenizer(kind, begins=kind == "llama2")
    spanning = 0
    for _ in range(600):
        prompt, answer = ("".join(draw.choices(BESIDE, k=draw.randint(1, 5))) for _ in range(2))
        if prompt.strip():
            spanning += check_join(tokenizer, prompt, answer)
    assert spanning > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("Q: 2+2\nA:", "-4"), ("### Response:", "**bold**"), ("Say:", '"quoted"'), ("Ans", "wer"), ("Q:\n\n", "x")],
)
def test_a_token_that_spans_prompt_and_answer_is_the_answers(kind: Kind, prompt: str, answer: str) -> None:
    tokenizer = make_tokenizer(kind)
    check_join(tokenizer, prompt, answer)
    row = encode(tokenizer, Example(prompt, answer), 256, append_eos=True)
    assert text_of(tokenizer, row.ids[row.prompt_length :]).endswith(answer.encode())
    assert row.ids[-1] == tokenizer.eos_token_id and not row.truncated


def test_a_prompt_that_is_all_in_a_token_with_the_answer_begins_with_the_text_token() -> None:
    """Nothing would predict the first token: it would not be trained."""
    tokenizer = make_tokenizer("llama3")
    assert encode_prompt(tokenizer, ":") != encode_prompt(tokenizer, ":\nwer")[:1]
    head, tail = encode_pair(tokenizer, ":", "\nwer")
    assert head == [tokenizer.bos_token_id] and text_of(tokenizer, tail) == b":\nwer"
    head, tail = encode_pair(tokenizer, "\n", "wer")
    assert head == [tokenizer.bos_token_id] and text_of(tokenizer, tail) == b"\nwer"


def test_a_tokenizer_without_the_tokens_for_an_empty_prompt_is_refused() -> None:
    tokenizer = make_tokenizer("gpt2")
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(UserError, match="no beginning-of-text and no end-of-text token"):
        encode_pair(tokenizer, "", "answer")
    assert encode_pair(tokenizer, "Question:", " yes")[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begins", [False, True])
def test_an_end_that_the_tokenizer_appends_by_itself_is_left_out(kind: Kind, begins: bool) -> None:
    """It would stand before the answer, whose first token would be lost."""
    appending, plain = make_tokenizer(kind, begins, ends=True), make_tokenizer(kind, begins)
    assert appending.encode("Answer:")[-1] == appending.eos_token_id
    for prompt, answer in [("Answer:", " yes"), ("A:", "-4"), ("", "yes"), ("<s>Q:", " a</s> b"), ("Q: ", "x")]:
        assert encode_pair(appending, prompt, answer) == encode_pair(plain, prompt, answer)
        assert (
            encode_prompt(appending, prompt)
            == encode_prompt(plain, prompt)
            == plain.encode(prompt, add_special_tokens=not prompt.startswith("<s>"))
        )


def rows_of_real_data(shared: Path, every: int) -> Iterator[tuple[str, str]]:
    """Prompts and answers: Alpaca's under its template, the tasks' as `question` (to train on) and `llm_adapters`."""
    for row in json.loads((shared / "data" / "alpaca" / "alpaca_random_9k.json").read_text())[::every]:
        turns = (Turn(row["instruction"], row["input"]),)
        yield AlpacaTemplate().prompt(turns, ()), row["output"]
    for name in ("boolq_closed", "arc_easy", "arc_challenge", "openbookqa"):
        task = commonsense_tasks()[name]
        for split, format in (("train", "question"), ("test", "llm_adapters")):
            path = shared / "data" / "commonsense" / task.source.folder / f"{split}.json"
            for row in json.loads(path.read_text())[::every]:
                rendered = render(from_llm_adapters(name, row, task.wording), task.wording, format)
                yield rendered.contexts[0], rendered.continuations[rendered.label]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_real_rows_are_trained_whole(kind: Kind, every: int, shared: Path) -> None:
    tokenizer = make_tokenizer(kind, begins=kind in ("llama2", "llama3"))
    rows = list(rows_of_real_data(shared, every))
    spanning = sum(check_join(tokenizer, prompt, answer) for prompt, answer in rows)
    assert len(rows) > 33_000 // every and (spanning or kind in ("gpt2", "unigram"))


def test_the_unknown_token_at_the_join_is_the_answers() -> None:
    """The same token stands for all that a vocabulary lacks: one that spans the join is no token of the prompt."""
    core = Tokenizer(models.WordPiece({"<unk>": 0, "<s>": 1, "</s>": 2, "Say": 3, "it": 4}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    assert encode_pair(tokenizer, "Say שלו", "ם") == ([1, 3], [0])
    assert encode_pair(tokenizer, "Say שלו", "ם it") == ([1, 3], [0, 4])
    assert encode_pair(tokenizer, "Say שלום", " it") == ([1, 3, 0], [4])
