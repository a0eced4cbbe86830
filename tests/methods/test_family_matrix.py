"""Each method on each decoder family works, or the plan refuses it in a sentence; docs/models.md says which."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from helpers.families import FAMILIES
from helpers.family_matrix import METHODS, Outcome, run_family
from helpers.paths import ROOT

DOCS = runpy.run_path(str(ROOT / "docs" / "generate_models_page.py"))
ROWS: dict[str, dict[str, str]] = DOCS["read_page"](DOCS["PAGE"].read_text(encoding="utf-8"))

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, on models of any age

FAST = {
    **{"llama": ("lora", "loreft"), "gpt2": ("ia3",), "gemma3": ("full",), "mixtral": ("dora",), "mamba": ("vera",)},
    **{"jamba": ("prefix",), "gpt_neox": ("galore",), "falcon": ("lora",), "phi3": ("ia3",), "rwkv": ("lora",)},
    **{"bloom": ("vera",), "opt": ("loreft",), "recurrent_gemma": ("prefix",), "qwen2_moe": ("galore",)},
}
"""Families of many kinds, each with other methods."""
TURNS = (("full", "lora"), ("dora", "prefix"), ("vera", "galore"), ("loreft", "ia3"))
"""Methods of one family in four, in the slow tests; the page's command runs all of them on all families."""


def check_row(family: str, methods: tuple[str, ...], folder: Path) -> None:
    outcomes = run_family(family, folder, ("base", *methods))
    assert outcomes == {method: Outcome(refused=ROWS[family][method]) for method in outcomes}


@pytest.mark.parametrize("family", FAST)
def test_a_method_works_on_a_family_or_its_plan_refuses_it(family: str, tmp_path: Path) -> None:
    check_row(family, FAST[family], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_says_of_each_family_what_is_found(family: str, tmp_path: Path) -> None:
    check_row(family, TURNS[FAMILIES.index(family) % len(TURNS)], tmp_path)


def test_the_page_has_a_row_for_each_family_and_is_what_the_command_writes() -> None:
    assert tuple(ROWS) == FAMILIES
    outcomes = {
        family: {method: Outcome(refused=sentence) for method, sentence in row.items()} for family, row in ROWS.items()
    }
    assert DOCS["page"](outcomes) == DOCS["PAGE"].read_text(encoding="utf-8")


def test_a_cell_that_fails_without_a_refusal_makes_no_page() -> None:
    row = dict.fromkeys(METHODS, Outcome())
    with pytest.raises(ValueError, match="lora on llama: scoring: differ"):
        DOCS["page"]({"llama": row | {"lora": Outcome(broken="scoring: differ")}})
