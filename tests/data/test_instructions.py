"""Instructions: where they come from, how they are put into words, which are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import make_tiny_model
from transformers import AutoTokenizer

from bench.data import loaders
from bench.data.encoding import encode
from bench.data.examples import Dialogue
from bench.data.open_questions import OpenQuestion, Turn, open_questions_fingerprint
from bench.data.prepare import prepare_data
from bench.data.questions import normalize
from bench.data.sweep_data import SweepData
from bench.data.templates import AlpacaTemplate, ChatTemplate
from bench.errors import UserError
from bench.planning.build import make_plan
from bench.sweep.schema import Sweep
from bench.sweep.sections import OpenSet

SHORT = {"max_new_tokens": 8}
"""The tiny model reads 512 tokens."""
CHATML = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def alpaca_file(folder: Path, rows: int = 40) -> Path:
    path = folder / "alpaca.json"
    content = [
        {"instruction": f"Name number {i}.", "input": f"It is {i}." if i % 3 == 0 else "", "output": f"Number {i}."}
        for i in range(rows)
    ]
    path.write_text(json.dumps([*content, {"instruction": "Say nothing.", "input": "", "output": ""}]))
    return path


def data_of(data: dict[str, Any], answers: dict[str, Any] | None = None) -> SweepData:
    sweep = {"name": "x", "base_model": "b", "methods": ["lora"], "samples": 4, "data": data}
    return prepare_data(Sweep.model_validate({**sweep, "answers": answers or {"questions": "held_out"}}))


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    """A tiny model whose tokenizer has a chat template."""
    folder = make_tiny_model(tmp_path / "chatting")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


def test_alpacas_words_are_stanfords() -> None:
    asked = (Turn("Add them.", "2 and 3"),)
    assert AlpacaTemplate().prompt(asked, ()) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd them.\n\n### Input:\n2 and 3\n\n"
        "### Response:"
    )
    assert AlpacaTemplate().prompt((Turn("Name it."),), ()) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName it.\n\n### Response:"
    )
    second = AlpacaTemplate().prompt((Turn("Name it."), Turn("Again.")), ("It.",))
    assert second.endswith("### Response:It.\n\n### Instruction:\nAgain.\n\n### Response:")


def test_chat_words_are_the_tokenizers(chatting: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    words, turns = ChatTemplate(tokenizer), (Turn("Hi", "there"), Turn("And?"))
    messages = [{"role": "user", "content": "Hi\n\nthere"}, {"role": "assistant", "content": "Yes."}]
    messages.append({"role": "user", "content": "And?"})
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert words.prompt(turns, ("Yes.",)) == theirs
    # The end-of-text token that the template puts after an answer is training's to append, once.
    assert words.answer(turns, ("Yes.", "No.")) == "No."
    example = data_of_dialogue(tokenizer, Dialogue("t", turns, ("Yes.", "No."), "Be short."))
    assert example.ids[-1] == tokenizer.eos_token_id and example.ids.count(tokenizer.eos_token_id) == 5
    assert tokenizer.decode(example.ids[example.prompt_length :]) == "No.</s>"


def data_of_dialogue(tokenizer: Any, row: Dialogue) -> Any:
    from bench.data.examples import render_example
    from bench.data.questions import Wording

    return encode(tokenizer, render_example(row, Wording(), "question", ChatTemplate(tokenizer)), 256, append_eos=True)


def test_a_tokenizer_without_a_template_says_so(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        ChatTemplate(AutoTokenizer.from_pretrained(tiny_model))


def test_a_template_that_opens_an_answer_otherwise_is_refused(chatting: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = CHATML.replace("<|assistant|>{% endif", "<|assistant|><think>{% endif")
    with pytest.raises(UserError, match="generation prompt"):
        ChatTemplate(tokenizer).answer((Turn("Hi"),), ("Yes.",))


def test_held_out_instructions_are_never_trained_on(tmp_path: Path) -> None:
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6})
    asked = data.open_questions["held_out"]
    assert len(asked) == 6 and len(data.pools["alpaca"]) == 34  # and the row without an answer is left out
    taught = {row.normalized for row in data.pools["alpaca"]}
    assert not taught & {normalize(one.turns[0].full_text) for one in asked}
    assert all(len(one.references) == 1 for one in asked)
    again = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6, "template": "chat"})
    assert again.open_questions == data.open_questions
    other = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6, "seed": 1})
    assert other.open_questions != data.open_questions
    small = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path))})
    assert len(small.open_questions["held_out"]) == 8  # a fifth at most


def test_subsets_are_nested_and_in_the_templates_words(tmp_path: Path, chatting: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "template": "chat"})
    few, many = data.subset(4, 0, tokenizer), data.subset(12, 0, tokenizer)
    assert many[:4] == few and data.subset(4, 1, tokenizer) != few
    assert all(one.prompt.startswith("<|user|>") for one in many)
    assert data.subset(4, 0)[0].prompt.startswith("Below is")  # no tokenizer: enough to count characters


def test_rows_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    messages.append({"role": "assistant", "content": "A"})
    path.write_text(json.dumps({"talk": messages}) + "\n")
    own = {"train": "mine", "sets": {"mine": {"train": str(path), "columns": {"messages": "talk"}}}, "held_out": 0}
    with pytest.raises(UserError, match="no instruction is held out"):
        data_of(own)
    (row,) = data_of(own, {"questions": "world_talk"}).pools["mine"]
    assert row == Dialogue("mine", (Turn("U"),), ("A",), "S")
    path.write_text(json.dumps({"talk": messages[:2]}) + "\n")
    with pytest.raises(UserError, match="row 1: messages must be user and assistant in turns"):
        data_of(own, {"questions": "world_talk"})


def test_a_training_row_that_asks_an_open_question_is_removed(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["name number 5", "Why?"]}) + "\n")
    answers = {"questions": "mine", "sets": {"mine": {"questions": str(questions)}}}
    data = {"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 0}
    assert "Name number 5." not in {row.turns[0].text for row in data_of(data, answers).pools["alpaca"]}
    kept = data_of({**data, "deduplicate": False}, answers)
    assert kept.overlap["alpaca"].by_question == 1 and kept.overlap["alpaca"].removed == 0


def test_questions_in_fastchats_format(tmp_path: Path) -> None:
    path, references = tmp_path / "q.jsonl", tmp_path / "r.jsonl"
    rows = [{"question_id": i, "category": "math", "turns": [f"{i}?", "Sure?"]} for i in (1, 2)]
    path.write_text("\n".join(map(json.dumps, rows)))
    references.write_text(json.dumps({"question_id": 2, "choices": [{"index": 0, "turns": ["Two.", "Yes."]}]}))
    first, second = loaders.load_open_questions("own", OpenSet(questions=str(path), references=str(references)))
    assert first.references == () and second.references == (("Two.", "Yes."),)
    assert OpenQuestion.from_row(second.to_row()) == second
    changed = OpenQuestion(2, "math", second.turns)
    assert (
        open_questions_fingerprint([second])
        == open_questions_fingerprint([changed])
        != open_questions_fingerprint([first])
    )
    path.write_text(json.dumps({"question_id": 1, "turns": "?"}))
    with pytest.raises(UserError, match="row 1: 'turns' must be a list"):
        loaders.load_open_questions("own", OpenSet(questions=str(path)))


def test_mt_bench_as_the_hub_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's columns, on a data set of the same columns made here; its notes for judges are no reference answers."""
    from datasets import Dataset

    made = Dataset.from_list(
        [
            {"prompt": ["1?", "2?"], "prompt_id": 101, "category": "math", "reference": ["1", "Carefully check."]},
            {"prompt": ["3?", "4?"], "prompt_id": 81, "category": "writing", "reference": []},
        ]
    )
    monkeypatch.setattr(loaders, "_hub", lambda *asked: made)
    first, second = loaders.load_open_questions("mt_bench", None)
    assert (first.id, first.turns) == (101, (Turn("1?"), Turn("2?")))
    assert first.references == second.references == ()
    answers = tmp_path / "gpt-4.jsonl"
    answers.write_text(json.dumps({"question_id": 101, "choices": [{"index": 0, "turns": ["One.", "Two."]}]}))
    first, second = loaders.load_open_questions("mt_bench", OpenSet(references=str(answers)))
    assert first.references == (("One.", "Two."),) and second.references == ()


def test_a_question_of_three_turns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["1?", "2?", "3?"]}))
    with pytest.raises(UserError, match="row 1: it has 3 turns; questions of at most 2 can be judged"):
        loaders.load_open_questions("own", OpenSet(questions=str(path)))


def test_copies_of_what_is_held_out_are_never_trained_on(tmp_path: Path) -> None:
    """Whatever the policy on duplicates; and one question has one id."""
    path = tmp_path / "twice.json"
    rows = [{"instruction": f"Name {i}.", "input": "", "output": f"{i}."} for i in range(20)]
    path.write_text(json.dumps([*rows, *rows]))
    data = data_of({"train": "alpaca", "alpaca": str(path), "held_out": 5, "deduplicate": False})
    asked = data.open_questions["held_out"]
    assert len({one.id for one in asked}) == len(asked) == 5
    assert len(data.pools["alpaca"]) == 30
    assert not {one.id for one in asked} & {row.key for row in data.pools["alpaca"]}


def test_sets_have_names_that_files_can_bear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a set"):
        Sweep.model_validate(
            {"name": "x", "base_model": "b", "methods": ["lora"], "samples": 4}
            | {"answers": {"questions": "a/b", "sets": {"a/b": {"questions": "q.jsonl"}}}}
        )


def test_real_alpaca_and_mt_bench(shared: Path) -> None:
    mt = {"questions": str(shared / "data/mt_bench/question.jsonl")}
    mt["references"] = str(shared / "data/mt_bench/reference_answer/gpt-4.jsonl")
    answers = {"questions": ["held_out", "mt_bench"], "sets": {"mt_bench": mt}}
    data = data_of({"train": "alpaca", "alpaca": str(shared / "data/alpaca/alpaca_random_9k.json")}, answers)
    assert len(data.open_questions["held_out"]) == 200 and len(data.open_questions["mt_bench"]) == 80
    assert sum(bool(one.references) for one in data.open_questions["mt_bench"]) == 30
    assert len(data.pools["alpaca"]) + 200 + data.overlap["alpaca"].removed == 9225  # four of 9,229 have no answer


def test_answers_that_leave_no_room_are_refused_in_the_plan(tmp_path: Path, tiny_model: Path) -> None:
    settings = {"name": "x", "base_model": {"id": str(tiny_model), "dtype": "float32"}, "methods": ["lora"]}
    settings |= {"samples": 4, "data": {"train": "world_talk"}, "answers": {"questions": "world_talk"}}
    with pytest.raises(UserError, match=r"max_new_tokens 1024 leaves no room for a question in .* reads 512 tokens"):
        make_plan(Sweep.model_validate(settings))


def test_the_template_is_part_of_a_cells_identity_and_only_where_there_are_instructions(
    tmp_path: Path, tiny_model: Path
) -> None:
    def plan(data: dict[str, Any], **more: Any) -> Any:
        base = {"id": str(tiny_model), "dtype": "float32"}
        settings = {"name": "x", "base_model": base, "methods": [{"method": "lora", "rank": 2}], "samples": 4}
        return make_plan(Sweep.model_validate({**settings, "data": data, **more})).cells

    talk = {"train": "alpaca", "alpaca": str(alpaca_file(tmp_path))}
    ids = {
        plan({**talk, "template": name}, answers={"questions": "held_out", **SHORT})[1].cell.id
        for name in ("alpaca", "chat")
    }
    assert len(ids) == 2
    asked, unasked = (
        plan({"train": "world_two"}, answers={"questions": "world_talk", **SHORT}),
        plan({"train": "world_two"}),
    )
    assert asked[1].cell.id == unasked[1].cell.id and asked[1].cell.data.template is None
    assert asked[1].answers and asked[1].evaluations == unasked[1].evaluations
