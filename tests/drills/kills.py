"""A 24-cell sweep of a tiny model whose processes are killed at random every few seconds.

    python tests/drills/kills.py [--seed 0] [--every 4]

First the sweep runs undisturbed. Then the same sweep runs in another folder, by up to two parents at once, while every
few seconds, at random, a worker is killed (SIGKILL), a parent is, or a parent gets Ctrl-C; the same command is started
again until no cell is left. In a third folder it runs on a Ray cluster of two nodes on this machine, one of which is
lost. Each time every cell must come to what it came to undisturbed: weights bit for bit, losses, and all rows. Says
what it did, and exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.sweeps import make_tiny_model

SWEEP = """
name: drill
base_model: {{id: {model}, dtype: float32}}
methods:
  - {{method: lora, rank: [2, 4, 8], lr: 1e-2}}
  - {{method: dora, rank: [2, 4, 8], lr: 1e-2}}
  - {{method: vera, rank: 8, lr: 1e-2}}
  - {{method: full, lr: 1e-3}}
samples: 240
seeds: [0, 1, 2]
training: {{batch_size: 8, logging_steps: 2, checkpoint_minutes: 0.01}}
costs: {{inference: false}}
evaluation: {{limit: 20}}
"""
"""24 trained cells and the untuned one."""
CELLS = 25
MOST_SECONDS = 3600


def start(sweep: Path, results: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.cli", "run", str(sweep), "--results", str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = (results.parent / f"{results.name}.log").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)


def statuses(results: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in results.glob("drill/cells/*/metrics.json"):
        found[json.loads(path.read_text())["status"]] += 1  # written whole, or this fails
    return found


def workers_of(parents: list[subprocess.Popen[str]]) -> list[psutil.Process]:
    """Processes that hold a cell: those that the server has forked."""
    found = []
    for parent in parents:
        try:
            for child in psutil.Process(parent.pid).children():
                found.extend(one for one in child.children() if one.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            continue
    return found


def disturbed(sweep: Path, results: Path, every: float, chance: random.Random) -> Counter[str]:
    """Run the sweep to its end while its processes are killed; returns how often each disturbance happened."""
    did: Counter[str] = Counter()
    begun, parents = time.monotonic(), [start(sweep, results)]
    while True:
        if time.monotonic() - begun > MOST_SECONDS:
            raise SystemExit(f"not done after {MOST_SECONDS} s: {statuses(results)}")
        parents = [one for one in parents if one.poll() is None]
        if statuses(results)["done"] == CELLS and not parents:
            return did
        while len(parents) < (2 if chance.random() < 0.3 else 1):
            parents.append(start(sweep, results))
            did["starts"] += 1
        time.sleep(chance.uniform(0.5, 2) * every)
        # A run needs a while to start, so mostly workers are killed.
        what = chance.choices(("worker", "parent", "Ctrl-C", "nothing"), (12, 1, 1, 2))[0]
        if what == "worker":
            alive = workers_of(parents)
            if alive:
                chance.choice(alive).kill()
                did["workers killed"] += 1
        elif what != "nothing" and parents:
            one = chance.choice(parents)
            one.send_signal(signal.SIGKILL if what == "parent" else signal.SIGINT)
            did["parents killed" if what == "parent" else "Ctrl-C"] += 1
        print(f"  {time.monotonic() - begun:.0f} s: {dict(statuses(results))}, {dict(did)}", flush=True)


def differences(whole: Path, shot: Path) -> list[str]:
    """What the disturbed sweep came to otherwise than the undisturbed one."""
    found = []
    cells = sorted(path.name for path in whole.glob("drill/cells/*"))
    twins = sorted(path.name for path in shot.glob("drill/cells/*"))
    if cells != twins:
        found.append(f"other cells: {sorted({*cells} ^ {*twins})}")
    for name in cells:
        ours, theirs = whole / "drill" / "cells" / name, shot / "drill" / "cells" / name
        metrics = [json.loads((one / "metrics.json").read_text()) for one in (ours, theirs)]
        if metrics[1]["status"] != "done":
            found.append(f"{name}: {metrics[1]['status']}")
            continue
        if metrics[0]["costs"].get("final_loss") != metrics[1]["costs"].get("final_loss"):
            found.append(f"{name}: another loss")
        for file in (ours / "adapter").glob("*.safetensors"):
            a, b = load_file(file), load_file(theirs / "adapter" / file.name)
            if a.keys() != b.keys() or not all(a[key].equal(b[key]) for key in a):
                found.append(f"{name}: other weights")
        found += [
            f"{name}: other rows in {file.name}"
            for file in (ours / "items").iterdir()
            if not pd.read_parquet(file).equals(pd.read_parquet(theirs / "items" / file.name))
        ]
        left = [path.name for path in theirs.rglob("*") if path.name.endswith((".tmp", ".part")) or path.name == "work"]
        if left:
            found.append(f"{name}: left behind {left}")
    return found


def same(folder: Path, name: str) -> None:
    """Says whether a run came to what the undisturbed one did, and ends the drill where it did not."""
    found = differences(folder / "whole", folder / name)
    if found:
        raise SystemExit("\n".join(found))
    print(f"  {CELLS} whole cells, equal to those of the undisturbed run", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills, about")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_tiny_model(folder / "tiny-llama")
        sweep = folder / "drill.yaml"
        sweep.write_text(SWEEP.format(model=model))
        begun = time.monotonic()
        undisturbed = start(sweep, folder / "whole")
        if undisturbed.wait() or statuses(folder / "whole") != {"done": CELLS}:
            raise SystemExit(f"the undisturbed run failed:\n{(folder / 'whole.log').read_text()[-3000:]}")
        print(f"undisturbed: {CELLS} cells in {time.monotonic() - begun:.0f} s", flush=True)
        begun = time.monotonic()
        did = disturbed(sweep, folder / "shot", given.every, random.Random(given.seed))
        resumed = sum(
            json.loads(path.read_text())["costs"].get("resumed", 0)
            for path in folder.glob("shot/drill/cells/*/metrics.json")
        )
        print(f"disturbed: {time.monotonic() - begun:.0f} s; {dict(did)}; trainings resumed: {resumed}")
        same(folder, "shot")
        begun = time.monotonic()
        on_ray = [sys.executable, str(Path(__file__).with_name("lost_node.py")), str(sweep), str(folder / "ray")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*on_ray, "shared"], capture_output=True, text=True, check=False, env=environment)
        if done.returncode or "a node was lost" not in done.stdout:
            raise SystemExit(f"on Ray:\n{(done.stdout + done.stderr)[-3000:]}")
        print(f"on Ray, one of two nodes lost: {time.monotonic() - begun:.0f} s")
        same(folder, "ray")


if __name__ == "__main__":
    main()
