"""Instructions as text: Alpaca's template and chat templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.questions import CHATML, alpaca_file
from helpers.sweeps import tiny_tokenizer
from transformers import AutoTokenizer

from bench.data.encoding import encode
from bench.data.examples import Dialogue, render_example
from bench.data.open_questions import Turn
from bench.data.questions import Wording
from bench.data.templates import AlpacaTemplate, ChatTemplate
from bench.errors import UserError
from bench.planning.build import make_plan
from bench.sweep.schema import Sweep

SHORT = {"max_new_tokens": 8}
"""The tiny model reads 512 tokens."""


def test_alpacas_words_are_stanfords() -> None:
    turns = (Turn("Add them.", "2 and 3"),)
    assert AlpacaTemplate().prompt(turns, ()) == (
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

    return encode(tokenizer, render_example(row, Wording(), "question", ChatTemplate(tokenizer)), 256, append_eos=True)


def test_a_tokenizer_without_a_template_says_so(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        ChatTemplate(AutoTokenizer.from_pretrained(tiny_model))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}"), "leaves out or changes the answer"),
        (("{{ m['content'] }}", "{{ m['content'] | e }}"), "leaves out or changes a text of the user"),
        (("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"), "the system text"),
        (
            ("{{ m['content'] }}", "{{ raise_exception('No system role') if m['role'] == 'system' }}"),
            "refuses a dialogue of system, user: No system role",
        ),
        (("{% for m in messages %}", "{% if %}"), "refuses a dialogue"),
    ],
)
def test_a_template_that_loses_or_refuses_a_text_is_refused(change: tuple[str, str], why: str) -> None:
    """Templates of reasoning models cut the reasoning out of an answer; others have no system role."""
    tokenizer = tiny_tokenizer()
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    tokenizer.chat_template = template + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    turns, answers = (Turn("Is 1 < 2?"),), ("<think>1 < 2</think>Yes.",)
    assert ChatTemplate(tokenizer).answer(turns, answers, "Be brief.") == answers[0]
    tokenizer.chat_template = tokenizer.chat_template.replace(*change)
    with pytest.raises(UserError, match=why):
        ChatTemplate(tokenizer).answer(turns, answers, "Be brief.")


def test_a_template_that_opens_an_answer_otherwise_is_refused(chatting: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = CHATML.replace("<|assistant|>{% endif", "<|assistant|><think>{% endif")
    with pytest.raises(UserError, match="generation prompt"):
        ChatTemplate(tokenizer).answer((Turn("Hi"),), ("Yes.",))


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
    answered, unanswered = (
        plan({"train": "world_two"}, answers={"questions": "world_talk", **SHORT}),
        plan({"train": "world_two"}),
    )
    assert answered[1].cell.id == unanswered[1].cell.id and answered[1].cell.data.template is None
    assert answered[1].answers and answered[1].evaluations == unanswered[1].evaluations
