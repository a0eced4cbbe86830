"""What is shown of a sweep's progress, on a terminal and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import progress
from bench.progress import Progress, duration


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (45, 720, 11_100)] == ["45 s", "12 min", "3 h 05 min"]


def test_without_a_terminal_a_stage_prints_a_plain_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Progress() as shown:
        advance = shown.stage("train", "cpu0")
        for done in range(5):
            advance(done, 4, "loss 1.0")
        shown.idle("cpu0")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # neither at the start nor at the end
    assert lines[0].startswith("  train: 1/4, ") and lines[0].endswith(" left, loss 1.0")


def test_lines_are_kept_in_the_log_and_an_unwritable_log_is_no_error(tmp_path: Path) -> None:
    with Progress() as shown:
        shown.log_to(tmp_path / "sweep.log")
        shown.line("[lora] done")
        shown.log_to(tmp_path / "missing" / "sweep.log")
        shown.line("not kept")
    assert (tmp_path / "sweep.log").read_text().endswith(" [lora] done\n")


def test_on_a_terminal_each_worker_has_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress() as shown:
        assert shown.bars is not None
        shown.head("1 of 2 cells")
        for name in ("train", "score"):
            shown.stage(name, "cpu0")(1, 2, "note")
        assert [task.description for task in shown.bars.bars.tasks] == ["score"]
        shown.idle("cpu0")
        assert shown.bars.bars.tasks == []
