"""Open answers over two turns, against a loop written out here; sampled ones, and what a kill leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generation import load, one_by_one

from bench.data.open_questions import OpenQuestion, Turn
from bench.evaluation import open_answers
from bench.evaluation.open_answers import answer_questions, read_answers
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.store.folder import CellFolder
from bench.sweep.evaluation_identity import AnswersIdentity

QUESTIONS = [
    OpenQuestion(1, "writing", (Turn("Write of a cat."), Turn("Shorter."))),
    OpenQuestion(2, "math", (Turn("Add them.", "2 and 3"), Turn("And then a much longer question: why is it so?"))),
    OpenQuestion("three", "stem", (Turn("Why?"),)),
]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, sharp: Path) -> Path:
    """The loud tiny model, which can say nothing but letters: other bytes would all decode to the same mark."""
    folder = tmp_path_factory.mktemp("spoken")
    model, tokenizer = load(sharp)
    silent = [place for place in range(len(tokenizer)) if not tokenizer.decode([place]).isalpha()]
    silent += [place for place in range(len(tokenizer)) if not tokenizer.decode([place]).isascii()]
    with torch.no_grad():
        model.get_input_embeddings().weight[silent] = 0  # and so are their logits, the head being tied to it
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Plain:
    """Turns and answers a line each: the tiny model says different things after prompts that end differently."""

    until = ("q",)

    def prompt(self, turns: Sequence[Turn], told: Sequence[str], system: str = "") -> str:
        lines = [text for turn, said in zip(turns, [*told, ""], strict=True) for text in (turn.full_text, said) if text]
        return "\n".join(lines)


def identity(**more: Any) -> AnswersIdentity:
    settings = {"set": "mine", "questions": "0", "template": "alpaca", "temperature": "greedy", "max_new_tokens": 8}
    return AnswersIdentity.model_validate({**settings, "dtype": "float32", "merged": True, **more})


def ask(model_folder: Path, cell: Path, rows: int | None = None, seed: int = 0, **more: Any) -> open_answers.Answers:
    model, tokenizer = load(model_folder)
    lm = LanguageModel(model, tokenizer, rows)
    return answer_questions(lm, QUESTIONS, Plain(), identity(**more), seed, CellFolder(cell))


def test_both_turns_are_what_a_loop_of_generate_gives(spoken: Path, tmp_path: Path) -> None:
    found = ask(spoken, tmp_path / "cell")
    model, tokenizer = load(spoken)

    def generated(prompt: str) -> str:
        (new,) = one_by_one(model, tokenizer, [prompt], tokens=8)
        return tokenizer.decode(new, skip_special_tokens=True).partition("q")[0].strip()

    for one in QUESTIONS:
        told: list[str] = []
        for turn in range(len(one.turns)):
            told.append(generated(Plain().prompt(one.turns[: turn + 1], told)))
        assert found[one.id] == told
    assert len({tuple(turns) for turns in found.values()}) == 3  # else equal answers would prove nothing


def test_they_are_kept_in_fastchats_format(spoken: Path, tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "cell")
    found = ask(spoken, folder.path)
    rows = [json.loads(line) for line in folder.answers(identity().file).read_text().splitlines()]
    assert [row["question_id"] for row in rows] == [1, 2, "three"]
    for row in rows:
        assert row["model_id"] == "cell" and row["choices"] == [{"index": 0, "turns": found[row["question_id"]]}]
    assert read_answers(folder, identity().file) == found


def test_what_is_answered_is_not_answered_again(
    spoken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = ask(spoken, tmp_path / "whole")
    monkeypatch.setattr(open_answers, "WRITE_EVERY", 1)
    calls: list[str] = []
    inner = LanguageModel.answer

    def stopping(self: Any, prompts: Any, kwargs: Any, advance: Any, keep: Any) -> None:
        def counted(number: int, text: str) -> None:
            calls.append(prompts[number])
            keep(number, text)
            if len(calls) == 4:
                raise KeyboardInterrupt

        inner(self, prompts, kwargs, advance, counted)

    monkeypatch.setattr(LanguageModel, "answer", stopping)
    path = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        ask(spoken, path, rows=1)
    kept = read_answers(CellFolder(path), identity().file)
    assert sum(map(len, kept.values())) == 4 and all(whole[id][: len(own)] == own for id, own in kept.items())
    assert ask(spoken, path, rows=1) == whole
    assert len(calls) == len(set(calls)) == 5


def test_sampled_answers_depend_on_the_seed_and_not_on_the_batch(spoken: Path, tmp_path: Path) -> None:
    greedy = ask(spoken, tmp_path / "0")
    one = ask(spoken, tmp_path / "1", rows=1, temperature="fastchat")
    three = ask(spoken, tmp_path / "3", rows=3, temperature="fastchat")
    other = ask(spoken, tmp_path / "o", seed=1, temperature="fastchat")
    assert one == three
    assert one[1] != other[1] and one[1] != greedy[1]  # writing: 0.7
    assert one[2] == greedy[2]  # math: the likeliest


def test_sampling_draws_from_the_softmax() -> None:
    """Frequencies of 4,000 draws against the probabilities: five standard errors."""
    from bench.evaluation.decoding import _Sampler

    logits, temperature = torch.tensor([[0.0, 1.0, 2.0]]), 0.7
    draw = _Sampler(temperature, [5])
    drawn = torch.cat([draw(logits, [0]) for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=3) / 4000
    expected = (logits[0] / temperature).softmax(-1)
    assert (shares - expected).abs().max() < 5 * (expected * (1 - expected) / 4000).sqrt().max()
