"""Files of rows with something wrong in them: a seeded generator of what people and programs write by mistake."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

FileRow = dict[str, Any]

WORDS = (
    "apple",
    "stone",
    "ä ö",
    "日本",
    "a,b",
    'say "x"',
    "tab\there",
    "two\nlines",
    "\u2028",
    "\x00",
    "👍",
    "<s>",
    "-4",
    "1.0",
)
"""Parts of texts: every one of them may be trained on."""


def _text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))) + f" {rng.random():.6f}"


def _question(rng: random.Random) -> FileRow:
    choices = [_text(rng) for _ in range(rng.randint(2, 5))]
    place = rng.randrange(len(choices))
    return {"question": _text(rng), "choices": choices, "answer": rng.choice(["ABCDE"[place], choices[place]])}


def _arc(rng: random.Random) -> FileRow:
    texts = [_text(rng) for _ in range(4)]
    return {"question": _text(rng), "choices": {"text": texts, "label": list("ABCD")}, "answerKey": rng.choice("ABCD")}


def _columns(rng: random.Random) -> FileRow:
    row: FileRow = {"question": _text(rng)} | {letter: _text(rng) for letter in "ABC"}
    return row | {"answer": rng.choice("ABC")}


def _instruction(rng: random.Random) -> FileRow:
    return {"instruction": _text(rng), "input": rng.choice(["", _text(rng)]), "output": _text(rng)}


def _pair(rng: random.Random) -> FileRow:
    return {"prompt": _text(rng), "completion": _text(rng)}


def _chat(rng: random.Random) -> FileRow:
    keys, names = rng.choice([(("role", "content"), ("user", "assistant")), (("from", "value"), ("human", "gpt"))])
    turns = [dict(zip(keys, (names[n % 2], _text(rng)), strict=True)) for n in range(2 * rng.randint(1, 3))]
    if rng.random() < 0.3:
        turns.insert(0, dict(zip(keys, ("system", _text(rng)), strict=True)))
    return {"messages": turns}


KINDS: tuple[Callable[[random.Random], FileRow], ...] = (_question, _arc, _columns, _instruction, _pair, _chat)


def _nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def _odd_value(rng: random.Random) -> object:
    """What no column should hold, and some things that it may."""
    plain = (None, "", " ", True, False, 0, 1, -1, 2, 2.5, float("nan"), float("inf"), 10**18, 10**400, [], {}, [None])
    texts = (
        "\ud83d",
        "x\udc00",
        "\ufeff",
        "x" * 100_000,
        "[",
        "{",
        "[1, 2",
        "['a', 'b']",
        '["a", "b"]',
        "{'a': 1}",
        "[" * 5000,
    )
    nested = ({"text": "x"}, {"role": "user"}, [{"role": None}], [[]], ["a", 1, None], [{}], {"": ""}, _nested(60))
    return rng.choice([*plain, *texts, *nested])


def _spoiled(value: object, rng: random.Random, depth: int = 0) -> object:
    """A value with an odd one in its place or somewhere inside."""
    if depth < 4 and rng.random() < 0.7:
        if isinstance(value, dict) and value:
            key = rng.choice(list(value))
            return value | {key: _spoiled(value[key], rng, depth + 1)}
        if isinstance(value, list) and value:
            place = rng.randrange(len(value))
            return [*value[:place], _spoiled(value[place], rng, depth + 1), *value[place + 1 :]]
    return _odd_value(rng)


def spoiled_row(row: FileRow, rng: random.Random) -> object:
    """A row with something odd in it, or in its place."""
    how = rng.random()
    if how < 0.1:
        return rng.choice([None, 5, "x", [], [1], {}, [{"role": "user"}]])
    key = rng.choice(list(row))
    if how < 0.2:
        return {name: value for name, value in row.items() if name != key}
    if how < 0.25:
        return {(f"{name} " if name == key else name): value for name, value in row.items()}
    return row | {key: _spoiled(row[key], rng)}


@dataclass(frozen=True)
class FuzzedFile:
    """A file and what was done to it."""

    path: Path
    rows: list[object]
    spoiled: int | None
    """The row, from 1, that has something odd; None for none."""
    damaged: bool
    """Whether bytes of the file were changed: then its rows are not these."""


def fuzzed_file(folder: Path, seed: int) -> FuzzedFile:
    """The file of a seed."""
    rng = random.Random(f"rows {seed}")
    kind = rng.choice(KINDS)
    rows: list[object] = [kind(rng) for _ in range(rng.choice([1, 3, 4, 6, 8]))]
    spoiled = None
    if rng.random() < 0.8:
        spoiled = rng.randint(1, len(rows))
        rows[spoiled - 1] = spoiled_row(rows[spoiled - 1], rng)  # type: ignore[arg-type]
    writer = rng.choice(WRITERS)
    content, ending = writer(rows, rng)
    damaged = rng.random() < 0.25
    if damaged:
        content = _damaged(content, rng)
    path = folder / f"rows{ending}"
    path.write_bytes(content)
    return FuzzedFile(path, rows, spoiled, damaged)


def _jsonl(rows: list[object], rng: random.Random) -> tuple[bytes, str]:
    escaped = rng.random() < 0.5 or any("\\ud" in json.dumps(row) for row in rows)
    text = "\n".join(json.dumps(row, ensure_ascii=escaped) for row in rows)
    return text.encode("utf-8-sig" if rng.random() < 0.2 else "utf-8"), rng.choice([".jsonl", ".json"])


def _json(rows: list[object], rng: random.Random) -> tuple[bytes, str]:
    whole = {"data": rows, "version": 1} if rng.random() < 0.3 else rows
    return json.dumps(whole, indent=rng.choice([None, 1])).encode(), ".json"


def _table(rows: list[object], rng: random.Random) -> tuple[bytes, str]:
    """CSV or TSV, lists as JSON; as JSONL where the rows make no table."""
    if not all(isinstance(row, dict) for row in rows):
        return _jsonl(rows, rng)
    names = list(dict.fromkeys(name for row in rows for name in row))  # type: ignore[attr-defined]
    ending, mark = rng.choice([(".csv", ","), (".tsv", "\t")])
    text = io.StringIO()
    table = csv.writer(text, delimiter=mark)
    table.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names]  # type: ignore[attr-defined]
        table.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in cells])
    return text.getvalue().encode(errors="surrogatepass"), ending


def _parquet(rows: list[object], rng: random.Random) -> tuple[bytes, str]:
    """As JSONL where the values of a column do not agree."""
    try:
        return pd.DataFrame(rows).to_parquet(index=False), ".parquet"
    except Exception:  # pandas' and pyarrow's many
        return _jsonl(rows, rng)


WRITERS = (_jsonl, _jsonl, _json, _table, _parquet)


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """With bytes changed, cut off, put in or taken out."""
    place = rng.randrange(len(content) + 1)
    odd = rng.choice(
        [b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\\", b"\xed\xa0\x80", b"\t", b"\r"]
    )
    return rng.choice(
        [
            content[:place],
            content[:place] + odd + content[place:],
            content[:place] + content[place + 1 :],
            content[place:],
        ]
    )


def leaves(value: object) -> Iterator[str]:
    """The texts in a value, without the roles of a chat and the labels of choices."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("role", "from", "label", "answer", "answerKey", "type"):
                yield from leaves(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str) and value.strip():
        yield value.strip()
