"""How instructions and their answers become one text: Alpaca's template, or the tokenizer's own chat template.

Training and answering both go through `prompt`, so a model is asked with exactly the kind of text that it was trained
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from bench.data.open_questions import Turn
from bench.errors import UserError

TemplateName = Literal["alpaca", "chat"]

# Stanford Alpaca's literals (tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT).
_PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
)
_PREAMBLE_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)
_INSTRUCTION = "### Instruction:\n"
_INPUT = "\n\n### Input:\n"
_RESPONSE = "\n\n### Response:"


DATE = "01 Jan 2024"
"""For chat templates that would say today's: what is trained and asked must not depend on the day."""


class Template(Protocol):
    """A way to put a dialogue into words."""

    until: tuple[str, ...]
    """Texts with which a model begins to ask itself: an answer ends before them."""

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        """The text up to where the answer to the last of `turns` begins; `answers` are those to the turns before."""

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        """What follows the prompt of the last turn: the last of `answers` (one for each turn) as it is trained on.
        The end-of-text token is not in it; training appends it."""


class AlpacaTemplate:
    """Stanford Alpaca's template. Later turns go on with another instruction and response, without the preamble; the
    preamble of the first turn says whether there is an input. A system text takes the preamble's place."""

    until = ("### Instruction:",)

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        preamble = f"{system}\n\n" if system else _PREAMBLE_WITH_INPUT if turns[0].input else _PREAMBLE
        asked = [_INSTRUCTION + one.text + (_INPUT + one.input if one.input else "") + _RESPONSE for one in turns]
        return preamble + asked[0] + "".join(f"{said}\n\n{one}" for said, one in zip(answers, asked[1:], strict=True))

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        return answers[-1]


class ChatTemplate:
    """The chat template that the tokenizer comes with.

    Raises UserError for a tokenizer that has none, or whose template does not put an answer right after the prompt.
    """

    until = ()

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UserError("the base model's tokenizer has no chat template", "Set data.template: alpaca.")
        self.tokenizer = tokenizer

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        return self._text(turns, answers, system, add_generation_prompt=True)

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        prompt, whole = self.prompt(turns, answers[:-1], system), self._text(turns, answers, system)
        if not whole.startswith(prompt):
            raise UserError(
                "the tokenizer's chat template does not put an answer right after its generation prompt",
                "Set data.template: alpaca.",
            )
        end = self.tokenizer.eos_token
        return whole[len(prompt) :].rstrip().removesuffix(end) if end else whole[len(prompt) :]

    def _text(self, turns: Sequence[Turn], answers: Sequence[str], system: str, **more: Any) -> str:
        messages = [{"role": "system", "content": system}] if system else []
        for number, one in enumerate(turns):
            messages.append({"role": "user", "content": one.full_text})
            messages += [{"role": "assistant", "content": said} for said in answers[number : number + 1]]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, date_string=DATE, **more)


def make_template(name: TemplateName, tokenizer: Any = None) -> Template:
    """The template of this name. Without a tokenizer it is Alpaca's, whatever the name: enough to count characters."""
    return ChatTemplate(tokenizer) if name == "chat" and tokenizer is not None else AlpacaTemplate()
