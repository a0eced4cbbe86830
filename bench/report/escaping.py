"""Names, errors and other texts that the harness did not write, as plain text within Markdown and CSV."""

from __future__ import annotations

import re
import unicodedata

CONTROL = {"Cc", "Cs"}
"""Unicode's categories of control characters and halves of characters."""
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks of direction."""
BLOCK = re.compile(r"^(\d*)(?=#|>|~~~|```|[-+*](?:\s|$)|---|___|\*\*\*|(?<=\d)[.)](?:\s|$)|\[.*\]:)")
"""How a line of Markdown begins that is no paragraph: a heading, a quotation, a list, a fence, a rule, the definition
of a link, which is not shown and turns text elsewhere into a picture."""
FORMULA = ("=", "+", "-", "@", "\t")
"""With these a spreadsheet begins a formula; the carriage return, which is another, is no plain text."""

SIGNED_NUMBER = re.compile(r"[-+]\d[\d.,]*(?: [\w ,.]*)?")
"""A number with its sign, and words that compute nothing: `-0.1 to lora in one run each`."""


def plain(text: str) -> str:
    """A text without characters that a page cannot show, or that would turn the direction of others: control characters
    and Unicode's marks of direction."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _unprintable(character) else character for character in text)


def _unprintable(character: str) -> bool:
    return character not in "\n\t" and (character in TURNING or unicodedata.category(character) in CONTROL)


def markdown_line(text: str) -> str:
    """A text within a line of Markdown: no line breaks, tags, links, pictures, nor a block at its beginning."""
    return BLOCK.sub(r"\1\\", _inline(text), count=1)


def markdown_cell(text: str) -> str:
    """A text within a cell of a Markdown table."""
    return re.sub(r"(\\*)\|", lambda match: 2 * match[1] + "\\|", _inline(text))


def _inline(text: str) -> str:
    return " ".join(plain(text).split()).replace("<", "&lt;").replace("](", "]\\(")


def code_span(text: str) -> str:
    """A text in Markdown as code, whatever backticks it has."""
    line = " ".join(plain(text).split())
    ticks = "`" * (_longest_ticks(line) + 1)
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{room}{line}{room}{ticks}"


def fenced_block(text: str, language: str) -> str:
    """Lines in Markdown as a block of code that none of them ends."""
    fence = "`" * max(3, _longest_ticks(text) + 1)
    lines = plain(text)
    end = "" if lines.endswith("\n") or not lines else "\n"
    return f"{fence}{language}\n{lines}{end}{fence}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def spreadsheet_text(value: object) -> object:
    """A value of a CSV table: a text is plain, and one that a spreadsheet would take for a formula has an apostrophe
    before it."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(FORMULA) and not SIGNED_NUMBER.fullmatch(text) else text
