"""The same cells on a Ray cluster of two nodes on this machine, one of which is lost in mid-cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import sweep_file
from test_run import outcome

pytest.importorskip("ray", reason="needs ray, of the extra of that name")

DRIVER = """
import os, sys, threading, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from bench.cli import app

path, results, lose, share = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "lose", sys.argv[4]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
if share == "apart":
    # The actors do not find the driver's file, as on machines without a common file system.
    from bench.runner.on_ray import OnRay
    places = OnRay._places
    OnRay._places = lambda crew: crew.probe.unlink() or places(crew)

def lose_it():
    # Once both nodes train, the second one goes.
    while len(list(results.glob("tiny/cells/*/training.jsonl"))) < 2:
        time.sleep(0.02)
    cluster.remove_node(second, allow_graceful=False)
    print("a node was lost", flush=True)

if lose:
    threading.Thread(target=lose_it, daemon=True).start()
more = ["--set", "training.checkpoint_minutes=0"] if lose else []
app(["run", str(path), "--results", str(results), "--ray", "auto", *more])
"""


def run(folder: Path, path: Path, *how: str) -> subprocess.CompletedProcess[str]:
    script = folder / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    command = [sys.executable, str(script), str(path), str(folder), *how]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=400)


def test_a_lost_node_costs_no_cell(finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path) -> None:
    done = run(tmp_path, sweep_file(tmp_path, tiny_model), "lose", "shared")
    assert done.returncode == 0 and "a node was lost" in done.stdout, done.stdout + done.stderr
    assert "was lost; it will be begun again" in done.stderr, done.stderr
    assert outcome(tmp_path / "tiny") == outcome(finished[1])


def test_results_come_back_where_no_folder_is_shared(
    finished: tuple[Path, Path], tmp_path: Path, tiny_model: Path
) -> None:
    done = run(tmp_path, sweep_file(tmp_path, tiny_model), "keep", "apart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(tmp_path / "tiny") == outcome(finished[1])
    for cell in finished[1].glob("cells/*"):
        names = {path.relative_to(cell).as_posix() for path in cell.rglob("*") if path.is_file()}
        twin = tmp_path / "tiny" / "cells" / cell.name
        assert names == {path.relative_to(twin).as_posix() for path in twin.rglob("*") if path.is_file()}
        for file in (cell / "adapter").glob("*.safetensors"):
            assert file.read_bytes() == (twin / "adapter" / file.name).read_bytes()
        resolved = [json.loads((one / "cell.json").read_text()) for one in (cell, twin)]
        assert resolved[0] == resolved[1]


def test_nothing_of_ray_is_imported_without_it(tmp_path: Path, tiny_model: Path) -> None:
    code = "import sys\nfrom bench.cli import app\ntry: app()\nfinally: print('ray' in sys.modules)"
    arguments = ["run", str(sweep_file(tmp_path, tiny_model)), "--results", str(tmp_path), "--only", "base"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stdout + done.stderr
