"""The report: one file without outside requests, the same twice, honest about what is missing."""

from __future__ import annotations

import json
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
    return pd.DataFrame([{"task": task, "protocol": protocol, "majority": 50.0} for task in sorted(tasks)])


def copied(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the finished sweep, to change."""
    return Path(shutil.copytree(finished[1], tmp_path / "tiny"))


def change_metrics(folder: Path, cell: str, change: dict) -> None:
    """Overwrite keys of a cell's metrics.json; None takes a key away."""
    path = next(folder.glob(f"cells/{cell}-*/metrics.json"))
    metrics = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in metrics.items() if value is not None}))


ONE_SETTING = [
    {"method": "full", "rank": None, "average": 55.0},
    {"method": "lora", "rank": 32, "average": 58.0},
    {"method": "vera", "rank": 256, "average": 50.0},
    *({"method": f"peft{i}", "rank": 32 if i < 20 else i, "average": 40.0 + i} for i in range(28)),
    {"method": "base", "rank": None, "samples": 0, "average": 42.0},
]
"""31 methods, each at one setting."""


def drawn(rows: list[dict]) -> dict[str, figures.Drawn]:
    return {one.name: one for one in figures.draw(cells_of(rows), scores_of({"arc_easy"}, "x"))}


def axes_of(rows: list[dict]):
    return figures.accuracy_by_method(cells_of(rows), scores_of({"arc_easy"}, "x")).axes[0]


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
        "accuracy_by_method.svg",
        "accuracy_by_method.png",
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


def test_every_method_has_a_row_the_best_on_top() -> None:
    ax = axes_of(ONE_SETTING)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == 31
    assert labels[0] == "peft27 r27" and labels[-1] == "peft0 r32"
    assert {"full", "lora r32", "vera r256"} <= set(labels)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = [line for line in ax.get_lines() if line.get_marker() in figures.MARKERS]
    values = [float(line.get_xdata()[0]) for line in dots]
    assert len(values) == 31 and values == sorted(values, reverse=True)
    assert dots[labels.index("lora r32")].get_color() == figures.COLOURS[0]
    assert dots[0].get_color() == figures.NEUTRAL
    assert [line.get_label() for line in ax.get_lines() if line.get_linestyle() in ("--", ":")] == [
        "untuned base 42.0",
        "majority class 50.0",
    ]


def test_a_row_shows_its_seeds_and_says_its_samples() -> None:
    rows = [
        {"method": method, "rank": 4, "samples": samples, "seed": seed, "average": 50.0 + samples / 100 + seed}
        for method in ("lora", "dora", "vera")
        for samples in (100, 2000)
        for seed in (0, 1)
    ]
    ax = axes_of(rows)
    assert {label.get_text() for label in ax.get_yticklabels()} >= {"lora r4 n=100", "lora r4 n=2,000"}
    seeds = [line for line in ax.get_lines() if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in seeds] == [2] * 6
    means = [line for line in ax.get_lines() if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [float(line.get_xdata()[0]) for line in means] == [70.5, 51.5]


@pytest.mark.parametrize(
    ("methods", "ranks", "names"),
    [
        (("lora", "dora"), (4, 8), ["rank_vs_accuracy"]),
        (("lora", "dora", "vera"), (4, 8), ["rank_vs_accuracy", "accuracy_by_method"]),
        (("lora", "dora"), (4,), ["accuracy_by_method"]),
        (("lora",), (4,), ["accuracy_by_method"]),
        ((), (), []),
    ],
)
def test_which_figures_are_drawn(methods: tuple, ranks: tuple, names: list[str]) -> None:
    rows = [{"method": method, "rank": rank, "average": 50.0} for method in methods for rank in ranks]
    assert list(drawn([*rows, {"method": "base", "rank": None, "average": 40.0}])) == names


def test_many_methods_at_one_rank_have_no_rank_figure_and_fit() -> None:
    # Warnings are errors here: matplotlib's that the axes collapsed among them.
    assert list(drawn(ONE_SETTING)) == ["accuracy_by_method"]


def test_many_series_with_ranks_are_all_told_apart() -> None:
    rows = [
        {"method": "lora", "series": f"lora lr={i} target_modules=['down_proj', 'gate_proj', 'k_proj']", "rank": rank}
        for i in range(16)
        for rank in (4, 8)
    ]
    rows = [{**row, "average": 50.0 + i} for i, row in enumerate(rows)]
    alone = {"method": "vera", "rank": 256, "average": 50.0}
    found = drawn([*rows, alone])
    assert "Series without two ranks (1) are in the next figure only." in found["rank_vs_accuracy"].caption
    assert "accuracy_by_method" in found
    figure = figures.rank_vs_accuracy(cells_of([*rows, alone]), scores_of({"arc_easy"}, "x"))
    lines = [line for line in figure.axes[0].get_lines() if line.get_label().startswith(("lora", "vera"))]
    assert len(lines) == 16
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 16


def test_looks_repeat_nothing_and_keep_the_known_methods() -> None:
    found = figures.looks(iter(["x", "dora", *(f"m{i}" for i in range(30)), "lora", "loreft"]))
    assert len(set(found.values())) == 34
    for method in ("lora", "dora", "loreft"):
        place = figures.FIXED[method]
        assert found[method] == (figures.COLOURS[place], figures.MARKERS[place])


def test_labels_are_names_and_not_formulas() -> None:
    rows = [{"method": "a:$x_{1$" + "y" * 90, "rank": 4, "average": 50.0}, {"method": "$<b>$", "rank": 4, "average": 5}]
    assert "<b>" not in drawn(rows)["accuracy_by_method"].svg


def test_two_figures_of_a_page_share_no_id(finished: tuple[Path, Path]) -> None:
    page = (finished[1] / "report" / "report.html").read_text()
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', page)) <= set(ids)


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
    rows = [
        {"method": method, "rank": rank, "average": 60.0, "base": base}
        for method in ("lora", "dora")
        for rank in (8, 16)
    ]
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


def test_a_rank_in_peft_s_own_words_starts_no_new_series() -> None:
    def series(options: list[dict], method: str = "adalora") -> list[str]:
        cells = cells_of([{"method": method, "rank": one["rank"], "average": 1.0} for one in options])
        return frames._series(cells.assign(options=options))

    def peft(rank: int, **changed: object) -> dict:
        own = {"target_r": rank, "init_r": -(-3 * rank // 2), "lora_alpha": 2 * rank, "lora_dropout": 0.0}
        return {"lr": 0.001, "rank": rank, "peft": {**own, **changed}}

    assert series([peft(1), peft(3), peft(32)]) == ["adalora"] * 3
    assert series([peft(8), peft(16, lora_dropout=0.1)]) == ["adalora lora_dropout=0.0", "adalora lora_dropout=0.1"]
    assert series([peft(8), peft(8, init_r=9)]) == ["adalora init_r=12", "adalora init_r=9"]
    # A rate chosen for each rank is a choice, and so a line of its own.
    assert series([{"rank": 4, "lr": 0.002}, {"rank": 8, "lr": 0.004}]) == ["adalora lr=0.002", "adalora lr=0.004"]

    def pair(rank: int, lr: float = 0.1, edit: int = 4) -> dict:
        return {"rank": rank, "lr": lr, "loreft": {"rank": edit, "lr": 0.2}, "lora": {"rank": rank, "lr": lr}}

    assert series([pair(4), pair(8)], "loreft+lora") == ["loreft+lora"] * 2
    assert series([pair(4), pair(4, lr=0.3)], "loreft+lora") == ["loreft+lora lora.lr=0.1", "loreft+lora lora.lr=0.3"]
    assert series([pair(4), pair(4, edit=8)], "loreft+lora") == [
        "loreft+lora loreft.rank=4",
        "loreft+lora loreft.rank=8",
    ]


def test_what_a_base_s_size_decides_is_no_setting() -> None:
    cells = cells_of([{"method": "loreft", "rank": 4, "average": 1.0, "base": base} for base in ("small", "large")])
    cells = cells.assign(options=[{"rank": 4, "layers": [0, 1]}, {"rank": 4, "layers": [0, 1, 2]}])
    assert frames._series(cells) == ["loreft on small", "loreft on large"]


def said(rows: list[dict]) -> list[str]:
    cells = cells_of(rows)
    return finding(cells, frames.differences(cells))


def test_many_comparisons_are_counted_and_speak_of_runs() -> None:
    sentences = said(ONE_SETTING)
    assert len(sentences) == 4
    assert sentences[0] == (
        "Of 20 comparisons with lora at equal rank and samples, with one seed each: 1 above it, 18 below it, 1 level "
        "with it (-18.0 to +1.0 points). This speaks of these runs, not of the methods."
    )
    assert "Not compared pairwise" in sentences[2] and "full, vera r256, peft20 r20" in sentences[2]
    assert "peft19 r32" not in sentences[2]


def test_many_comparisons_with_seeds_are_counted_by_verdict() -> None:
    def rows(method: str, leads: tuple[float, ...]) -> list[dict]:
        return [{"method": method, "rank": 4, "seed": s, "average": 50 + lead} for s, lead in enumerate(leads)]

    found = rows("lora", (0, 0, 0))
    for i in range(3):
        found += rows(f"better{i}", (3, 3.1, 3.2)) + rows(f"worse{i}", (-3, -3.1, -3.2))
        found += rows(f"tied{i}", (0.1, 0.2, 0.0)) + rows(f"single{i}", (2,))
    found += rows("unresolved", (-4, 0, 5))
    sentences = said(found)
    assert "over three seeds or more each: 3 better, 3 worse, 3 tied, 1 unresolved." in sentences[0]
    assert "Of 3 comparisons" in sentences[1] and "not of the methods" in sentences[1]
    assert "Each stands in the table" in sentences[2]
    assert len(sentences) == 3


def test_methods_without_an_equal_are_named() -> None:
    full, tuning = ({"method": name, "rank": None, "average": 50.0} for name in ("full", "ln_tuning"))
    lora = [{"method": "lora", "rank": rank, "average": 50.0} for rank in (4, 8)]
    assert said([full, tuning])[0] == "Not compared pairwise (none has a rank): full, ln_tuning."
    assert said([*lora, full, {"method": "vera", "rank": 9, "average": 1.0}]) == [
        "Not compared pairwise (without a rank, or without a done lora run at equal rank, samples, seed and training "
        "settings): full, vera r9."
    ]
    assert said(lora) == []


def test_merging_and_memory_are_shown(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    costs = {"trainable": 5, "total": 10, "base_bytes": 269_030_272, "optimizer_bytes": 46_200}
    apart = {"float32": 7.5e-05, "bfloat16": 1.625}
    reason = "it is <b>no</b> weight | at\nall"
    change_metrics(copy, "lora-r2", {"costs": costs, "merge_max_abs_diff": apart, "merge_reason": None})
    change_metrics(copy, "dora-r2", {"merge_max_abs_diff": None, "merge_reason": reason})
    page = write_report(Results(copy)).read_text()
    assert "no</b>" not in page and "&lt;b&gt;no" in page
    text = (copy / "report" / "report.md").read_text()
    assert "| lora-r2-n32-s0 | 7.5e-05 | 1.62 | bfloat16 | - |" in text
    assert "| dora-r2-n32-s0 | - | - | - | it is &lt;b>no&lt;/b> weight \\| at all |" in text
    assert "| 269.0 | 0.046 |" in text
    table = pd.read_csv(copy / "report" / "tables" / "cells.csv").set_index("name")
    row = table.loc["lora-r2-n32-s0"]
    assert (row["merge_float32"], row["merge_half"], row["base_bytes"]) == (7.5e-05, 1.625, 269_030_272)
    assert row["optimizer_bytes"] == 46_200
    assert table.loc["dora-r2-n32-s0", "merge_reason"] == reason


def test_a_merge_that_gave_no_number_is_not_taken_for_missing() -> None:
    found = frames._merging({"merge_max_abs_diff": {"float32": 0.0, "float16": float("nan")}})
    assert (found["merge_half"], found["merge_half_dtype"]) == (float("inf"), "float16")


def test_older_records_have_dashes_and_no_merging_table(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    for path in copy.glob("cells/*/metrics.json"):
        metrics = json.loads(path.read_text())
        costs = {key: value for key, value in metrics["costs"].items() if key not in ("base_bytes", "optimizer_bytes")}
        kept = {key: value for key, value in metrics.items() if not key.startswith("merge_")}
        path.write_text(json.dumps({**kept, "costs": costs}))
    write_report(Results(copy))
    text = (copy / "report" / "report.md").read_text()
    assert "## Merging" not in text
    assert re.search(r"\| lora-r2-n32-s0 \|.*\| - \| - \|", text)


def test_reasons_of_failures_are_text_on_one_line(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    change_metrics(copy, "full", {"status": "failed", "reason": "<script>alert(1)</script>\n| x"})
    page = write_report(Results(copy)).read_text()
    assert "<script>" not in page
    text = (copy / "report" / "report.md").read_text()
    assert "- `full-n32-s0`: failed (&lt;script>alert(1)&lt;/script> | x)" in text
    assert "6 cells planned, 5 done, 1 failed." in text


def test_a_figure_that_is_no_longer_drawn_is_taken_away(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    for cell in ("full", "lora-r2", "dora-r2"):
        change_metrics(copy, cell, {"status": "oom"})
    write_report(Results(copy))
    assert {path.name for path in (copy / "report" / "figures").iterdir()} == {
        "accuracy_by_method.svg",
        "accuracy_by_method.png",
    }
