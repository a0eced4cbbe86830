"""Chats as files have them: lists of turns in OpenAI's form ({role, content}) or ShareGPT's ({from, value})."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.files.bad_rows import RowError, shown
from bench.data.files.json_rows import SPEAKER_KEYS, Row
from bench.data.files.row_values import scalar_text, whole_characters

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
ROLES = {
    "user": USER,
    "human": USER,
    "prompter": USER,
    "tool": USER,
    "observation": USER,
    "ipython": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "chatgpt": ASSISTANT,
    "function_call": ASSISTANT,
    "system": SYSTEM,
    "developer": SYSTEM,
}
"""Whose turn it is, by what files call the speaker. What a tool returns is read as a turn of the user."""
TEXT_KEYS = ("content", "value", "text")
UNTRAINED_KEYS = ("weight", "train")
"""Of a turn: 0 or false in OpenAI's and axolotl's files says that it is not to be learnt."""


@dataclass(frozen=True)
class Chat:
    """The texts of a chat, as many answers as questions."""

    system: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    """The last may be empty."""


def read_chat(turns: object, column: str) -> Chat:
    """A chat of user and assistant in turns that ends with the assistant; first a system text where there is one.

    Raises RowError, naming the turn, for anything else.
    """
    if not isinstance(turns, (list, tuple)) or not turns:
        raise RowError(
            f"{column!r} must be a list of {{role, content}}, got {_shown(turns)}",
            "Write a chat as a list of {role, content} or {from, value}.",
        )
    read = [_turn(turn, f"turn {number} in {column!r}") for number, turn in enumerate(turns, start=1)]
    system = read.pop(0)[1] if read[0][0] == SYSTEM else ""
    speakers = [speaker for speaker, _ in read]
    if not speakers or speakers != [USER, ASSISTANT] * (len(speakers) // 2):
        listed = ", ".join(_speakers_shown(turns))
        raise RowError(
            f"{column!r} must be user and assistant in turns, ending with assistant; got {listed}",
            "Join the turns of one speaker that follow one another, and begin with the user.",
        )
    last = turns[-1]
    if any(last.get(key) in (False, 0) for key in UNTRAINED_KEYS if last.get(key) is not None):
        raise RowError(
            f"turn {len(turns)} in {column!r} is marked as not to be learnt, and only the last answer is",
            "Remove the row, or end the chat with the answer that is to be learnt.",
        )
    texts = [text for _, text in read]
    for number, text in enumerate(texts[:-1], start=len(turns) - len(texts) + 1):
        if not text:
            raise RowError(f"turn {number} in {column!r} is empty")
    return Chat(system, tuple(texts[::2]), tuple(texts[1::2]))


def _turn(turn: object, where: str) -> tuple[str, str]:
    """Speaker and text, without white space around it."""
    if not isinstance(turn, dict):
        raise RowError(f"{where} must be {{role, content}}, got {_shown(turn)}")
    # Parquet gives every turn the keys of all turns, with null where a turn has no such key.
    role = next((turn[key] for key in SPEAKER_KEYS if turn.get(key) is not None), None)
    speaker = ROLES.get(role.strip().casefold()) if isinstance(role, str) else None
    if speaker is None:
        raise RowError(f"the role of {where} must be user, assistant or system, got {_shown(role)}")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise RowError(
            f"{where} calls a tool in a field of its own", "Write the call into its content, or take it out."
        )
    if not any(key in turn for key in TEXT_KEYS):
        raise RowError(f"{where} has no content; it has {', '.join(shown(name) for name in turn)}")
    content = next((turn[key] for key in TEXT_KEYS if turn.get(key) is not None), None)
    return speaker, _text(content, where, may_be_empty=speaker != USER)


def _text(content: object, where: str, may_be_empty: bool) -> str:
    if isinstance(content, (list, tuple)):
        content = "".join(_part(part, where) for part in content)
    if content is None and may_be_empty:
        return ""
    text = scalar_text(content)
    if text is None or not (text.strip() or may_be_empty):
        raise RowError(f"the content of {where} must be a text, got {_shown(content)}")
    return whole_characters(text.strip(), where)


def _part(part: object, where: str) -> str:
    """A part of a content that is a list: {type: text, text: ...}."""
    text = part.get("text") if isinstance(part, dict) else part
    other = (
        [key for key, value in part.items() if key not in ("type", "text") and value] if isinstance(part, dict) else []
    )
    if not isinstance(text, str) or other:
        raise RowError(f"{where} has a part that is no text: {shown(part)}", "Only texts can be learnt: take it out.")
    return text


def _shown(value: object) -> str:
    return "null" if value is None else shown(value)


def _speakers_shown(turns: list[Row] | tuple[Row, ...]) -> list[str]:
    roles = [next(str(turn[key]) for key in SPEAKER_KEYS if turn.get(key) is not None) for turn in turns]
    return roles if len(roles) <= 8 else [*roles[:7], f"... ({len(roles)} turns)"]
