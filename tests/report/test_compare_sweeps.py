"""Two sweeps side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.paths import RESULTS, loose_copy
from helpers.sweeps import bench
from helpers.tables import asked, cells_of, change_metrics

from bench.analysis import comparison
from bench.analysis.rescoring import QUESTIONS
from bench.analysis.result_tables import ResultTables
from bench.errors import UserError
from bench.report import compare_sweeps
from bench.store.folder import CellFolder, Results


def two(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Results, Results]:
    """Two copies of one sweep, to change the second of."""
    return tuple(Results(Path(shutil.copytree(finished[1], tmp_path / name / "tiny"))) for name in ("before", "after"))


def two_of_alpaca(tmp_path: Path) -> tuple[Results, Results]:
    """The same of the committed sweep whose answers were judged."""
    return tuple(Results(loose_copy("alpaca_samples_smollm2", tmp_path / name)) for name in ("before", "after"))


def test_the_same_cells_have_not_changed(finished: tuple[Path, Path], tmp_path: Path) -> None:
    made = compare_sweeps.comparison_report(*two(finished, tmp_path))
    assert made.name == "after/tiny against before/tiny"
    assert made.sections[0].sentences == [
        "Nothing changed beyond noise.",
        "5 settings were done in both: 0 changed beyond noise; 5 of one seed that McNemar's test does not tell apart; "
        "5 with exactly the same average. The largest difference is +0.00 points.",
    ]
    assert not made.sections[0].notes and "settings" not in {section.id for section in made.sections}


def test_answers_that_changed_are_said(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """All of one cell's answers are now right."""
    first, second = two(finished, tmp_path)
    for path in next(second.path.glob("cells/lora-r4-*")).glob("items/*"):
        items = pd.read_parquet(path)
        right = items.assign(prediction=items["gold"], prediction_norm=items["gold"], acc=1.0)
        right["loglikelihoods"] = [
            [0.0 if place == gold else -50.0 for place in range(len(own))]
            for own, gold in zip(items["loglikelihoods"], items["gold"], strict=True)
        ]
        CellFolder(path.parents[1]).write_items(path.name, right)
    change_metrics(second.path, "full", {"status": "oom"})
    config = second.path / "sweep.yaml"
    config.write_text(config.read_text().replace("tie_margin: 1.0", "tie_margin: 1.5"))
    made = compare_sweeps.comparison_report(first, second)
    finding = made.sections[0]
    assert "Beside lora in before/tiny, lora in after/tiny scored +" in finding.sentences[0]
    assert "4 settings were done in both: 1 changed beyond noise" in finding.sentences[-1]
    assert finding.notes[0] == "Done in before/tiny alone: full."
    # What was changed by hand contradicts the record.
    assert all(note.startswith("after/tiny: lora-r4") and "its rows give 1.0000" in note for note in finding.notes[1:])
    (table,) = next(section for section in made.sections if section.id == "settings").tables
    assert ["report.tie_margin", "1.0", "1.5"] in table.rows


def test_the_command_writes_a_page_of_its_own(finished: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two(finished, tmp_path)
    report = (second.report / "report.md").read_bytes()
    done = bench("report", first.path, second.path, "--compare")
    assert done.exit_code == 0, done.output
    page = second.report / "against_before_tiny" / "report.html"
    assert done.output.strip() == f"report: {page}" and "Nothing changed beyond noise." in page.read_text()
    assert (second.report / "report.md").read_bytes() == report
    done = bench("report", first.path, "--compare")
    assert done.exit_code == 2 and "1 folders and --compare" in done.output
    done = bench("report", first.path, second.path)
    assert done.exit_code == 2 and "Give one folder, or two with --compare" in done.output


def frames_of(rows: list[dict]) -> ResultTables:
    cells = cells_of(rows)
    return ResultTables(cells, pd.DataFrame(), (), 0, pd.DataFrame(columns=QUESTIONS), ())


def asked_alike(*averages: float, seeds: int = 1, **settings: Any) -> ResultTables:
    """Cells of one question each, every one of them asked the same."""
    rows = [
        {"method": "lora", "rank": 8, "seed": seed, "average": average + seed, **settings}
        for average in averages
        for seed in range(seeds)
    ]
    made = frames_of(rows)
    questions = pd.concat([asked({folder: [1, 0]}) for folder in made.cells["folder"]])
    return ResultTables(made.cells, made.scores, (), 0, questions, ())


def test_settings_are_paired_by_what_they_are_and_not_by_their_names() -> None:
    one, two = asked_alike(50.0), asked_alike(53.0, samples=200)
    assert comparison.between(one, two).empty
    (row,) = comparison.between(one, asked_alike(53.0)).itertuples()
    assert (row.difference, row.seeds, row.verdict) == (3.0, 1, "these two runs")
    assert compare_sweeps._only_in_one(one, two, ("a", "b")) == [
        "Done in a alone: lora r8 n=100.",
        "Done in b alone: lora r8 n=200.",
    ]


def test_a_sweep_without_any_rank_is_compared_with_one_that_has_some() -> None:
    full = asked_alike(50.0, method="full", rank=None)
    mixed = frames_of(
        [{"method": "full", "rank": None, "average": 51.0}, {"method": "lora", "rank": 8, "average": 1.0}]
    )
    mixed = ResultTables(mixed.cells, mixed.scores, (), 0, asked({"c0": [1, 0], "c1": [1, 0]}), ())
    (row,) = comparison.between(full, mixed).itertuples()
    assert row.series == "full" and row.difference == 1.0


def test_cells_whose_answers_are_not_known_are_not_paired() -> None:
    """They may have been asked something else."""
    assert comparison.between(asked_alike(50.0), frames_of([{"method": "lora", "rank": 8, "average": 60.0}])).empty


def test_what_no_test_judged_is_not_called_unchanged() -> None:
    one, two = asked_alike(30.0, seeds=2), asked_alike(60.0, seeds=2)
    said = compare_sweeps._sentences(comparison.between(one, two), 1.0, 1)
    assert said == [
        "1 settings were done in both: 0 changed beyond noise; 1 of fewer than three seeds, which no test here judges. "
        "The largest difference is +30.00 points."
    ]


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [Results(tmp_path / one / "results" / "tiny") for one in ("old", "new")]
    assert compare_sweeps._names(*folders) == ("old/results/tiny", "new/results/tiny")
    with pytest.raises(UserError, match="one folder"):
        compare_sweeps._names(folders[0], folders[0])


@pytest.mark.slow
def test_what_one_judge_says_of_both_is_compared(tmp_path: Path) -> None:
    """The second sweep's answers of one cell are each rated ten points higher; accuracies there are none."""
    first, second = two_of_alpaca(tmp_path)
    for results, more in ((first, 0), (second, 10)):  # within the scale, which ends at 100
        (path,) = results.path.glob("cells/lora-r8-n100-*/judgments/*.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "score": 0.8 * row["score"] + more}) + "\n" for row in rows))
    made = compare_sweeps.comparison_report(first, second)
    for name in ("held_out", "mt_bench"):
        (said,) = (one for one in made.sections[0].sentences if one.startswith(f"{name}, judged by reference: "))
        assert "The largest difference is +10.00 points" in said and "no test here judges" in said
    tables = {one.title: one for one in next(one for one in made.sections if one.id == "differences").tables}
    assert list(tables) == [f"Paired differences: {name}, judged by reference" for name in ("held_out", "mt_bench")]
    for one in tables.values():
        at = one.heads.index("difference")
        assert [row[at] for row in one.rows].count("+10.00") == 1 and {row[at] for row in one.rows} == {
            "+0.00",
            "+10.00",
        }
    assert set(made.tables["differences"]["score"]) == {
        "held_out, judged by reference",
        "mt_bench, judged by reference",
    }


def test_a_judgment_that_one_of_them_lacks_counts_for_neither(tmp_path: Path) -> None:
    first, second = two_of_alpaca(tmp_path)
    (path,) = second.path.glob("cells/lora-r8-n100-*/judgments/*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    said = compare_sweeps.comparison_report(first, second).sections[0].sentences
    assert any("held_out" in one and "settings were done in both" in one and "+0.00 points" in one for one in said)
    assert "held_out, judged by reference: 1 judgments that one of them lacks count for neither." in said


def test_many_changes_are_counted() -> None:
    rows = comparison.between(asked_alike(30.0), asked_alike(60.0))
    many = pd.concat(
        [rows.assign(verdict="better", difference=10.0 + at, rank=at) for at in range(5)]
        + [rows.assign(verdict="tie")] * 2
    )
    said = compare_sweeps._sentences(many.reset_index(drop=True), 1.0, 1)
    assert said[0].startswith("5 settings changed beyond noise: 5 up, 0 down, the most: lora +14.0, lora +13.0")
    assert "7 settings were done in both: 5 changed beyond noise; 2 tied" in said[1]


def test_two_sweeps_with_nothing_in_common_say_so(finished: tuple[Path, Path]) -> None:
    made = compare_sweeps.comparison_report(Results(finished[1]), Results(RESULTS / "alpaca_samples_smollm2"))
    assert made.sections[0].sentences[0].startswith("Nothing was scored in both")


def test_a_task_that_was_added_later_is_left_out(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """`bench evaluate` gives the second sweep one more task; the others are compared as before."""
    first, second = two(finished, tmp_path)
    done = bench("evaluate", second.path, "--tasks", "world_three", "--workers", 0)
    assert done.exit_code == 0, done.output
    alike = compare_sweeps.comparison_report(*two(finished, tmp_path / "alike"))
    made = compare_sweeps.comparison_report(first, second)
    assert made.sections[0].sentences == alike.sections[0].sentences
    assert made.sections[0].notes == [
        "Accuracies are averages over world_blank, world_ending, world_two. world_three: not scored in both on the "
        "same questions, or near chance in one of them, so left out."
    ]
    pd.testing.assert_frame_equal(
        made.tables["differences"].drop(columns=["series", "baseline"]),
        alike.tables["differences"].drop(columns=["series", "baseline"]),
    )
