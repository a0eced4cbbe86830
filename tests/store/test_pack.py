"""Packed results: the same files again, read alike packed and loose, and nothing lost by a kill at any moment."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.paths import committed, loose_copy, write_schema_1
from helpers.sweeps import bench

from bench.errors import UserError
from bench.store.folder import CellFolder, Results
from bench.store.locks import PACK, holding, judging
from bench.store.pack import pack, unpack
from bench.store.pack_format import items as packed_items
from bench.store.records import SCHEMA, CellRecord, Status

LORA = "lora-r4-n1000-s0-a1689008"
BASE = "base-294d280b"

ITEMS = {
    "a@loglikelihood-0.parquet": {
        "question_id": ["q0", "q1", "q2"],
        "cluster": [None, "c", "c"],
        "loglikelihoods": [[-1.5, -0.25], [float("nan"), -3.0], [-2.0, float("-inf")]],
        "gold": [0, 1, 1],
        "acc": [1.0, 0.0, float("nan")],
    },
    # A column without values, one of another type than above, and two that are called like the pack's own.
    "b@generative-1.parquet": {
        "question_id": ["q0", "q1"],
        "cluster": [None, None],
        "gold": ["A", "ü\u2028\r\n"],
        "cell": [1, 2],
        "file": ["x", "y"],
    },
    "c@none-2.parquet": {"question_id": pd.Series([], dtype="str"), "gold": pd.Series([], dtype="int64")},
}
ANSWERS = '{"question_id": 1, "choices": [{"turns": ["a\u2028b\\r\\n"]}]}\n'


def snapshot(folder: Path) -> dict[str, Any]:
    """Every file: bytes, and of parquet files the table and its metadata."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "locks" not in path.parts]
    return {
        path.relative_to(folder).as_posix(): table_of(path) if path.suffix == ".parquet" else path.read_bytes()
        for path in files
    }


def table_of(path: Path) -> tuple[str, bytes | None, str]:
    """A table such that NaN equals NaN: schema, metadata of pandas, rows."""
    table = pq.read_table(path)
    return table.schema.to_string(), table.schema.metadata[b"pandas"], repr(table.to_pylist())


def items_files(folder: CellFolder) -> list[str]:
    """The items files that a cell has, loose or packed."""
    names = {path.name for path in folder.path.glob("items/*.parquet")}
    return sorted(names if folder.is_loose else names | set(folder.pack.items.files(folder.path.name)))


def read_all(results: Results) -> dict[str, Any]:
    """All that there is to read of the cells, through the interface that all rooms use."""
    found: dict[str, Any] = {}
    for folder in results.folders():
        texts = ("cell.json", "metrics.json", "environment.json", "training.jsonl", "answers/s-0.jsonl", "absent.json")
        found[folder.path.name] = (
            folder.cell(),
            folder.record(),
            folder.environment(),
            folder.training_log(),
            {name: folder.read_text(name) for name in texts},
            {name: repr(folder.items(name).to_dict("list")) for name in items_files(folder)},
            {
                name: {key: repr(column.to_pylist()) for key, column in folder.columns(name, ["gold", "acc"]).items()}
                for name in items_files(folder)
            },
            folder.items("absent.parquet"),
            folder.columns("absent.parquet", ["gold"]),
        )
    return found


@pytest.fixture
def loose(tmp_path: Path) -> Results:
    """Two cells with every kind of file, an adapter among them."""
    results = write_schema_1(tmp_path / "sweep")
    lora = results.folder_named(LORA)
    for file, columns in ITEMS.items():
        lora.write_items(file, pd.DataFrame(columns))
    results.folder_named(BASE).write_items(
        "a@loglikelihood-0.parquet", pd.DataFrame(ITEMS["a@loglikelihood-0.parquet"])
    )
    for name, content in (("answers/s-0.jsonl", ANSWERS), ("judgments/j-0.jsonl", '{"score": 1}\n')):
        (lora.path / name).parent.mkdir()
        (lora.path / name).write_bytes(content.encode())
    lora.adapter.mkdir()
    (lora.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (lora.path / "metrics.damaged.json").write_text("{")
    return results


def test_packing_and_unpacking_give_the_same_files(loose: Results) -> None:
    before, read = snapshot(loose.path), read_all(loose)
    packed = pack(loose)
    assert (packed.added, packed.cells, packed.files, packed.left) == (2, 2, 13, {})
    assert sorted(path.name for path in loose.pack.path.iterdir()) == ["items.parquet", "records.jsonl.gz"]
    left = {path.relative_to(loose.path / "cells").as_posix() for path in (loose.path / "cells").rglob("*.*")}
    assert left == {f"{LORA}/metrics.damaged.json", f"{LORA}/adapter/adapter_model.safetensors"}
    assert repr(read_all(loose)) == repr(read)
    assert unpack(loose) == 2
    assert not loose.pack.path.exists() and snapshot(loose.path) == before
    assert unpack(loose) == 0


def test_the_rows_say_whose_they_are(loose: Results) -> None:
    """Without this package too."""
    pack(loose)
    table = pd.read_parquet(loose.pack.items.path)
    assert table.groupby(["cell", "file"]).size().to_dict() == {
        (BASE, "a@loglikelihood-0.parquet"): 3,
        (LORA, "a@loglikelihood-0.parquet"): 3,
        (LORA, "b@generative-1.parquet"): 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("results", committed(), ids=lambda results: results.path.name)
def test_committed_sweeps_are_packed_as_this_version_packs_them(results: Results, tmp_path: Path) -> None:
    folder = Results(loose_copy(results.path.name, tmp_path / "sweep"))
    assert not folder.pack.path.exists() and len(folder.folders()) == len(results.pack.cells())
    assert pack(folder).left == {}
    assert folder.pack.records.path.read_bytes() == results.pack.records.path.read_bytes()
    for cell in results.pack.cells():
        assert folder.pack.items.files(cell) == results.pack.items.files(cell)
        for file in results.pack.items.files(cell):
            assert folder.pack.items.table(cell, file).equals(results.pack.items.table(cell, file), check_metadata=True)


def test_packing_again_changes_nothing(loose: Results) -> None:
    pack(loose)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in loose.pack.path.iterdir()}
    assert pack(loose).added == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in loose.pack.path.iterdir()}


def test_more_cells_and_more_files_are_added_to_a_pack(loose: Results) -> None:
    expected, files = read_all(loose), snapshot(loose.path)
    shutil.copytree(loose.path / "cells", loose.path.parent / "cells")
    shutil.rmtree(loose.path / "cells" / LORA)
    assert pack(loose).cells == 1
    shutil.copytree(loose.path.parent / "cells" / LORA, loose.path / "cells" / LORA)
    (loose.path / "cells" / LORA / "judgments" / "j-0.jsonl").unlink()
    assert repr(read_all(loose)) == repr(expected)
    assert (pack(loose).added, pack(loose).cells) == (1, 2)
    # A judge adds a file beside the packed ones: it takes no loose cell.
    judgments = loose.folder_named(LORA).judgments("j-0")
    judgments.parent.mkdir(parents=True)
    judgments.write_bytes(b'{"score": 1}\n')
    assert not loose.folder_named(LORA).is_loose and pack(loose).added == 1
    assert repr(read_all(loose)) == repr(expected)
    unpack(loose)
    assert snapshot(loose.path) == files


def test_loose_files_win_over_packed_ones(loose: Results) -> None:
    pack(loose)
    lora = loose.folder_named(LORA)
    (lora.path / "answers").mkdir()
    (lora.path / "answers" / "s-0.jsonl").write_text("newer\n")
    assert lora.read_text("answers/s-0.jsonl") == "newer\n" and lora.read_text("judgments/j-0.jsonl") is not None
    lora.make_loose()
    assert lora.is_loose and lora.read_text("answers/s-0.jsonl") == "newer\n"
    # From now on the packed files are out of sight: what is removed stays removed.
    shutil.rmtree(lora.path / "items")
    (lora.path / "judgments" / "j-0.jsonl").unlink()
    assert items_files(lora) == [] and lora.read_text("judgments/j-0.jsonl") is None
    assert lora.items("a@loglikelihood-0.parquet") is None
    lora.write_record(CellRecord(status=Status.FAILED, reason="again"))
    assert lora.record().reason == "again"
    assert pack(loose).added == 1
    assert lora.record().reason == "again" and items_files(lora) == [] and not lora.is_loose
    assert items_files(loose.folder_named(BASE)) == ["a@loglikelihood-0.parquet"]


def test_a_corrupt_packed_record_is_set_aside_as_a_loose_one_is(loose: Results) -> None:
    pack(loose)
    texts = {cell: dict(loose.pack.texts(cell)) for cell in loose.pack.cells()}
    texts[LORA]["metrics.json"] = "{"
    loose.pack.records.write(texts)
    lora = loose.folder_named(LORA)
    lora.set_aside("metrics.json")
    assert lora.record() == CellRecord() and lora.exists()


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_kill_at_any_moment_loses_nothing(loose: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before each file that is put in place and each that is removed, while packing and while unpacking."""
    expected = read_all(loose)
    countdown = [0]

    def dying(act: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Killed
            return act(*args, **kwargs)

        return wrapped

    kills = 0
    for command in (pack, unpack):
        at = 0
        while True:
            at += 1
            copy = Results(Path(shutil.copytree(loose.path, tmp_path / f"{command.__name__}{at}")))
            if command is unpack:
                pack(copy)
            countdown[0] = at
            with monkeypatch.context() as patched:
                for name in ("replace", "unlink", "rmdir"):
                    patched.setattr(Path, name, dying(getattr(Path, name)))
                try:
                    command(copy)
                except Killed:
                    kills += 1
                ended = countdown[0] > 0
            assert repr(read_all(copy)) == repr(expected), at
            command(copy)
            assert repr(read_all(copy)) == repr(expected), at
            if command is pack:
                assert not any(folder.is_loose for folder in copy.folders())
            shutil.rmtree(copy.path)
            if ended:
                break
    assert kills > 20


def test_a_folder_that_is_in_use_is_refused(loose: Results) -> None:
    for command in (pack, unpack):
        with holding(loose, LORA) as held:
            assert held
            with pytest.raises(UserError, match=f"another process works on it .{LORA}"):
                command(loose)
        assert loose.folder_named(LORA).is_loose
    pack(loose)


def test_a_cell_that_changes_while_it_is_packed_stays_loose(loose: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = loose.folder_named(LORA)
    write = packed_items.PackedItems.write

    def meanwhile(self: Any, sources: Any) -> None:
        write(self, sources)
        lora.write_record(CellRecord(reason="meanwhile"))

    monkeypatch.setattr(packed_items.PackedItems, "write", meanwhile)
    packed = pack(loose)
    assert list(packed.left) == [LORA] and packed.added == 1
    assert lora.is_loose and lora.record().reason == "meanwhile"


@pytest.mark.parametrize("name", ["metrics.json", "cell.json", "answers/s-0.jsonl", "items/b@generative-1.parquet"])
def test_a_cell_with_a_corrupt_file_stays_loose(loose: Results, name: str) -> None:
    path = loose.path / "cells" / LORA / name
    path.write_bytes(b"\xff\xfe" + path.read_bytes()[:20])
    done = bench("pack", loose.path)
    assert done.exit_code == 1 and f"{LORA} stays loose" in done.output and f"{path.name} is corrupt" in done.output
    assert loose.pack.cells() == [BASE] and path.is_file()


@pytest.mark.parametrize("name", ["records.jsonl.gz", "items.parquet"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_pack_is_named(loose: Results, name: str, kept: float) -> None:
    pack(loose)
    path = loose.pack.path / name
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=f"{name} is corrupt") as raised:
        read_all(loose)
    assert "git checkout" in raised.value.fix
    done = bench("unpack", loose.path)
    assert done.exit_code == 2 and f"{name} is corrupt" in done.output and path.is_file()


def test_a_pack_of_a_newer_version_is_refused(loose: Results) -> None:
    pack(loose)
    path = loose.pack.records.path
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    lines[0] = json.dumps({"schema": SCHEMA + 1})
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(UserError, match=r"records.jsonl.gz was written by a newer version"):
        loose.folders()


def test_a_pack_that_is_replaced_is_read_anew(loose: Results, tmp_path: Path) -> None:
    pack(loose)
    file = "a@loglikelihood-0.parquet"
    assert loose.folder_named(BASE).columns(file, ["gold"])["gold"].to_pylist() == [0, 1, 1]
    other = Results(Path(shutil.copytree(loose.path, tmp_path / "other")))
    base = other.folder_named(BASE)
    base.make_loose()
    base.write_items(file, base.items(file).assign(gold=[1, 1, 0]))
    base.write_record(CellRecord(reason="another"))
    pack(other)
    for name in ("items.parquet", "records.jsonl.gz"):
        (other.pack.path / name).replace(loose.pack.path / name)
    assert loose.folder_named(BASE).columns(file, ["gold"])["gold"].to_pylist() == [1, 1, 0]
    assert loose.folder_named(BASE).record().reason == "another"


def test_rows_of_several_row_groups_are_found(loose: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_items, "ROWS_PER_GROUP", 4)
    rng = np.random.default_rng(0)
    expected = {}
    for n in range(1, 8):
        frame = pd.DataFrame({"question_id": [f"q{i}" for i in range(n)], "acc": rng.random(n)})
        loose.folder_named(BASE).write_items(f"t{n}@p-0.parquet", frame)
        expected[f"t{n}@p-0.parquet"] = frame
    pack(loose)
    assert pq.read_metadata(loose.pack.items.path).num_row_groups > 3
    for file, frame in expected.items():
        pd.testing.assert_frame_equal(loose.folder_named(BASE).items(file), frame)
        assert isinstance(loose.folder_named(BASE).columns(file, ["acc"])["acc"], pa.ChunkedArray)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    for command in ("pack", "unpack"):
        done = bench(command, tmp_path)
        assert done.exit_code == 2 and "is no results folder" in done.output


def test_the_commands_say_what_they_did(loose: Results) -> None:
    done = bench("pack", loose.path)
    assert done.exit_code == 0, done.output
    assert "2 cells packed; the pack holds 13 files of 2 cells" in done.output
    done = bench("unpack", loose.path)
    assert done.exit_code == 0 and "2 cells unpacked" in done.output
    assert CellFolder(loose.path / "cells" / BASE).is_loose


def test_nothing_is_packed_while_it_is_judged_and_nothing_judged_while_it_is_packed(loose: Results) -> None:
    with judging(loose, "j-0") as free:
        assert free
        with pytest.raises(UserError, match=r"another process works on it \(judge-j-0\)"):
            pack(loose)
    with holding(loose, PACK) as held:
        assert held
        with judging(loose, "j-0") as free:
            assert not free
