"""The same cells on a Ray cluster of two nodes on this machine, one of which is lost in mid-cell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT, matching
from helpers.sweeps import outcome, sweep_file

pytest.importorskip("ray", reason="needs ray, of the extra of that name")

DRIVER = ROOT / "tests" / "drills" / "lost_node.py"


def short(folder: Path, model: Path) -> Path:
    """The sweep of `finished` with three of its cells."""
    path = sweep_file(folder, model)
    lines = [line for line in path.read_text().splitlines() if "dora" not in line and "full" not in line]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_a_lost_node_costs_no_cell(finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path) -> None:
    """And results come back where no folder is shared: `make drill` loses a node where one is."""
    command = [sys.executable, str(DRIVER), str(short(tmp_path, tiny_model)), str(tmp_path), "apart"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0 and "a node was lost" in done.stdout, done.stdout + done.stderr
    assert "was lost; it will be started again" in done.stderr, done.stderr
    found, expected = outcome(tmp_path / "tiny"), outcome(finished[1])
    assert len(found) == 3 and all(expected[name] == one for name, one in found.items())
    for twin in matching(tmp_path / "tiny", "cells/*"):
        cell = finished[1] / "cells" / twin.name
        names = {path.relative_to(cell).as_posix() for path in cell.rglob("*") if path.is_file()}
        assert names == {path.relative_to(twin).as_posix() for path in twin.rglob("*") if path.is_file()}
        for file in (cell / "adapter").glob("*.safetensors"):
            assert file.read_bytes() == (twin / "adapter" / file.name).read_bytes()
        resolved = [json.loads((one / "cell.json").read_text()) for one in (cell, twin)]
        assert resolved[0] == resolved[1]


def test_nothing_of_ray_is_imported_without_it() -> None:
    code = "import sys, bench.cli, bench.runner.run_cell, bench.runner.workers\n"
    code += "assert not {'ray', 'bench.runner.ray_workers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
