"""The report: one file without outside requests, the same twice, honest about what is missing."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.paths import RESULTS, loose_copy
from helpers.processes import hear_hangup
from helpers.sweeps import bench
from helpers.tables import change_evaluations, change_metrics, copied

from bench.analysis.result_tables import read_results
from bench.report import watch, write_report
from bench.store.folder import Results
from bench.sweep.schema import Sweep

REQUESTING = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "background"}


class Requests(HTMLParser):
    """Collects every attribute that could make a browser fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"iframe", "object", "embed", "link", "img"}
        for name, value in attrs:
            # A place in the page, or data that the page itself holds.
            if name in REQUESTING and not (value or "").startswith(("#", "data:text/csv;base64,")):
                self.found.append(f"{tag} {name}={value}")
            if name == "style" and "url(" in (value or "") and "url(#" not in value:
                self.found.append(value)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.slow
def test_a_page_of_a_hundred_cells_is_below_three_megabytes(tmp_path: Path) -> None:
    """Every named method, each under the seeds that it takes."""
    folder = tmp_path / "hundred"
    loose_copy("all_methods", folder)
    plan = json.loads((folder / "plan.json").read_text())
    trained = [entry for entry in plan["cells"] if entry["method"] != "base"]
    for seed in range(1, 4):
        for entry in trained[: 100 - len(plan["cells"])]:
            own = {**entry, "seed": seed, "folder": f"{entry['folder']}-{seed}"}
            shutil.copytree(folder / "cells" / entry["folder"], folder / "cells" / own["folder"])
            plan["cells"].append(own)
    (folder / "plan.json").write_text(json.dumps(plan))
    page = write_report(Results(folder))
    assert "100 cells planned, 100 done." in page.read_text()
    assert page.stat().st_size < 3e6


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
    assert "his speaks of these runs, not of the methods" in text
    assert "6 cells planned, 6 done." in text
    assert "default-src 'none'" in page


def test_the_page_holds_the_tables_to_download(finished: tuple[Path, Path]) -> None:
    page = (finished[1] / "report" / "report.html").read_text()
    held = dict(re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', page))
    files = {path.name: path.read_bytes() for path in (finished[1] / "report" / "tables").glob("*.csv")}
    assert {name: base64.b64decode(data) for name, data in held.items()} == files
    assert set(files) == {"cells.csv", "scores.csv", "differences.csv", "settings.csv"}


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


def test_two_figures_of_a_page_share_no_id(finished: tuple[Path, Path]) -> None:
    page = (finished[1] / "report" / "report.html").read_text()
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', page)) <= set(ids)


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
    assert "the loss &lt;rose&gt;" in page
    text = (copy / "report" / "report.md").read_text()
    assert "| answers that flip | beyond the margin |" in text and "(margin 0.5 nats)" in text
    assert "| lora-r2-n32-s0 | 1.0e-05 | 1.50 | bfloat16 | 7 of 500 | 0 of 500 | - |" in text
    assert "| dora-r2-n32-s0 | 1.0e-05 | 1.50 | bfloat16 | 7 of 500 | 3 of 500 | - |" in text
    assert "- dora-r2-n32-s0: merged, it answers 3 of 500 probed questions otherwise than unmerged" in text
    assert "- lora-r2-n32-s0: merged" not in text
    listed = text.split("## Coverage")[1].split("## ")[0]
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


def test_two_protocols_share_no_average_and_no_column(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    before = read_results(Results(copy))
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
    read = read_results(Results(copy))
    assert list(read.cells["average"]) == list(before.cells["average"])
    assert set(read.scores["protocol"]) == {"loglikelihood-v1", "other-v1"}
    assert len(read.questions) == len(before.questions)
    write_report(Results(copy))
    text = (copy / "report" / "report.md").read_text()
    assert "Points of average accuracy (loglikelihood-v1), paired by seed" in text
    assert "### Accuracy by task, loglikelihood-v1" in text and "### Accuracy by task, other-v1" in text


COMMITTED = sorted(RESULTS.glob("*/report/report.md"))
assert COMMITTED


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parents[1].name)
def test_committed_reports_are_what_their_cells_give(path: Path, tmp_path: Path) -> None:
    """The text: figures and the last digits of the tables are of one version of their libraries."""
    copy = tmp_path / path.parents[1].name
    shutil.copytree(path.parents[1], copy, ignore=shutil.ignore_patterns("adapter", "report"))
    write_report(Results(copy))
    assert (copy / "report" / "report.md").read_text() == path.read_text()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parents[1].name)
def test_committed_sweeps_are_as_this_version_writes_them(path: Path) -> None:
    """Or the command beside a figure would change files of a clean clone, with nothing to run."""
    recorded = yaml.safe_load((path.parents[1] / "sweep.yaml").read_text())
    assert Sweep.model_validate(recorded).model_dump(mode="json") == recorded


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
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    text = (copy / "report" / "report.md").read_text()
    assert "- `full-n32-s0`: failed (&lt;script>alert(1)&lt;/script> | x)" in text
    assert "6 cells planned, 5 done, 1 failed." in text


def test_a_figure_that_is_no_longer_drawn_is_taken_away(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    for cell in ("full", "lora-r2", "dora-r2"):
        change_metrics(copy, cell, {"status": "oom"})
    write_report(Results(copy))
    left = {path.name for path in (copy / "report" / "figures").iterdir()}
    assert left >= {"accuracy_by_method.svg", "accuracy_by_method.png"}
    assert not left & {"rank_vs_accuracy.svg", "rank_vs_accuracy.png"}


def test_a_watched_report_is_written_when_a_record_changes(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(finished, tmp_path)
    pages: list[str] = []
    rounds = iter(range(4))

    def pause(seconds: float) -> None:
        """In place of waiting: nothing happens, a cell fails, nothing happens, Ctrl-C."""
        at = next(rounds)
        if at == 1:
            change_metrics(folder, "full", {"status": "failed", "reason": "it broke"})
        if at == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("bench.report.time.sleep", pause)
    with pytest.raises(KeyboardInterrupt):
        watch(Results(folder), lambda page: pages.append(page.read_text()))
    assert len(pages) == 2 and all('http-equiv="refresh"' in page for page in pages)
    assert ["it broke" in page for page in pages] == [False, True]
    assert not (folder / "report" / "live.html").exists()
    assert 'http-equiv="refresh"' not in (folder / "report" / "report.html").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_ctrl_c_does(finished: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    folder = copied(finished, tmp_path)
    watching = [sys.executable, "-m", "bench.cli", "report", str(folder), "--watch"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(watching, preexec_fn=hear_hangup, **pipes)
    assert process.stdout is not None
    assert "live.html" in process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\nstopped; finished work is kept, run the same command to resume\n"
    assert not (folder / "report" / "live.html").exists()


def test_a_watched_report_that_cannot_be_written_is_a_sentence(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """A file stands where the report's folder should be: even a user who may write everywhere cannot write there."""
    folder = copied(finished, tmp_path)
    shutil.rmtree(folder / "report")
    (folder / "report").write_text("")
    for more in (("--watch",), ()):
        done = bench("report", folder, *more)
        assert done.exit_code == 2 and "error: cannot " in done.output and "Traceback" not in done.output, done.output
        assert isinstance(done.exception, SystemExit)


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
    assert json.loads((folder / "plan.json").read_text())["report"] == {
        "baseline": "dora",
        "tie_margin": 2.5,
    }
    done = bench("plan", config, "--set", "report.baseline=vera")
    assert done.exit_code == 2 and "report.baseline 'vera' is not one of the methods: lora, dora, full" in done.output
    done = bench("plan", config, "--set", "report.baseline=dora", "--set", "report.baseline_rank=7")
    assert done.exit_code == 2 and "report.baseline_rank 7: this sweep trains dora at rank 2, 4" in done.output
    done = bench("plan", config, "--set", "report.baseline_rank=2")
    assert done.exit_code == 2 and "is a rank of report.baseline, which names no method" in done.output
