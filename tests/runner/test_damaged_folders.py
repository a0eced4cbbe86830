"""Each file of a small finished folder, damaged in each way, loose and packed: damage costs what is damaged.

The report must be written, without a traceback or a wrong number, and name the file; `bench run` must repair what can
be repaired.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers.sweeps import bench, make_tiny_model, outcome, sweep_file

from bench.analysis.result_tables import read_results
from bench.report import write_report
from bench.store.folder import CellFolder, Results
from bench.store.pack import pack
from bench.store.records import Status

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "pointer": lambda content: POINTER,
    "object": lambda content: b"{}\n",
    "list": lambda content: b"[[1], null]\n",
    "binary": lambda content: b"\xff\xfe\x00PAR1\x00\xff\n",
}
OF_A_CELL = (
    *("cell.json", "metrics.json", "environment.json", "training.jsonl"),
    *("items/world_two*", "answers/*.jsonl", "judgments/*.jsonl"),
)
OF_THE_SWEEP = ("plan.json", "sweep.yaml", "judges/*/judge.json", "judges/*/check.json", "judges/*/check.jsonl")
OF_THE_PACK = ("packed/records.jsonl.gz", "packed/items.parquet")
REPAIRED = ("cell.json", "items/world_two*", "answers/*.jsonl", "judgments/*.jsonl", *OF_THE_SWEEP)
"""What `bench run` makes again. What a cell was run with, and how its training went, is known to nobody by then."""
SHOWN_TOGETHER = (
    *("cell.json", "environment.json", "training.jsonl", "items/world_two*", "answers/*.jsonl"),
    *("sweep.yaml", "judges/*/judge.json"),
)
"""None of these hides the damage of another one."""


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sweep file, results folder) of a sweep of two cells with scores, open answers, a judge and its check."""
    folder = tmp_path_factory.mktemp("answered")
    path = sweep_file(folder, make_tiny_model(folder / "model"))
    text = path.read_text().replace(
        "  - {method: lora, rank: [2, 4], lr: 1e-2}", "  - {method: lora, rank: 2, lr: 1e-2}"
    )
    text = "\n".join(line for line in text.splitlines() if "dora" not in line and "method: full" not in line)
    text = text.replace("world_two, world_blank, world_ending, world_true_false", "world_two, world_blank")
    path.write_text(
        f"{text}\ndata: {{train: [world, world_talk]}}\n"
        "answers: {questions: [world_talk], limit: 4, max_new_tokens: 16}\n"
    )
    done = bench("run", path, "--results", folder, "--workers", "0")
    assert done.exit_code == 0, done.output
    return path, folder / "tiny"


def damaged_file(folder: Path, name: str) -> Path:
    """The file to damage: of the cell that was trained, or of the sweep."""
    pattern = name if name in (*OF_THE_SWEEP, *OF_THE_PACK) else f"cells/lora-*/{name}"
    return next(iter(sorted(folder.glob(pattern))))


def whole_scores(tables: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row.folder, row.task): row.score for row in tables.itertuples()}


def damage(folder: Path, way: str, *names: str) -> list[Path]:
    """Damage these files in the same way; returns their paths."""
    paths = [damaged_file(folder, name) for name in names]
    for path in paths:
        path.write_bytes(WAYS[way](path.read_bytes()))
    return paths


def check_report(answered: tuple[Path, Path], into: Path, way: str, *names: str) -> None:
    """Damage these files: the report names each of them, and has all scores but those that only they held."""
    folder = Path(shutil.copytree(answered[1], into))
    right = whole_scores(read_results(Results(folder)).scores)
    paths = damage(folder, way, *names)
    report = write_report(Results(folder)).with_name("report.md").read_text()
    scores = whole_scores(read_results(Results(folder)).scores)
    assert scores.items() <= right.items() and len(scores) == len(right) - (2 if "metrics.json" in names else 0)
    for path in paths:
        # A log without complete lines, and a check without ratings, are no damage that could be told.
        silent = path.suffix == ".jsonl" and path.parent.name != "answers" and way in ("truncated", "empty")
        assert silent or path.name in report, (path, way, report[:3000])
    assert "Traceback" not in report


@pytest.mark.parametrize("way", WAYS)
def test_a_report_of_a_damaged_folder_has_the_rest_and_no_wrong_number(
    answered: tuple[Path, Path], tmp_path: Path, way: str
) -> None:
    check_report(answered, tmp_path / "tiny", way, *SHOWN_TOGETHER)


@pytest.mark.parametrize("name", ["metrics.json", "plan.json"])
def test_a_report_without_a_record_or_a_plan_has_the_rest(
    answered: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    check_report(answered, tmp_path / "tiny", "truncated", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_A_CELL, *OF_THE_SWEEP])
def test_a_report_names_each_file_that_is_damaged_in_any_way(
    answered: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    for way in WAYS:
        check_report(answered, tmp_path / way / "tiny", way, name)


def check_pack(answered: tuple[Path, Path], into: Path, name: str, way: str) -> None:
    """One cell is packed, the other is loose, and a file of the pack is damaged."""
    path, results = answered
    folder = Path(shutil.copytree(results, into / "tiny"))
    right = whole_scores(read_results(Results(folder)).scores)
    loose = damaged_file(results, "cell.json").parent.name
    aside = shutil.move(folder / "cells" / loose, into / "aside")
    pack(Results(folder))
    shutil.copytree(aside, folder / "cells" / loose)
    (file,) = damage(folder, way, name)
    report = write_report(Results(folder)).with_name("report.md").read_text()
    scores = whole_scores(read_results(Results(folder)).scores)
    assert scores.items() <= right.items() and {cell for cell, _ in scores} >= {loose}
    assert file.name in report
    done = bench("run", path, "--results", into, "--workers", "0")
    # A pack holds many cells: none of them is run again unless its file is taken away.
    assert (done.exit_code == 2 and f"{file.name} is corrupt" in done.output) or "0 to run" in done.output
    assert file.is_file()


@pytest.mark.parametrize(("name", "way"), [*zip(OF_THE_PACK, ("truncated", "pointer"), strict=True)])
def test_a_damaged_pack_is_named_and_loose_cells_stand(
    answered: tuple[Path, Path], tmp_path: Path, name: str, way: str
) -> None:
    check_pack(answered, tmp_path, name, way)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_THE_PACK)
def test_a_pack_that_is_damaged_in_any_way_is_named(answered: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    for way in WAYS:
        check_pack(answered, tmp_path / way, name, way)


def check_repair(answered: tuple[Path, Path], into: Path, way: str, *names: str, packed: bool = False) -> None:
    """Damage these files: `bench run` makes them again, and the next run finds nothing to do."""
    path, results = answered
    folder = Path(shutil.copytree(results, into / "tiny"))
    if packed:
        pack(Results(folder))
    damage(folder, way, *names)
    done = bench("run", path, "--results", into, "--workers", "0")
    assert done.exit_code == 0, done.output
    read, right = read_results(Results(folder)), read_results(Results(results))
    assert read.problems == () and whole_scores(read.scores) == whole_scores(right.scores)
    assert set(read.cells["status"]) == {"done"}
    assert "is corrupt" not in (folder / "report" / "report.md").read_text()
    again = bench("run", path, "--results", into, "--workers", "0")
    assert "2 recorded already, 0 to run" in again.output and "corrupt" not in again.output, again.output


def test_a_run_repairs_truncated_files(answered: tuple[Path, Path], tmp_path: Path) -> None:
    check_repair(answered, tmp_path, "truncated", "items/world_two*", "plan.json")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_repairs_what_can_be_repaired(answered: tuple[Path, Path], tmp_path: Path, way: str) -> None:
    check_repair(answered, tmp_path / "together", way, *REPAIRED)
    check_repair(answered, tmp_path / "record", way, "metrics.json")
    check_repair(answered, tmp_path / "packed", way, *OF_THE_SWEEP, packed=True)


def test_more_tasks_are_scored_in_a_folder_with_a_damaged_plan(answered: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(answered[1], tmp_path / "tiny"))
    damage(folder, "truncated", "plan.json")
    judged = bench("judge", folder, "--judge", "reference")
    said = " ".join(judged.output.split())
    assert judged.exit_code == 0 and "0 made" in said, said  # by the recorded cells
    assert "plan.json is corrupt" in said and "writes plan.json anew from its sweep.yaml" in said
    done = bench("evaluate", folder, "--tasks", "world_ending", "--workers", "0")
    assert done.exit_code == 0 and "plan.damaged.json and written anew" in done.output, done.output
    right = whole_scores(read_results(Results(answered[1])).scores)
    scores = whole_scores(read_results(Results(folder)).scores)
    assert scores.items() >= right.items() and len(scores) == len(right) + 2


@pytest.mark.parametrize("older", [False, True])
def test_rows_of_another_task_or_cell_are_noticed(answered: tuple[Path, Path], tmp_path: Path, older: bool) -> None:
    """Also in files of an older version, which do not say whose rows they hold, where they contradict the record."""
    folder = Path(shutil.copytree(answered[1], tmp_path / "tiny"))
    right = whole_scores(read_results(Results(folder)).scores)
    cell = CellFolder(damaged_file(folder, "cell.json").parent)
    two, blank = (next(cell.path.glob(f"items/{task}@*")) for task in ("world_two", "world_blank"))
    other = next(path for path in folder.glob("cells/base-*/items/world_two@*"))
    for source in (blank, other):
        if older:
            pd.read_parquet(source).assign(**altered(pd.read_parquet(source))).to_parquet(two, index=False)
        else:
            shutil.copy(source, two)
        read = read_results(Results(folder))
        assert whole_scores(read.scores) == right
        expected = "it does not say whose they are" if older else f"it holds the rows of {source.parents[1].name}/"
        assert any(expected in problem for problem in read.problems), read.problems


def altered(items: pd.DataFrame) -> dict[str, pd.Series]:
    """All questions answered wrongly, so that the rows contradict any record with a right answer."""
    right = (items["acc"] == 0).all()
    prediction = items["gold"] if right else (items["gold"] + 1) % 2
    return {"prediction": prediction, "prediction_norm": prediction, "acc": pd.Series(float(right), items.index)}


def test_damage_within_a_readable_items_file_is_noticed(answered: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(answered[1], tmp_path / "tiny"))
    right = whole_scores(read_results(Results(folder)).scores)
    path = damaged_file(folder, "items/world_two*")
    cell, items = CellFolder(path.parents[1]), pd.read_parquet(path)
    for changed, reason in (
        (items.iloc[:0], "it has no rows"),
        (items.iloc[:3], "it has 3 rows, and 6 are recorded"),
        (items.drop(columns="gold"), "it has no column gold"),
        (items.drop(columns="loglikelihoods"), "it has no column loglikelihoods"),
        (items.assign(acc=None), "its column acc has gaps"),
        (items.assign(gold="x"), "do not follow from their rows"),
        (items.assign(protocol="generative-v2"), "its protocol is generative-v2, and should be loglikelihood-v1"),
    ):
        cell.write_items(path.name, changed)
        read = read_results(Results(folder))
        assert whole_scores(read.scores) == right and any(reason in text for text in read.problems), read.problems


def test_rows_that_a_killed_run_left_damaged_are_made_again(answered: tuple[Path, Path], tmp_path: Path) -> None:
    """The cell is trained and its record does not have the score yet: it failed on every retry."""
    path, results = answered
    folder = Path(shutil.copytree(results, tmp_path / "tiny"))
    file = damaged_file(folder, "items/world_two*")
    cell = CellFolder(file.parents[1])
    record = cell.record()
    record.evaluations = {id: kept for id, kept in record.evaluations.items() if kept.file != file.name}
    cell.write_record(record.model_copy(update={"status": Status.TRAINED}))
    file.write_bytes(file.read_bytes()[:100])
    done = bench("run", path, "--results", tmp_path, "--workers", "0")
    assert done.exit_code == 0 and f"items/{file.name} is corrupt" in done.output, done.output
    assert outcome(folder) == outcome(results)


def test_what_cannot_be_made_again_keeps_its_recorded_score(answered: tuple[Path, Path], tmp_path: Path) -> None:
    path, results = answered
    folder = Path(shutil.copytree(results, tmp_path / "tiny"))
    file = damaged_file(folder, "items/world_two*")
    shutil.rmtree(file.parents[1] / "adapter")
    file.write_bytes(b"")
    done = bench("run", path, "--results", tmp_path, "--workers", "0")
    assert done.exit_code == 0 and "the adapter was not kept, so it cannot be made again" in done.output, done.output
    assert whole_scores(read_results(Results(folder)).scores) == whole_scores(read_results(Results(results)).scores)


def test_a_plan_of_cells_takes_no_incomplete_cell_for_a_whole_one(answered: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(answered[1], tmp_path / "tiny"))
    before = read_results(Results(folder)).cells
    (folder / "plan.json").unlink()
    read = read_results(Results(folder)).cells
    assert read[["folder", "average"]].equals(before[["folder", "average"]])
    metrics = damaged_file(folder, "metrics.json")
    record = json.loads(metrics.read_text())
    record["evaluations"].popitem()
    metrics.write_text(json.dumps(record))
    read = read_results(Results(folder)).cells.set_index("method")
    assert pd.isna(read.loc["lora", "average"]) and read.loc["lora", "status"] == "missing"
