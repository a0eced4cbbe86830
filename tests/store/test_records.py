"""The records of results folders: of every committed sweep, of an older schema, of a newer one, and corrupt ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from helpers.paths import committed, write_schema_1

from bench.errors import UserError
from bench.store.damage import CorruptFile
from bench.store.folder import CellFolder, Results
from bench.store.judge_record import JudgeRecord
from bench.store.record_json import NewerSchema, content_of, read_record
from bench.store.records import SCHEMA, CellRecord, PlanRecord, Record, Status


@pytest.fixture
def old(tmp_path: Path) -> Results:
    return write_schema_1(tmp_path / "old")


@pytest.mark.parametrize("results", committed(), ids=lambda results: results.path.name)
def test_every_record_of_the_committed_sweeps_is_read(results: Results) -> None:
    plan = results.plan_record()
    folders = {folder.path.name: folder for folder in results.folders()}
    assert folders.keys() >= {cell.folder for cell in plan.cells}
    for name, folder in folders.items():
        cell, record, environment = folder.cell(), folder.record(), folder.environment()
        assert cell.folder == name
        assert record.status is Status.DONE and environment is not None
        assert bool(folder.training_log()) == (cell.data is not None)
        for evaluation in record.evaluations.values():
            items = folder.columns(evaluation.file, ["question_id"])
            assert items is not None and len(items["question_id"]) == evaluation.n
        for answers in record.answers.values():
            text = folder.read_text(f"answers/{answers.file}")
            assert text is not None and text.endswith("\n")
    judged = any(record.answers for record in map(CellFolder.record, folders.values()))
    assert bool(results.judges()) == judged
    for label in results.judges():
        path = results.judge(label) / "judge.json"
        judge = read_record(path, path.read_text(), JudgeRecord)
        assert judge is not None and judge.label == label


def test_files_of_schema_1_are_brought_up_to_date_as_they_are_read(old: Results) -> None:
    before = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    plan = old.plan_record()
    assert plan.schema_version == SCHEMA and plan.baseline == "lora"
    assert plan.trials[0].lr == plan.trials[0].options["lr"] == 3e-4
    base, lora = old.folders()
    assert base.record().schema_version == SCHEMA
    assert lora.record().costs.trainable == 1221120
    assert lora.environment().packages["peft"] == "0.21.2"
    assert [row.step for row in lora.training_log()] == sorted({row.step for row in lora.training_log()})
    assert len(lora.training_log()) == 4
    assert before == {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}


def test_a_record_that_is_written_is_read_as_it_was(old: Results) -> None:
    _, lora = old.folders()
    record, environment, cell, plan = lora.record(), lora.environment(), lora.cell(), old.plan_record()
    lora.write_record(record)
    lora.write_environment(environment)
    lora.write_cell(cell)
    assert (lora.record(), lora.environment(), lora.cell()) == (record, environment, cell)
    for name in ("metrics.json", "environment.json", "cell.json"):
        assert json.loads((lora.path / name).read_text())["schema"] == SCHEMA
    again = PlanRecord.model_validate(json.loads(json.dumps(content_of(plan))))
    assert again == plan


def test_the_schema_s_number_is_no_part_of_a_cell_s_hash(old: Results) -> None:
    _, lora = old.folders()
    cell = lora.cell()
    lora.write_cell(cell)
    assert lora.cell().id == cell.id == lora.path.name.rpartition("-")[2]


READERS = {
    "cell.json": CellFolder.cell,
    "metrics.json": CellFolder.record,
    "environment.json": CellFolder.environment,
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_newer_version_is_refused(old: Results, name: str) -> None:
    folder = old.folders()[0]
    path = folder.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1, "unheard_of": 1}))
    with pytest.raises(NewerSchema, match=f"{name} was written by a newer version of bench .schema {SCHEMA + 1}"):
        READERS[name](folder)


def test_a_plan_of_a_newer_version_is_refused(old: Results) -> None:
    (old.path / "plan.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(NewerSchema, match=r"plan.json was written by a newer version"):
        old.plan_record()


def test_what_a_file_leaves_out_is_read_as_none() -> None:
    kinds, seen = [Record], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__ != Record.__module__:  # judgments are written with what is None
            continue
        seen.append(kind)
        for name, field in kind.model_fields.items():
            if type(None) in get_args(field.annotation):
                assert not field.is_required(), f"{kind.__name__}.{name}"
    assert len(seen) > 15


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"status": ', "Expecting value"),
        ("[1]", "not a JSON object"),
        ('{"schema": "two"}', "its schema is 'two', which is not a number"),
        ('{"unheard_of": 1}', "unheard_of|Field required|it has no status"),
    ],
)
def test_a_corrupt_file_is_named_with_the_reason(old: Results, name: str, text: str, reason: str) -> None:
    folder = old.folders()[0]
    (folder.path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name} is corrupt: .*({reason})") as raised:
        READERS[name](folder)
    assert "makes it anew where it can" in raised.value.fix


def test_bytes_that_are_no_text_are_corrupt(old: Results) -> None:
    folder = old.folders()[0]
    (folder.path / "metrics.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"metrics.json is corrupt"):
        folder.record()


def test_a_corrupt_record_is_set_aside_and_a_newer_one_is_not_taken_for_corrupt(old: Results) -> None:
    base, lora = old.folders()
    (base.path / "metrics.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"metrics.json is corrupt"):
        base.record()
    base.set_aside("metrics.json")
    assert base.record() == CellRecord()
    assert (base.path / "metrics.damaged.json").read_text() == "{"
    (lora.path / "metrics.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(NewerSchema):
        lora.record()


def test_a_folder_without_a_plan_or_a_cell_says_so(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(UserError, match=r"no plan.json"):
        results.plan_record()
    with pytest.raises(UserError, match=r"no cell.json"):
        results.folder_named("lora").cell()
    assert results.folders() == [] and not results.folder_named("lora").exists()
    assert results.folder_named("lora").record() == CellRecord()
    assert results.folder_named("lora").environment() is None


def test_the_first_plans_which_name_no_protocol_are_read(old: Results) -> None:
    path = old.path / "plan.json"
    plan = json.loads(path.read_text())
    del plan["protocols"], plan["format"]
    path.write_text(json.dumps(plan))
    assert old.plan_record().protocols == ["loglikelihood"] and old.plan_record().format == "question"


def test_a_key_of_somebody_elses_is_no_reason_to_train_again(old: Results) -> None:
    lora = old.folders()[1]
    path = lora.path / "metrics.json"
    record = json.loads(path.read_text())
    record["note"] = "by hand"
    record["costs"]["dollars"] = 3
    before = lora.record()
    path.write_text(json.dumps(record))
    assert lora.record() == before


def test_a_record_that_cannot_be_read_is_an_error_with_its_name(old: Results) -> None:
    path = old.folders()[1].path / "metrics.json"
    path.unlink()
    path.mkdir()  # for a user who may read everything, what is no file is the one that cannot be read
    with pytest.raises(UserError, match=r"cannot read .*metrics\.json"):
        old.folders()[1].record()
