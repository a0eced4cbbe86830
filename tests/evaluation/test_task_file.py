"""Task files of lm-eval are read without spinning, whatever their aliases say."""

from __future__ import annotations

from pathlib import Path

from bench.evaluation.task_file import read_task_file


def test_aliases_neither_spin_nor_recurse(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("task: t\nmetadata: &a [*a, !function code.f]\n")
    assert [name.split(",")[0] for name in read_task_file(path).code] == ["code.f"]
    levels = [f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 9)}]\n" for number in range(1, 12)]
    path.write_text("task: t\nl0: &l0 [!function code.g]\n" + "".join(levels))
    assert [name.split(",")[0] for name in read_task_file(path).code] == ["code.g"]
