"""Hostile names and errors in report.md, which a Markdown parser reads, and in CSV files, which spreadsheets open."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from helpers.tables import change_metrics, copied
from markdown_it import MarkdownIt

from bench.report import _csv, write_report
from bench.report.escaping import code_span, fenced_block, markdown_cell, markdown_line, spreadsheet_text
from bench.store.folder import Results

HOSTILE = (
    *("# head", "> quoted", "- item", "+ item", "* item", "1. item", "12) item", "```", "~~~ x", "---", "***"),
    *("[click](http://a.b)", "![see](http://a.b/c.png)", "<img src=x onerror=alert(1)>", "<!-- x", "a\n\n# b\n```\nc"),
    *("[a]: http://a.b/c.png", "[a\\]b]: <http://a.b> 'c'", "[x]:\nhttp://a.b"),
)
CODE = ("`", "``", "a`b", "`a", "a``", "plain", "a\n```\nb", "<b>")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_in_a_line_of_markdown_is_a_paragraph_of_text(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(markdown_line(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"], tokens
    assert {child.type for child in tokens[1].children} <= {"text", "text_special", "code_inline"}


@pytest.mark.parametrize("text", ["a | b", "a \\| b", "a \\\\| b", "||"])
def test_a_text_in_a_table_is_one_cell(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(f"| x | y |\n| - | - |\n| {markdown_cell(text)} | z |\n")
    cells = [after.content for token, after in pairwise(tokens) if token.type == "td_open"]
    assert len(cells) == 2 and cells[1] == "z"


@pytest.mark.parametrize("text", CODE)
def test_code_is_one_span_and_a_block_is_one_block(text: str) -> None:
    (inline,) = (token for token in MarkdownIt("commonmark").parse(f"- {code_span(text)}: x") if token.type == "inline")
    assert [child.type for child in inline.children] == ["code_inline", "text"]
    assert inline.children[0].content.strip() == " ".join(text.split())
    (block,) = MarkdownIt("commonmark").parse(fenced_block(text, "yaml"))
    assert block.type == "fence" and block.content == f"{text}\n"


def test_hostile_names_stay_text_in_the_report(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    name = "x\n\n## Taken `a` [b](http://c.d)"
    plan["name"] = name
    plan["cells"][-1]["name"] = "full `evil` <b>\n# Taken"
    (folder / "plan.json").write_text(json.dumps(plan))
    sweep = "name: x\ntext: |\n  ```\n  # Taken\n"
    (folder / "sweep.yaml").write_text(sweep)
    change_metrics(folder, "full", {"status": "failed", "reason": "# Taken\n```\n[x](http://y.z)"})
    text = write_report(Results(folder)).with_name("report.md").read_text()
    tokens = MarkdownIt("commonmark").parse(text)
    heads = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    assert heads[0].startswith("x ## Taken") and not any(head.startswith("Taken") for head in heads)
    children = [child for token in tokens if token.type == "inline" for child in token.children]
    links = [child.attrGet("href") for child in children if child.type == "link_open"]
    assert links == []
    fences = [token for token in tokens if token.type == "fence"]
    assert [fence.info for fence in fences] == ["bash", "yaml"] and fences[1].content == sweep
    assert fences[0].content.startswith("bench run 'results/x")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(start: str) -> None:
    table = pd.DataFrame({f"{start}head": [f"{start}cmd|' /C calc'!A0", "plain"], "number": [-1.5, 2.0]})
    table["category"] = pd.Categorical([f"{start}1+1", None])
    rows = list(csv.reader(io.StringIO(_csv(table), newline="")))
    assert rows[0] == [f"'{start}head", "number", "category"]
    assert rows[1] == [f"'{start}cmd|' /C calc'!A0", "-1.5", f"'{start}1+1"] and rows[2] == ["plain", "2.0", ""]
    assert spreadsheet_text(-3) == -3
    assert spreadsheet_text("-0.1 to lora in one run each") == "-0.1 to lora in one run each"
    assert spreadsheet_text("-1+cmd|' /C calc'!A0") == "'-1+cmd|' /C calc'!A0"


def test_a_carriage_return_ends_no_row_of_a_table() -> None:
    """It would begin another row, whose first cell may be a formula."""
    rows = list(csv.reader(io.StringIO(_csv(pd.DataFrame({"reason": ["a\r=1+1"], "n": [1]})), newline="")))
    assert rows == [["reason", "n"], ["a\ufffd=1+1", "1"]]
