"""A results folder of a stranger: neither its names nor its links lead reading and writing out of it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.paths import RESULTS, loose_copy

from bench.data.open_questions import OpenQuestion, Turn
from bench.errors import UserError
from bench.judging.judgment_records import AnswerToRate
from bench.judging.ledger import Ledger, cell_ratings
from bench.judging.similarity import rate
from bench.progress import Progress
from bench.store.damage import CorruptFile
from bench.store.folder import CellFolder, Results
from bench.store.judge_record import JudgeRecord
from bench.store.pack import unpack
from bench.store.pack_format import decompress
from bench.store.pack_format.items import PackedItems
from bench.store.record_json import parse_record
from bench.store.records import PlanRecord

OUTSIDE = ("../x", "../../../x", "/x", "a/../../x", "..", ".", "", "..\\x", "a\0b")
ANSWER = AnswerToRate("talk", OpenQuestion(7, "stem", (Turn("Why?"),), (("The sun.",),)), 1, ("Rain.",), "cell")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["cell", "name"])
def test_nothing_is_unpacked_outside_of_the_folder(tmp_path: Path, key: str, name: str) -> None:
    results = Results(tmp_path / "a" / "b" / "c" / "results")
    results.pack.path.mkdir(parents=True)
    row = {"cell": "lora-0", "name": "cell.json", "text": "harm", key: name}
    text = f'{{"schema": 2}}\n{json.dumps(row)}\n'
    results.pack.records.path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(UserError, match=r"records\.jsonl\.gz is corrupt: .* is not the name of a file"):
        unpack(results)
    assert "harm" not in "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("link", ["cells/lora-0", "cells", "cells/lora-0/answers"])
def test_nothing_is_unpacked_where_a_link_leads_out_of_the_folder(tmp_path: Path, link: str) -> None:
    """A settings.json of a program elsewhere, say."""
    outside = tmp_path / "outside"
    outside.mkdir()
    results = Results(tmp_path / "results")
    results.pack.records.write({"lora-0": {"settings.json": "harm", "answers/a.jsonl": "harm\n"}})
    (results.path / link).parent.mkdir(parents=True, exist_ok=True)
    (results.path / link).symlink_to(outside)
    with pytest.raises(UserError, match=r"leads out of the results folder, to .*outside"):
        unpack(results)
    assert not list(outside.rglob("*.json*")) and results.pack.records.read()


def test_a_results_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    there = Results(tmp_path / "there")
    there.pack.records.write({"lora-0": {"cell.json": "{}"}})
    (tmp_path / "link").symlink_to(there.path)
    assert unpack(Results(tmp_path / "link")) == 1 and (there.path / "cells" / "lora-0" / "cell.json").is_file()


def test_a_pack_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a smaller limit, so that the test itself does not fill it."""
    monkeypatch.setattr(decompress, "ALWAYS", 10_000)
    results = Results(tmp_path / "results")
    results.pack.records.write({"lora-0": {"cell.json": "0" * 5_000}})
    assert results.pack.cells()
    results.pack.records.write({"lora-0": {"cell.json": "0" * 5_000_000}})
    with pytest.raises(UserError, match=r"records\.jsonl\.gz is corrupt: its .* bytes decompress to more than"):
        results.pack.cells()
    with pytest.raises(ValueError, match="decompress to more than"):
        decompress.inflate(zlib.compress(b"0" * 5_000_000))
    with pytest.raises(EOFError, match="cut off"):
        decompress.inflate(zlib.compress(b"0" * 5_000)[:-4])


def test_rows_are_packed_by_plain_names(tmp_path: Path) -> None:
    table = pa.table({"question_id": ["q"]})
    for cell, file in (("cell", "../../x.parquet"), ("../cell", "x.parquet")):
        with pytest.raises(UserError, match="is not the name of a file"):
            PackedItems(tmp_path / "items.parquet").write({(cell, file): lambda: table})


def with_folder(plan: dict[str, Any]) -> None:
    plan["cells"][0]["folder"] = "../../outside"


def with_set(plan: dict[str, Any]) -> None:
    plan["open_questions"] = {"../outside": next(iter(plan["open_questions"].values()))}


def with_fingerprint(plan: dict[str, Any]) -> None:
    next(iter(plan["open_questions"].values()))["fingerprint"] = "/../../../outside"


@pytest.mark.parametrize("change", [with_folder, with_set, with_fingerprint])
def test_a_plan_names_no_file_outside_of_the_folder(change: Callable[[dict[str, Any]], None]) -> None:
    path = RESULTS / "quickstart" / "plan.json"
    plan = json.loads(path.read_text())
    assert parse_record(path, json.dumps(plan), PlanRecord)
    change(plan)
    with pytest.raises(UserError, match=r"plan\.json is corrupt: .*outside' is not the name of a file"):
        parse_record(path, json.dumps(plan), PlanRecord)


def test_answers_are_read_from_their_cell_alone(tmp_path: Path) -> None:
    """They are sent to the judge."""
    (folder, *_) = Results(loose_copy("quickstart", tmp_path / "results")).folders()
    metrics = json.loads((folder.path / "metrics.json").read_text())
    (answers,) = metrics["answers"].values()
    answers["file"] = f"../../{folder.path.name}/answers/{answers['file']}"
    (folder.path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(CorruptFile, match="is not the name of a file"):
        folder.record()


def test_a_number_that_no_table_can_hold_is_no_number() -> None:
    path = RESULTS / "quickstart" / "plan.json"
    for number in ("9" * 400, "-" + "9" * 400, str(2**63)):
        text = path.read_text().replace('"samples": 160', f'"samples": {number}', 1)
        with pytest.raises(UserError, match=r"plan\.json is corrupt: the number .* has more than 64 bits"):
            parse_record(path, text, PlanRecord)


@pytest.mark.parametrize("scale", [(5.0, 5.0), (10.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_judge_has_a_scale(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"scale|below"):
        JudgeRecord(kind="openai", name="judge", scale=scale, settings={})


def test_judgments_are_not_appended_to_a_file_that_a_link_leads_to(tmp_path: Path) -> None:
    victim = tmp_path / "profile"
    victim.write_text("echo hello\nand a last line without an end")
    file = cell_ratings(CellFolder(tmp_path / "cell"), "judge")
    file.path.parent.mkdir(parents=True)
    file.path.symlink_to(victim)
    before = victim.read_text()
    with pytest.raises(UserError, match="is a symbolic link"):
        Ledger(file).add(rate(ANSWER))
    assert victim.read_text() == before


def test_the_log_is_not_appended_to_a_file_that_a_link_leads_to(tmp_path: Path) -> None:
    victim = tmp_path / "profile"
    victim.touch()
    log = tmp_path / "sweep.log"
    log.symlink_to(victim)
    progress = Progress()
    progress.log_to(log)
    progress.line("$(touch harm)")
    assert not victim.read_text()
    log.unlink()
    progress.line("a line")
    assert "a line" in log.read_text()


def test_a_link_in_place_of_a_temporary_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4711)
    victim = tmp_path / "profile"
    victim.write_text("before")
    results = Results(tmp_path / "results")
    results.path.mkdir()
    (results.path / ".sweep.yaml.4711.tmp").symlink_to(victim)
    results.write_plan({}, PlanRecord(name="x", tasks=[], format="", protocols=[], cells=[]))
    assert victim.read_text() == "before" and (results.path / "sweep.yaml").is_file()
    assert not (results.path / "sweep.yaml").is_symlink()
