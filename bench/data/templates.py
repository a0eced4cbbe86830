"""How instructions and their answers become one text: Alpaca's template, or the tokenizer's own chat template.

Training and answering both use `prompt`, so that a model is asked with exactly the kind of text that it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from bench.data.open_questions import Turn
from bench.errors import UserError, first_line, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
"""The date for chat templates that would otherwise insert today's: a text must not depend on the day."""


class Template(Protocol):
    """A way to put a dialogue into words."""

    @property
    def until(self) -> tuple[str, ...]:
        """Texts that begin another turn of the user: an answer ends before them."""

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        """The text up to where the answer to the last of `turns` begins. `answers` has those of the turns before."""

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        """The text that follows the prompt of the last turn: the last of `answers` (one for each turn), as training
        supervises it, without the end-of-text token, which training appends."""


class AlpacaTemplate:
    """Stanford Alpaca's template. Later turns continue with another instruction and response, without the preamble. The
    preamble depends on whether the first turn has an input; a system text replaces it."""

    until: tuple[str, ...] = ("### Instruction:",)

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        preamble = f"{system}\n\n" if system else _PREAMBLE_WITH_INPUT if turns[0].input else _PREAMBLE
        texts = [_INSTRUCTION + turn.text + (_INPUT + turn.input if turn.input else "") + _RESPONSE for turn in turns]
        later = (f"{answer}\n\n{text}" for answer, text in zip(answers, texts[1:], strict=True))
        return preamble + texts[0] + "".join(later)

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        return answers[-1]


class ChatTemplate:
    """The tokenizer's own chat template.

    Raises UserError for a tokenizer without one, for a template that refuses a dialogue, and for one that leaves out or
    changes what it is given: a text of the user or the system, or the answer that is trained. (Earlier answers may
    change: templates of reasoning models drop their reasoning.)
    """

    until: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise UserError("the base model's tokenizer has no chat template", "Set data.template: alpaca.")
        self.tokenizer = tokenizer

    def prompt(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        text = self._text(turns, answers, system, add_generation_prompt=True)
        for name, given in (("the system text", system), *(("a text of the user", turn.full_text) for turn in turns)):
            _check_whole(given, text, name)
        return text

    def answer(self, turns: Sequence[Turn], answers: Sequence[str], system: str = "") -> str:
        prompt, text = self.prompt(turns, answers[:-1], system), self._text(turns, answers, system)
        if not text.startswith(prompt):
            raise UserError(
                "the tokenizer's chat template does not put an answer right after its generation prompt",
                "Set data.template: alpaca.",
            )
        answer = text[len(prompt) :]
        _check_whole(answers[-1], answer, "the answer")
        end = self.tokenizer.eos_token
        return answer.rstrip().removesuffix(end) if end else answer

    def _text(
        self, turns: Sequence[Turn], answers: Sequence[str], system: str, add_generation_prompt: bool = False
    ) -> str:
        messages = [{"role": "system", "content": system}] if system else []
        for number, turn in enumerate(turns):
            messages.append({"role": "user", "content": turn.full_text})
            messages += [{"role": "assistant", "content": answer} for answer in answers[number : number + 1]]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, date_string=DATE, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # the template is a program of the model's authors
            roles = ", ".join(message["role"] for message in messages[:8])
            raise UserError(
                f"the tokenizer's chat template refuses a dialogue of {roles}: {first_line(error)}",
                "Change these rows, or set data.template: alpaca.",
            ) from None
        return str(text)


def _check_whole(given: str, text: str, name: str) -> None:
    """Raises UserError if what a template made of a dialogue does not hold one of its texts."""
    if given.strip() not in text:
        raise UserError(
            f"the tokenizer's chat template leaves out or changes {name}: {shortened(given)} is not in "
            f"{shortened(text, 200)}",
            "Set data.template: alpaca, or change the row.",
        )


def make_template(name: TemplateName, tokenizer: PreTrainedTokenizerBase | None = None) -> Template:
    """The template of this name. Without a tokenizer always Alpaca's, which is enough to estimate lengths."""
    return ChatTemplate(tokenizer) if name == "chat" and tokenizer is not None else AlpacaTemplate()
