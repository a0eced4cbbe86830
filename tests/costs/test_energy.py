"""Energy, from counters in a folder of the kernel's form; no test machine has real ones that may be read."""

from __future__ import annotations

from pathlib import Path

from bench.costs.energy import _RaplCounters


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
