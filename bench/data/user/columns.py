"""Which column of a user's file is what, guessed from the names that such files commonly have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bench.data.files.bad_rows import names_shown
from bench.data.files.json_rows import Row, is_chat
from bench.errors import UserError

Columns = dict[str, str | list[str]]

CHATS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns")
SYSTEM = ("system", "system_prompt", "system_message")
QUESTIONS = (
    *("question.stem", "question", "question_stem", "question_text", "stem", "query", "problem", "goal", "sentence"),
    *("ctx", "q", "text", "prompt", "instruction", "input"),
)
PASSAGES = ("passage", "context", "article", "paragraph", "background", "story", "support", "premise", "dialogue")
"""What a question is about, where it has a column of its own."""
CHOICES = (
    *("choices", "options", "endings", "answers", "candidates", "alternatives", "choice", "question.choices"),
    "mc1_targets.choices",
)
LABELS = (
    *("label", "labels", "answerkey", "answer_key", "answer_index", "answer_idx", "answer_label", "answer_letter"),
    *("correct_index", "correct_idx", "correct_label", "correct_option", "correct_choice", "correct_answer", "correct"),
    *("answer", "gold", "gold_label", "gold_index", "target", "cop", "key", "solution", "a", "mc1_targets.labels"),
)
INSTRUCTIONS = ("instruction", "question", "query", "prompt", "problem", "input")
INPUTS = ("input", "context", "passage")
OUTPUTS = ("output", "response", "answer", "completion", "target", "solution")
PAIRS = (("prompt", "completion"), ("prompt", "answer"))
"""Columns of texts that are used verbatim, one behind the other."""

_PREFIXES = ("", "option", "choice", "answer", "ending", "sol", "solution", "op", "opt", "candidate", "alternative")
_NUMBERED = re.compile(r"(.*?)_?([a-h]|[0-9])")


def column_names(rows: Iterable[object], filled: bool = False) -> list[str]:
    """The columns of rows in the order of their first occurrence, with those of objects in them as `outer.inner`; with
    `filled`, those without null."""
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, dict):
            for name, value in row.items():
                if filled and value is None:
                    continue
                names.setdefault(str(name))
                if isinstance(value, dict) and len(value) <= 20:
                    names.update(dict.fromkeys(f"{name}.{inner}" for inner in value))
    return list(names)


def guess_columns(name: str, origin: str, rows: Sequence[object]) -> Columns:
    """The column map of the set `name`, from the columns that most of its rows have: a single odd row decides nothing.
    Parts that rows may lack are looked for in all of them.

    Raises UserError if the names of its columns say too little.
    """
    count = Counter(column for row in rows for column in column_names([row], filled=True))
    most_common = [column for column, _ in count.most_common()]
    anywhere = {_plain(column): column for column in reversed(most_common)}
    mostly = {plain: column for plain, column in anywhere.items() if 2 * count[column] >= len(rows)}
    not_chats = [plain for plain in CHATS if plain in anywhere and not _has_chat(rows, anywhere[plain])]
    guess = (
        _guess(mostly, anywhere, not_chats)
        or _guess(anywhere, anywhere, not_chats)
        or _guess(anywhere, anywhere)  # then a chat that is none is refused with the reason
    )
    if guess is None:
        outer = column_names(dict.fromkeys(row) for row in rows if isinstance(row, dict))
        raise UserError(
            f"{origin}: its columns do not say what they are: {names_shown(outer)}",
            f"Set data.sets.{name}.columns, e.g. {{question: ..., choices: ..., label: ...}}, "
            "{instruction: ..., output: ...}, {prompt: ..., answer: ...} or {messages: ...}.",
        )
    return guess


def as_columns(row: object) -> object:
    """A row by column, with null where a table has no number (NaN); a bare list of chat turns is in a column
    `messages`. What is no row stays as it is."""
    if isinstance(row, dict):
        return {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
    return {"messages": row} if is_chat(row) else row


def unread_columns(columns: Columns, rows: Sequence[Row]) -> list[str]:
    """The columns that the map does not name."""
    used = {name for value in columns.values() for name in (value if isinstance(value, list) else [value])}
    outer = column_names(dict.fromkeys(row) for row in rows)
    return [name for name in outer if name not in used and not any(part.startswith(f"{name}.") for part in used)]


def _has_chat(rows: Sequence[object], column: str) -> bool:
    """Whether a column holds a chat in any row, maybe as JSON in a text."""
    values = [row.get(column) for row in rows if isinstance(row, dict)]
    return any(is_chat(value) or (isinstance(value, str) and value.lstrip()[:1] == "[") for value in values)


def _guess(required: Mapping[str, str], optional: Mapping[str, str], not_chats: Sequence[str] = ()) -> Columns | None:
    """The first kind of set whose columns are all there. Of both the columns by their plain names; `not_chats` have the
    name of a chat alone."""

    def first(names: Sequence[str], *but: str | None) -> str | None:
        return next((required[name] for name in names if name in required and required[name] not in but), None)

    def maybe(names: Sequence[str], *but: str) -> str | None:
        return next((optional[name] for name in names if name in optional and optional[name] not in but), None)

    system = maybe(SYSTEM)
    with_system: Columns = {"system": system} if system else {}
    chat = first([plain for plain in CHATS if plain not in not_chats])
    if chat:
        return {"messages": chat, **with_system}
    question = first(QUESTIONS)
    choices = first(CHOICES) or _numbered(optional)
    label = first(LABELS, *([choices] if isinstance(choices, str) else choices or []))
    if question and choices and label and question != label:
        passage = maybe(PASSAGES)
        return {"question": [passage, question] if passage else question, "choices": choices, "label": label}
    for prompt, answer in PAIRS:
        if prompt in required and answer in required:
            return {"prompt": required[prompt], "answer": required[answer]}
    instruction = first(INSTRUCTIONS)
    output = first(OUTPUTS, instruction)
    if instruction and output:
        about = maybe(INPUTS, instruction, output)
        with_input: Columns = {"input": about} if about else {}
        return {"instruction": instruction, "output": output, **with_input, **with_system}
    return None


def _numbered(by_plain: Mapping[str, str]) -> list[str] | None:
    """Columns such as `A, B, C, D`, `option1, option2` or `choice_a, choice_b`, as many as there are in a row."""
    families: dict[str, dict[str, str]] = {}
    for plain, name in by_plain.items():
        match = _NUMBERED.fullmatch(plain)
        if match and match[1] in _PREFIXES:
            families.setdefault(match[1], {})[match[2]] = name
    for members in families.values():
        for marks in ("abcdefgh", "0123456789", "123456789"):
            run = [
                members[mark]
                for mark in marks[: next((i for i, m in enumerate(marks) if m not in members), len(marks))]
            ]
            if len(run) > 1:
                return run
    return None


def _plain(name: str) -> str:
    """As the lists above have it."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())
