"""Seconds, peak memory and energy of a stretch of work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from bench.costs import Meter, resident_level
from bench.costs.energy import _RaplCounters

MEGABYTE = 1_000_000


def hold(megabytes: int) -> None:
    """Hold so much memory for a moment, every page of it touched."""
    held = torch.ones(megabytes * MEGABYTE // 4)  # a name, or it is given back before the thread that looks has seen it
    time.sleep(0.1)
    assert held[-1] == 1


def peak(megabytes: int) -> int:
    level = resident_level()
    with Meter(level) as meter:
        hold(megabytes)
    return meter.reading.peak_bytes


@pytest.mark.parametrize("marked", [True, False])
def test_a_planted_allocation_is_seen(marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's own mark and, where it cannot be reset, by looking: 200 MB, and 40 MB for what else there is."""
    if not marked:
        write = Path.write_text

        def refused(path: Path, *args: object, **kwargs: object) -> int:
            if path.name == "clear_refs":
                raise PermissionError("not allowed")
            return write(path, *args, **kwargs)

        monkeypatch.setattr(Path, "write_text", refused)
    peak(1)
    assert 199 * MEGABYTE < peak(200) < 240 * MEGABYTE  # a few pages of the level may have been given back
    assert peak(1) < 40 * MEGABYTE  # the peak of one stretch is not that of the next


def test_seconds_and_errors_pass_through() -> None:
    start = time.perf_counter()
    with Meter() as meter:
        time.sleep(0.1)
    assert 0.1 <= meter.reading.seconds <= time.perf_counter() - start
    with pytest.raises(ValueError, match="mine"), Meter() as meter:
        raise ValueError("mine")
    assert meter.reading.seconds >= 0


def test_what_nobody_holds_is_no_level() -> None:
    before = resident_level()
    blocks = [torch.ones(1000) for _ in range(50_000)]  # small ones, which the allocator keeps
    held = resident_level() - before
    del blocks
    assert held > 150 * MEGABYTE and resident_level() - before < held / 4


def package(root: Path, name: str, count: int, most: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{count}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_packages_are_added_and_a_counter_that_begins_anew_is_followed(tmp_path: Path) -> None:
    first, second = package(tmp_path, "intel-rapl:0", 900_000), package(tmp_path, "intel-rapl:1", 0)
    package(tmp_path, "intel-rapl:0:0", 5).write_text("999999")  # the cores are part of their package
    meter = _RaplCounters.find(tmp_path)
    first.write_text("100000")  # 200,000 on
    meter.read()
    first.write_text("90000")  # 990,000 on
    second.write_text("300000")
    assert meter.joules() == (200_000 + 990_000 + 300_000) / 1e6


def test_no_counter_is_no_figure(tmp_path: Path) -> None:
    assert _RaplCounters.find(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()  # without the files, as where they may not be read
    assert _RaplCounters.find(tmp_path) is None
