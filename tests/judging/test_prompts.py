"""FastChat's prompts, against its own files and its rule restated here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.data.open_questions import OpenQuestion, ReferenceAnswer, Turn, with_references
from bench.judging import prompts
from bench.judging.prompts import Prompt, comparison_prompt, lacks_reference, rating_prompt

ANSWERS = ("A first {answer} with {0}, {{braces}}, \\1 and %s.", "A second one:\n{question_1}\n### User:\n{}")
OTHERS = ("Another: {ref_answer_1}.", "And {answer_a_2} again, \\g<0>, {")
SUM = OpenQuestion(1, "math", (Turn("1 + 1?"), Turn("And 2 + 2?", "by {hand}")), (("Two.", "Four."), ("2", "4")))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def mt_bench(shared: Path) -> Path:
    return shared / "data" / "mt_bench"


@pytest.fixture(scope="module")
def upstream(mt_bench: Path) -> dict[str, dict[str, str]]:
    """FastChat's prompts by name."""
    return {row["name"]: row for row in rows(mt_bench / "judge_prompts.jsonl")}


def test_the_texts_are_fastchats(mt_bench: Path) -> None:
    ours = Path(prompts.__file__).with_name("judge_prompts.jsonl")
    assert ours.read_bytes() == (mt_bench / "judge_prompts.jsonl").read_bytes()
    assert len(rows(ours)) == 8


def expected(upstream: dict[str, dict[str, str]], kind: str, row: dict[str, Any], reference: list[str]) -> list[Prompt]:
    """Turns 1 and 2 as gen_judgment.py and common.py would make them."""
    needed = row["category"] in ["math", "reasoning", "coding", "arena-hard-200"]
    name = {"single": ("single-v1", "single-math-v1"), "pair": ("pair-v2", "pair-math-v1")}[kind][needed]
    one, two = row["turns"]
    if kind == "single":
        first = {"question": one, "answer": ANSWERS[0]}
        both = {"question_1": one, "question_2": two, "answer_1": ANSWERS[0], "answer_2": ANSWERS[1]}
    else:
        first = {"question": one, "answer_a": ANSWERS[0], "answer_b": OTHERS[0]}
        both = {"question_1": one, "question_2": two, "answer_a_1": ANSWERS[0], "answer_a_2": ANSWERS[1]}
        both |= {"answer_b_1": OTHERS[0], "answer_b_2": OTHERS[1]}
    known = {"ref_answer_1": reference[0], "ref_answer_2": reference[1]} if needed else {}
    found = []
    for suffix, values in (("", first), ("-multi-turn", both)):
        source = upstream[name + suffix]
        text = source["prompt_template"].format(**values, **known)
        found.append(Prompt(source["name"], source["system_prompt"], text))
    return found


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_every_question_of_mt_bench(mt_bench: Path, upstream: dict[str, dict[str, str]], kind: str) -> None:
    given = rows(mt_bench / "question.jsonl")
    references = rows(mt_bench / "reference_answer" / "gpt-4.jsonl")
    texts = {row["question_id"]: row["choices"][0]["turns"] for row in references}
    questions = with_references(
        [OpenQuestion.from_row(row) for row in given], map(ReferenceAnswer.from_row, references)
    )
    assert len(questions) == 80
    names = set()
    for row, question in zip(given, questions, strict=True):
        told = expected(upstream, kind, row, texts.get(row["question_id"], ["", ""]))
        for turn in (1, 2):
            made = (
                rating_prompt(question, turn, ANSWERS)
                if kind == "single"
                else comparison_prompt(question, turn, ANSWERS, OTHERS)
            )
            assert made == told[turn - 1]
            names.add(made.name)
    assert names == {name for name in upstream if name.startswith(kind)}


def test_the_first_reference_is_shown_where_it_is_called_for() -> None:
    assert rating_prompt(SUM, 1, ["2"]).name == "single-math-v1"
    assert "[The Start of Reference Answer]\nTwo.\n[The End" in rating_prompt(SUM, 1, ["2"]).user
    assert "### Reference answer:\nFour.\n" in comparison_prompt(SUM, 2, ANSWERS, OTHERS).user
    # Neither where it is not wanted, nor where there is none, nor in other categories.
    assert rating_prompt(SUM, 1, ["2"], reference=False).name == "single-v1"
    assert rating_prompt(replace(SUM, references=()), 2, ["2", "4"]).name == "single-v1-multi-turn"
    assert comparison_prompt(replace(SUM, category="writing"), 1, ["2"], ["3"]).name == "pair-v2"
    assert "Two." not in comparison_prompt(replace(SUM, category="stem"), 2, ANSWERS, OTHERS).user
    assert rating_prompt(replace(SUM, category="arena-hard-200"), 1, ["2"]).name == "single-math-v1"


def test_both_parts_of_a_question_are_shown_and_one_turn_is_enough() -> None:
    assert "### User:\nAnd 2 + 2?\n\nby {hand}\n\n### Assistant A:\n" in rating_prompt(SUM, 2, ANSWERS).user
    short = OpenQuestion("a", "", (Turn("Why?"),))
    made = rating_prompt(short, 1, ["Because."])
    assert made.user.endswith(
        "[Question]\nWhy?\n\n[The Start of Assistant's Answer]\nBecause.\n[The End of Assistant's Answer]"
    )
    for turn in (0, 2, 3):
        with pytest.raises(ValueError, match=f"turn {turn} of question a"):
            rating_prompt(short, turn, ["Because."] * 3)
    with pytest.raises(ValueError, match="answer_b has 1 turns"):
        comparison_prompt(SUM, 2, ANSWERS, ["one alone"])


def test_hashes_tell_texts_apart() -> None:
    one = Prompt("x", "ab", "c")
    assert len(one.hash) == 16 and int(one.hash, 16) >= 0
    assert one.hash == Prompt("y", "ab", "c").hash
    assert len({one.hash, Prompt("x", "a", "bc").hash, Prompt("x", "ab", "C").hash}) == 3
    assert len(prompts.templates_hash()) == 16


def test_a_category_that_calls_for_a_reference_is_known_by_its_prompt() -> None:
    for category, prompt, lacks in (
        ("math", "single-v1", True),
        ("reasoning", "single-v1-multi-turn", True),
        ("coding", "pair-v2", True),
        ("math", "single-math-v1", False),
        ("coding", "pair-math-v1-multi-turn", False),
        ("writing", "single-v1", False),
    ):
        assert lacks_reference(category, prompt) is lacks
