"""The table of `bench methods`."""

from __future__ import annotations

import json

import pytest

from bench.methods import METHODS, listing
from bench.methods.listing import MethodSize, method_rows, print_rows

FACTS = {"method", "summary", "rank", "merges", "cannot_merge", "quantized", "lr", "source"}


def test_without_a_base_the_rows_are_the_facts_of_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    rows = method_rows()
    assert [row.method for row in rows] == list(METHODS)
    assert all(row.as_json().keys() == FACTS for row in rows)
    json.dumps([row.as_json() for row in rows])
    print_rows(rows)
    printed = capsys.readouterr().out
    assert "quantized" in printed and "% of base" not in printed and "rslora" in printed


def test_on_a_base_the_rows_have_sizes_or_the_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "METHODS", {name: METHODS[name] for name in ("full", "lora")})
    rows = {row.method: row for row in method_rows("smollm2-135m-instruct", rank=100_000)}
    assert rows["full"].as_json()["trainable"] == 134_515_008
    assert rows["full"].size == MethodSize(None, 134_515_008, 100.0)
    assert rows["lora"].size == MethodSize() and "rank 100000 is more than" in rows["lora"].problem
    assert rows["lora"].as_json()["problem"] == rows["lora"].problem
    print_rows(list(rows.values()))
    assert "134,515,008" in capsys.readouterr().out
