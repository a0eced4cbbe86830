"""Two sweeps side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from cells import change_metrics
from conftest import bench

from bench.report import versions
from bench.store import Results


def two(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Results, Results]:
    """Two copies of one sweep, to change the second of."""
    return tuple(Results(Path(shutil.copytree(finished[1], tmp_path / name / "tiny"))) for name in ("before", "after"))


def test_the_same_cells_have_not_changed(finished: tuple[Path, Path], tmp_path: Path) -> None:
    made = versions.content(*two(finished, tmp_path))
    assert made.name == "after/tiny against before/tiny"
    assert made.sections[0].sentences == [
        "Nothing changed beyond noise.",
        "5 settings were done in both: 0 changed beyond noise; 5 of fewer than three seeds that McNemar's test does "
        "not tell apart; 5 have exactly the same average. The largest difference is +0.00 points.",
    ]
    assert made.sections[0].notes == [] and "settings" not in {section.id for section in made.sections}


def test_answers_that_changed_are_said(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """All of one cell's answers to two tasks are now right."""
    first, second = two(finished, tmp_path)
    for path in next(second.path.glob("cells/lora-r4-*")).glob("items/*"):
        items = pd.read_parquet(path)
        right = items.assign(prediction=items["gold"], prediction_norm=items["gold"], acc=1.0)
        right["loglikelihoods"] = [
            [0.0 if place == gold else -50.0 for place in range(len(own))]
            for own, gold in zip(items["loglikelihoods"], items["gold"], strict=True)
        ]
        right.to_parquet(path)
    change_metrics(second.path, "full", {"status": "oom"})
    config = second.path / "sweep.yaml"
    config.write_text(config.read_text().replace("tie_margin: 1.0", "tie_margin: 1.5"))
    made = versions.content(first, second)
    finding = made.sections[0]
    assert "lora in after/tiny scored" in finding.sentences[0] and "above lora in before/tiny" in finding.sentences[0]
    assert "4 settings were done in both: 1 changed beyond noise" in finding.sentences[-1]
    assert finding.notes == ["Done in before/tiny alone: full."]
    (table,) = next(section for section in made.sections if section.id == "settings").tables
    assert ["report.tie_margin", "1.0", "1.5"] in table.rows


def test_the_command_writes_a_page_of_its_own(finished: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two(finished, tmp_path)
    report = (second.report / "report.md").read_bytes()
    done = bench("report", first.path, second.path, "--compare")
    assert done.exit_code == 0, done.output
    page = second.report / "against_tiny" / "report.html"
    assert done.output.strip() == f"report: {page}" and "Nothing changed beyond noise." in page.read_text()
    assert (second.report / "report.md").read_bytes() == report
    done = bench("report", first.path, "--compare")
    assert done.exit_code == 2 and "1 folders and --compare" in done.output
    done = bench("report", first.path, second.path)
    assert done.exit_code == 2 and "Give one folder, or two with --compare" in done.output
