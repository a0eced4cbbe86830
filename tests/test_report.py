"""The report: one file without outside requests, the same twice, honest about what is missing."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bench import frames
from bench.report import figures, published, write_report
from bench.report.finding import finding, sentence
from bench.store import Results

REQUESTING = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "background"}


class Requests(HTMLParser):
    """Collects every attribute that could make a browser fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "embed", "link", "img"}
        for name, value in attrs:
            if name in REQUESTING and not (value or "").startswith("#"):
                self.found.append(f"{tag} {name}={value}")
            if name == "style" and "url(" in (value or "") and "url(#" not in value:
                self.found.append(value)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def cells_of(rows: list[dict]) -> pd.DataFrame:
    """A cells table as `frames.read` gives it, with what the figure and the differences need."""
    base = {
        "status": "done",
        "base": "b",
        "samples": 100,
        "seed": 0,
        "question_noise": 2.0,
        "options": {},
        "training": {},
    }
    return pd.DataFrame([{**base, "series": row["method"], "folder": f"c{i}", **row} for i, row in enumerate(rows)])


def scores_of(tasks: set[str], protocol: str) -> pd.DataFrame:
    return pd.DataFrame([{"task": task, "protocol": protocol} for task in tasks])


def test_one_file_without_outside_requests(finished: tuple[Path, Path]) -> None:
    page = (finished[1] / "report" / "report.html").read_text()
    parser = Requests()
    parser.feed(page)
    assert not parser.found
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    # Addresses in the file are names of XML vocabularies and sources in the text, never attributes that fetch.
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    text = " ".join(parser.text)
    assert "The world_* data are synthetic" in text
    assert "this speaks of these two runs, not of the methods" in text
    assert "6 cells planned, 6 done." in text


def test_the_same_cells_give_the_same_report(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(finished[1], copy)
    before = {path: path.read_bytes() for path in (copy / "report").rglob("*") if path.is_file()}
    assert {path.name for path in before} >= {
        "report.html",
        "report.md",
        "rank_vs_accuracy.svg",
        "rank_vs_accuracy.png",
    }
    shutil.rmtree(copy / "report")
    write_report(Results(copy))
    assert before == {path: path.read_bytes() for path in (copy / "report").rglob("*") if path.is_file()}


def test_cells_that_were_not_run_are_missing_not_dropped(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(finished[1], copy)
    shutil.rmtree(next(copy.glob("cells/dora-r4-*")))
    page = write_report(Results(copy)).read_text()
    assert "6 cells planned, 5 done, 1 missing." in page and "not run yet" in page


def test_a_report_of_no_finished_cell(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(finished[1], copy)
    shutil.rmtree(copy / "cells")
    shutil.rmtree(copy / "report")
    page = write_report(Results(copy)).read_text()
    assert "No trained cell is done yet." in page
    assert not (copy / "report" / "figures").exists()


def test_figure_has_a_line_a_method_a_dot_a_seed_and_the_untuned_line() -> None:
    rows = [
        {"method": method, "rank": rank, "seed": seed, "average": 50 + rank + seed}
        for method in ("lora", "dora")
        for rank in (2, 8)
        for seed in (0, 1)
    ]
    rows += [{"method": "base", "rank": None, "average": 40.0}, {"method": "full", "rank": None, "average": 55.0}]
    figure = figures.rank_vs_accuracy(cells_of(rows), scores_of({"arc_easy"}, "loglikelihood-v1"))
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"lora", "dora", "full", "untuned"} <= set(lines)
    assert list(lines["lora"].get_ydata()) == [52.5, 58.5]
    dots = [line for line in ax.get_lines() if line.get_marker() == "." and line.get_linestyle() == "None"]
    assert sorted(len(line.get_ydata()) for line in dots) == [4, 4]
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize(
    ("base", "tasks", "protocol", "drawn"),
    [
        ("huggyllama/llama-7b", published.COMMONSENSE, "llm-adapters-v1", True),
        ("huggyllama/llama-7b", published.COMMONSENSE, "loglikelihood-v1", False),
        ("huggyllama/llama-7b", published.COMMONSENSE - {"piqa"}, "llm-adapters-v1", False),
        ("smollm2-135m-instruct", published.COMMONSENSE, "llm-adapters-v1", False),
    ],
)
def test_published_curves_only_over_the_same_experiment(base: str, tasks: set, protocol: str, drawn: bool) -> None:
    rows = [{"method": method, "rank": 8, "average": 60.0, "base": base} for method in ("lora", "dora")]
    figure = figures.rank_vs_accuracy(cells_of(rows), scores_of(tasks, protocol))
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert any("Table 15" in label for label in labels) == drawn
    assert any("reproductions" in label for label in labels) == drawn


def test_published_files_are_the_shared_ones(shared: Path) -> None:
    for name in published.SOURCES:
        assert (published.FOLDER / f"{name}.csv").read_bytes() == (shared / "published" / f"{name}.csv").read_bytes()


def test_differences_are_paired_by_seed() -> None:
    lora = [60.0, 50.0, 70.0]
    rows = [{"method": "lora", "rank": 4, "seed": s, "average": lora[s]} for s in range(3)]
    rows += [{"method": "dora", "rank": 4, "seed": s, "average": lora[s] + 3 + 0.1 * s} for s in range(3)]
    rows += [{"method": "dora", "rank": 8, "seed": 0, "average": 99.0}]  # no LoRA at rank 8 to compare with
    rows += [{"method": "dora", "rank": 4, "seed": 7, "average": 99.0}]  # nor at seed 7
    found = frames.differences(cells_of(rows))
    assert len(found) == 1
    row = next(found.itertuples())
    assert (row.seeds, row.verdict) == (3, "better")
    assert row.difference == pytest.approx(3.1)
    # The seeds' own spread (10 points) would have hidden it: pairing is what resolves it.
    assert row.high - row.low < 1
    assert sentence(row) == "At rank 4, 100 samples, dora is 3.1 points above lora: +3.1 [2.9, 3.3] over 3 seeds."


def test_two_bases_of_one_name_are_compared_apart() -> None:
    rows = [
        {"method": method, "rank": 4, "average": average, "base": base, "series": f"{method} on {base}"}
        for base, lora, dora in (("x (r, float32)", 50.0, 51.0), ("x (r, bfloat16)", 60.0, 63.0))
        for method, average in (("lora", lora), ("dora", dora))
    ]
    found = frames.differences(cells_of(rows))
    assert dict(zip(found["base"], found["difference"], strict=True)) == {"x (r, float32)": 1.0, "x (r, bfloat16)": 3.0}
    assert set(found["seeds"]) == {1}


def test_cells_are_compared_at_equal_training_settings() -> None:
    rows = [
        {"method": method, "rank": 4, "average": 50.0 + epochs + lead, "training": {"epochs": epochs}}
        for epochs in (1, 2)
        for method, lead in (("lora", 0), ("dora", 3))
    ]
    cells = cells_of(rows).assign(
        series=lambda c: [f"{m} {t}" for m, t in zip(c["method"], c["training"], strict=True)]
    )
    found = frames.differences(cells)
    assert list(found["difference"]) == [3.0, 3.0]


def test_series_split_where_a_setting_varies() -> None:
    def series(options: list[dict]) -> list[str]:
        cells = cells_of([{"method": "lora", "rank": one["rank"], "average": 1.0} for one in options])
        return frames._series(cells.assign(options=options))

    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 8, "alpha": 16, "lr": 1e-4}]) == ["lora", "lora"]
    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 4, "alpha": 8, "lr": 1e-3}]) == [
        "lora lr=0.0001",
        "lora lr=0.001",
    ]
    assert series([{"rank": 4, "alpha": 8}, {"rank": 4, "alpha": 4}]) == ["lora alpha=8", "lora alpha=4"]
