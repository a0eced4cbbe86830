"""The report: one file without outside requests, the same twice, honest about what is missing."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import bench
from scipy import stats

from bench import frames, statistics
from bench.report import figures, published, write_report
from bench.report.finding import finding, sentence
from bench.report.tables import differences_table
from bench.statistics import judge
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
    assert sentence(row) == (
        "At rank 4, 100 samples, dora is 3.1 points above lora: +3.1 [2.9, 3.3] over 3 seeds, adjusted p < 0.001."
    )


def asked(correct: dict[str, list[int]], task: str = "t", cluster: list[str] | None = None) -> pd.DataFrame:
    """Rows of `Frames.questions`: whether each cell's answers to the questions of a task were right."""
    rows = [
        {
            "folder": folder,
            "protocol": "loglikelihood-v1",
            "task": task,
            "question_id": f"q{place:03}",
            "cluster": cluster[place] if cluster else None,
            "correct": bool(right),
        }
        for folder, answers in correct.items()
        for place, right in enumerate(answers)
    ]
    return pd.DataFrame(rows)


def two_runs(*more: dict) -> pd.DataFrame:
    rows = [{"method": "lora", "rank": 4, "average": 50.0}, {"method": "dora", "rank": 4, "average": 60.0}, *more]
    return cells_of(rows)


def test_two_runs_are_tested_by_their_questions_and_stay_two_runs() -> None:
    lora, dora = [1] * 40 + [0] * 60, [0] * 2 + [1] * 58 + [0] * 40
    (row,) = frames.differences(two_runs(), asked({"c0": lora, "c1": dora})).itertuples()
    assert row.mcnemar_p == row.mcnemar_p_adjusted == pytest.approx(stats.binomtest(20, 22).pvalue)
    assert row.verdict == "these two runs" and row.low is None and row.p is None
    # The bootstrap's own s.d. of the difference is 4.3 points; an end strays by a tenth of that.
    theirs = stats.bootstrap((pd.Series(dora) - pd.Series(lora),), lambda x, axis: x.mean(axis), method="percentile")
    ends = theirs.confidence_interval
    assert (row.question_low, row.question_high) == pytest.approx((100 * ends.low, 100 * ends.high), abs=1.2)
    assert sentence(row) == (
        "At rank 4, 100 samples, dora scored 10.0 points above lora (McNemar's exact p < 0.001); with one seed this "
        "speaks of these two runs, not of the methods."
    )


def test_mcnemar_has_a_family_of_its_own() -> None:
    cells = two_runs({"method": "vera", "rank": 4, "average": 50.0})
    answers = {"c0": [1] * 40 + [0] * 60, "c1": [0] * 2 + [1] * 58 + [0] * 40, "c2": [1] * 44 + [0] * 56}
    found = frames.differences(cells, asked(answers))
    alone = list(found["mcnemar_p"])
    assert list(found["mcnemar_p_adjusted"]) == statistics.holm(alone) != alone
    assert found["p_adjusted"].isna().all()


def test_tasks_weigh_alike_and_clusters_are_drawn_whole() -> None:
    """The mean of two tasks of unequal size; a task of two clusters has only three outcomes."""
    cells = two_runs()
    large = asked({"c0": [0] * 300, "c1": [1] * 300}, "large")
    small = asked({"c0": [0] * 10, "c1": [1] * 5 + [0] * 5}, "small", ["a"] * 5 + ["b"] * 5)
    (row,) = frames.differences(cells, pd.concat([large, small])).itertuples()
    assert (row.question_low, row.question_high) == (50.0, 100.0)
    alone = asked({"c0": [0] * 10, "c1": [1] * 5 + [0] * 5}, "small")
    (row,) = frames.differences(cells, pd.concat([large, alone])).itertuples()
    assert 55 < row.question_low < row.question_high < 95
    # Rows of an older cell name no cluster; the other's do.
    older = pd.concat([large, small[small["folder"] == "c0"], alone[alone["folder"] == "c1"]])
    (row,) = frames.differences(cells, older).itertuples()
    assert (row.question_low, row.question_high) == (50.0, 100.0)


def test_the_questions_interval_is_of_the_mean_over_seeds() -> None:
    rows = [{"method": m, "rank": 4, "seed": s, "average": 50.0} for s in range(3) for m in ("lora", "dora")]
    random = np.random.default_rng(0)
    answers = {f"c{place}": list(random.random(200) < 0.6) for place in range(6)}
    (row,) = frames.differences(cells_of(rows), asked(answers)).itertuples()
    mean = sum(np.array(answers[f"c{s + 1}"], float) - np.array(answers[f"c{s}"], float) for s in (0, 2, 4)) / 3
    deviation = 100 * mean.std() / math.sqrt(200)
    assert row.question_high - row.question_low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert (row.seeds, row.mcnemar_p, row.verdict) == (3, None, "tie")


def test_cells_with_other_questions_are_not_compared() -> None:
    cells = two_runs({"method": "vera", "rank": 4, "average": 50.0})
    answers = asked({"c0": [1, 0, 1], "c1": [1, 1, 1], "c2": [0, 0, 1, 1]})
    found = frames.differences(cells, answers)
    assert list(found["series"]) == ["dora"]
    assert frames._other_questions(answers) == [
        "c2: of t (loglikelihood-v1) it answered other questions (4) than most cells (3); it is not compared with them"
    ]
    # What is not known to differ is compared, without what its questions would say.
    found = frames.differences(cells, answers[answers["folder"] != "c2"]).set_index("series")
    assert found.loc["vera", "difference"] == 0 and pd.isna(found.loc["vera", "question_low"])
    assert pd.notna(found.loc["dora", "question_low"])


def test_verdicts_are_adjusted_for_the_rows_of_the_table() -> None:
    leads = {"dora": (2.0, 3.5, 2.6), "vera": (-4.0, 0.0, 5.0), "single": (9.0,)}
    rows = [{"method": "lora", "rank": 4, "seed": s, "average": 50.0} for s in range(3)]
    rows += [
        {"method": name, "rank": 4, "seed": s, "average": 50 + lead}
        for name, mine in leads.items()
        for s, lead in enumerate(mine)
    ]
    found = frames.differences(cells_of(rows)).set_index("series")
    dora = found.loc["dora"]
    assert dora["p"] < 0.05 < dora["p_adjusted"] == pytest.approx(2 * dora["p"])
    assert dora["low"] > 0 and dora["verdict"] == "unresolved"
    spread = statistics.spread(leads["dora"])
    assert dora["detectable"] == pytest.approx(statistics.detectable(spread, 3))
    assert dora["seeds_needed"] == statistics.seeds_needed(2.7, spread, 2) > 3
    assert found.loc["single", "verdict"] == "these two runs"
    assert found.loc["single", ["p", "p_adjusted", "detectable", "seeds_needed"]].isna().all()
    text = " ".join(said(rows))
    assert "dora against lora is unresolved: +2.7 [0.8, 4.6] over 3 seeds, adjusted p 0.0" in text
    assert f"If difference and spread stayed so, {dora['seeds_needed']:.0f} seeds would tell." in text
    (table,) = differences_table(found.reset_index(), "", 1.0)
    assert table.heads[5:] == [
        "difference", "95 % over seeds (unadjusted)", "adjusted p", "detectable", "seeds to tell", "verdict",
    ]  # fmt: skip
    assert "adjusted for the number of comparisons (Holm)" in table.note


def test_the_noise_floor_is_said() -> None:
    rows = [{"method": "lora", "rank": rank, "seed": s, "average": 50.0 + s} for rank in (4, 8) for s in range(2)]
    limit = stats.t.ppf(0.975, 2) * math.sqrt(2 * 0.5)
    assert f"lie up to {limit:.1f} points apart, 95 % of the time (s.d. over seeds 0.71, 2 degrees" in said(rows)[0]
    assert "nothing here says how far a seed alone moves a score" in said(rows[:1])[0]


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
    assert len(sentences) == 5
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
    assert "adjusted for their number (Holm)" in sentences[0]
    assert sentences[1].startswith("The unresolved would take ") and "seeds each" in sentences[1]
    assert "Of 3 comparisons" in sentences[2] and "not of the methods" in sentences[2]
    assert "Each stands in the table" in sentences[3]
    assert "The noise floor" in sentences[4]
    assert len(sentences) == 5


def test_methods_without_an_equal_are_named() -> None:
    full, tuning = ({"method": name, "rank": None, "average": 50.0} for name in ("full", "ln_tuning"))
    lora = [{"method": "lora", "rank": rank, "average": 50.0} for rank in (4, 8)]
    assert said([full, tuning])[0] == "Not compared pairwise (none has a rank): full, ln_tuning."
    assert said([*lora, full, {"method": "vera", "rank": 9, "average": 1.0}])[0] == (
        "Not compared pairwise (without a rank, or without a done lora run at equal rank, samples, seed, settings and "
        "questions): full, vera r9."
    )
    assert not any("Not compared" in sentence for sentence in said(lora))


def test_merging_and_memory_are_shown(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    costs = {"trainable": 5, "total": 10, "base_bytes": 269_030_272, "optimizer_bytes": 46_200}
    apart = {"float32": 7.5e-05, "bfloat16": 1.625}
    reason = "it is <b>no</b> weight | at\nall"
    for path in copy.glob("cells/*"):
        change_metrics(copy, path.name.rpartition("-")[0], {"merge_flips": None})
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


def change_evaluations(folder: Path, cell: str, change: Callable[[dict], dict]) -> None:
    path = next(folder.glob(f"cells/{cell}-*/metrics.json"))
    found = json.loads(path.read_text())["evaluations"]
    change_metrics(folder, cell, {"evaluations": {id: change(one) for id, one in found.items()}})


def test_flips_and_warnings_are_shown(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    for path in copy.glob("cells/*"):
        change_metrics(copy, path.name.rpartition("-")[0], {"merge_flips": None, "warnings": None})
    apart = {"merge_max_abs_diff": {"float32": 1e-5, "bfloat16": 1.5}, "merge_reason": None}
    flips = {"n": 500, "flips": 7, "flips_above_margin": 0, "margin": 0.5}
    change_metrics(copy, "lora-r2", apart | {"merge_flips": flips, "warnings": ["the loss <rose>"]})
    change_metrics(copy, "dora-r2", apart | {"merge_flips": flips | {"flips_above_margin": 3}})
    for cell in ("lora-r4", "dora-r4", "dora-r2", "full"):
        change_metrics(copy, cell, {"warnings": ["12 examples were cut", "another"]})
    page = write_report(Results(copy)).read_text()
    assert "<h3>Warnings</h3>" in page and "the loss &lt;rose&gt;" in page
    text = (copy / "report" / "report.md").read_text()
    assert "| answers that flip | beyond the margin |" in text and "(margin 0.5 nats)" in text
    assert "| lora-r2-n32-s0 | 1.0e-05 | 1.50 | bfloat16 | 7 of 500 | 0 of 500 | - |" in text
    assert "| dora-r2-n32-s0 | 1.0e-05 | 1.50 | bfloat16 | 7 of 500 | 3 of 500 | - |" in text
    assert "- dora-r2-n32-s0: merged, it answers 3 of 500 probed questions otherwise than unmerged" in text
    assert "- lora-r2-n32-s0: merged" not in text
    listed = text.split("Warnings:\n\n")[1].split("\n\n")[0]
    assert "- lora-r2-n32-s0: the loss &lt;rose>" in listed
    assert "- lora-r4-n32-s0, dora-r2-n32-s0, dora-r4-n32-s0 and 1 more: 12 examples were cut" in listed


def test_parse_rates_stand_beside_the_accuracy(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    write_report(Results(copy))
    assert "Parse rates" not in (copy / "report" / "report.md").read_text()
    change_evaluations(copy, "lora-r2", lambda one: {**one, "parse_rate": 0.5, "acc_parsed": 1.0})
    write_report(Results(copy))
    text = (copy / "report" / "report.md").read_text()
    assert "| cell | task | protocol | accuracy | parse rate | accuracy among parsed |" in text
    assert (
        len(re.findall(r"\| lora-r2-n32-s0 \| world_\w+ \| loglikelihood-v1 \| [\d.]+ \| 50.0 \| 100.0 \|", text)) == 4
    )


def test_scores_have_wilson_intervals_and_questions(finished: tuple[Path, Path]) -> None:
    read = frames.read(Results(finished[1]))
    for row in read.scores.itertuples():
        theirs = stats.binomtest(round(row.score * row.n / 100), row.n).proportion_ci(method="wilson")
        assert (row.low, row.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))
    text = (finished[1] / "report" / "report.md").read_text()
    assert "## Intervals by task" in text and read.warnings == ()
    low, high = read.scores.iloc[0][["low", "high"]]
    assert f"| base | [{low:.1f}, {high:.1f}] |" in text


def test_two_protocols_share_no_average_and_no_column(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    before = frames.read(Results(copy))
    plan = json.loads((copy / "plan.json").read_text())
    for cell in plan["cells"]:
        path = copy / "cells" / cell["folder"] / "metrics.json"
        metrics = json.loads(path.read_text())
        more = {f"{id[:-1]}x": {**one, "protocol": "other"} for id, one in metrics["evaluations"].items()}
        more = dict(list(more.items())[:2])
        # Of a protocol that the plan does not name: recorded beside the sweep's own, by another plan.
        metrics["evaluations"] |= more | {"beside": {**next(iter(more.values())), "protocol": "third"}}
        path.write_text(json.dumps(metrics))
        cell["evaluations"] += list(more)
    (copy / "plan.json").write_text(json.dumps(plan))
    read = frames.read(Results(copy))
    assert list(read.cells["average"]) == list(before.cells["average"])
    assert set(read.scores["protocol"]) == {"loglikelihood-v1", "other-v1"}
    assert len(read.questions) == len(before.questions)
    write_report(Results(copy))
    text = (copy / "report" / "report.md").read_text()
    assert "Points of average accuracy (loglikelihood-v1), paired by seed" in text
    assert "## Accuracy by task, loglikelihood-v1" in text and "## Accuracy by task, other-v1" in text


def test_rows_that_cannot_be_read_leave_the_comparison_over_seeds(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    next(copy.glob("cells/dora-r2-*/items/world_two@*")).unlink()
    read = frames.read(Results(copy))
    assert "is missing; its score is the recorded one" in read.problems[0]
    found = frames.differences(read.cells, read.questions).set_index("rank")
    assert pd.isna(found.loc[2, "question_low"]) and pd.notna(found.loc[4, "question_low"])
    assert found["difference"].notna().all()


RESULTS = Path(__file__).parents[1] / "results"


def test_questions_are_right_by_the_task_s_own_metric() -> None:
    read = frames.read(Results(RESULTS / "rank_real_small"))
    assert set(read.scores["metric"]) == {"acc", "acc_norm"}
    again = 100 * read.questions.astype({"correct": float}).groupby(["folder", "task"])["correct"].mean()
    assert again.to_dict() == pytest.approx(read.scores.set_index(["folder", "task"])["score"].to_dict())


def test_what_is_read_by_columns_is_what_the_tables_say() -> None:
    """Scores, questions and answers, against the plain way: a table of pandas a file, put one below the other."""
    results = Results(RESULTS / "rank_real_small")
    read = frames.read(results)
    metric = read.scores.set_index(["folder", "task"])["metric"]
    tables, shares = [], {}
    for folder, task in metric.index:
        (path,) = (results.path / "cells" / folder / "items").glob(f"{task}@*")
        items = pd.read_parquet(path)
        predicted = items["prediction_norm" if metric[folder, task] == "acc_norm" else "prediction"]
        labels = {"folder": folder, "protocol": "loglikelihood-v1", "task": task}
        tables.append(items[["question_id", "cluster"]].assign(**labels, correct=predicted == items["gold"]))
        shares[folder, task] = {
            "acc": 100 * items["acc"].mean(),
            "acc_norm": 100 * (items["prediction_norm"] == items["gold"]).mean(),
            "majority": 100 * items["gold"].value_counts(normalize=True).max(),
            "chance": 100 * (1 / items["loglikelihoods"].map(len)).mean(),
        }
    table = pd.concat(tables, ignore_index=True)[list(frames.QUESTIONS)]
    pd.testing.assert_frame_equal(read.questions.astype(table.dtypes), table)
    expected = pd.DataFrame.from_dict(shares, orient="index")
    found = read.scores.set_index(["folder", "task"])[list(expected)].astype(float)
    pd.testing.assert_frame_equal(found, expected, check_names=False)


@pytest.mark.parametrize("categories", [False, True])
def test_each_cell_is_resampled_as_it_would_be_alone(categories: bool) -> None:
    random = np.random.default_rng(1)
    answers = {f"c{place}": list(random.integers(0, 2, 60)) for place in range(3)}
    small = asked({"c2": [0, 1], "c0": [1, 1], "c1": [1, 0]}, "a", ["x", "x"])
    other = asked({"c3": [1] * 50})
    rows = pd.concat([asked(answers, "z"), small, other]).sample(frac=1, random_state=0)
    if categories:
        rows = rows.astype(dict.fromkeys(frames.QUESTIONS[:-1], "category"))
    found = frames._answered(rows)
    assert found["c0"].asked == found["c1"].asked == found["c2"].asked != found["c3"].asked
    for folder, one in found.items():
        mine = rows[rows["folder"] == folder].astype({"task": str, "question_id": str, "cluster": object})
        mine = mine.sort_values(["task", "question_id"])
        assert list(one.correct) == list(mine["correct"])
        alone = {
            task: statistics.Answers(
                part[["correct"]].to_numpy(dtype=float).T, part["cluster"].fillna(part["question_id"]).to_numpy(str)
            )
            for task, part in mine.groupby("task")
        }
        np.testing.assert_allclose(one.averages, statistics.resampled_averages(alone)[:, 0])


COMMITTED = sorted(RESULTS.glob("*/report/report.md"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parents[1].name)
def test_committed_reports_are_what_their_cells_give(path: Path, tmp_path: Path) -> None:
    """The text: figures and the last digits of the tables are of one version of their libraries."""
    copy = tmp_path / path.parents[1].name
    shutil.copytree(path.parents[1], copy, ignore=shutil.ignore_patterns("adapter", "report"))
    write_report(Results(copy))
    assert (copy / "report" / "report.md").read_text() == path.read_text()


def test_a_merge_that_gave_no_number_is_not_taken_for_missing() -> None:
    found = frames._merging({"merge_max_abs_diff": {"float32": 0.0, "float16": float("nan")}})
    assert (found["merge_half"], found["merge_half_dtype"]) == (float("inf"), "float16")


def test_older_records_lack_columns_and_the_merging_table(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    known = ("trainable", "total", "training_seconds", "tokens_per_second", "final_loss", "adapter_bytes")
    for path in copy.glob("cells/*/metrics.json"):
        metrics = json.loads(path.read_text())
        costs = {key: value for key, value in metrics["costs"].items() if key in known}
        kept = {key: value for key, value in metrics.items() if not key.startswith("merge_")}
        path.write_text(json.dumps({**kept, "costs": costs}))
    write_report(Results(copy))
    text = (copy / "report" / "report.md").read_text()
    assert "## Merging" not in text
    heads = "| cell | trainable | % of all | training s | tokens/s | scoring s | adapter MB | last loss |"
    assert heads in text and re.search(r"\n\| lora-r2-n32-s0 \| [\d,]+ \| [\d.]+ \| \d", text)


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


def test_the_baseline_and_the_margin_of_a_tie_are_the_sweeps(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """Chosen afterwards: nothing is trained again, and the comparisons turn round."""
    config, results = finished
    folder = tmp_path / "tiny"
    shutil.copytree(results, folder)
    before = {path: path.read_bytes() for path in folder.glob("cells/*/metrics.json")}
    done = bench(
        "run", config, "--results", tmp_path, "--set", "report.baseline=dora", "--set", "report.tie_margin=2.5"
    )
    assert done.exit_code == 0, done.output
    assert before == {path: path.read_bytes() for path in before}
    table = pd.read_csv(folder / "report" / "tables" / "differences.csv")
    assert set(table["baseline"]) == {"dora"} and set(table["series"]) == {"lora"}
    assert json.loads((folder / "plan.json").read_text())["report"] == {"baseline": "dora", "tie_margin": 2.5}
    done = bench("plan", config, "--set", "report.baseline=vera")
    assert done.exit_code == 2 and "report.baseline 'vera' is none of the methods: lora, dora, full" in done.output


def test_a_wider_margin_makes_a_tie() -> None:
    differences = [[2.0, 1.4, 1.6], [0.2, 0.1, 0.3]]
    assert [one.verdict for one in judge(differences, 1.0)] == ["better", "tie"]
    assert [one.verdict for one in judge(differences, 2.5)] == ["tie", "tie"]
