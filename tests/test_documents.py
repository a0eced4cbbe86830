"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bench import load_sweep, reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def test_the_reference_of_sweep_files_is_up_to_date() -> None:
    made = (ROOT / "docs" / "sweep_file.md").read_text(encoding="utf-8")
    assert made == reference.page(), "python -m bench.reference > docs/sweep_file.md"


def test_results_are_read_as_the_page_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = blocks(ROOT / "docs" / "results.md", "python")
    exec(code, {})
    said = capsys.readouterr().out
    assert "lora-r16-n1000-s0" in said and "arc_challenge" in said


def test_the_readme_s_sweep_is_one_and_comes_to_what_it_says(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = next(one for one in blocks(ROOT / "README.md", "yaml") if "name: my_sweep" in one)
    (tmp_path / "my_sweep.yaml").write_text(example)
    sweep = load_sweep(tmp_path / "my_sweep.yaml")
    settings = sum(len(one["rank"]) if "rank" in one else 1 for one in sweep.methods)
    count = settings * len(sweep.samples) * len(sweep.seeds)
    assert f"= {count} trained cells" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [one.partition("#")[0] for one in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in one]
    assert all((page.parent / one).exists() for one in targets), targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_settings_are_yaml(page: Path) -> None:
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)
