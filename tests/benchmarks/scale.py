"""How long large sweeps take where no model runs: a plan of 10,000 cells, and 1,000 recorded ones read and reported.

    python tests/benchmarks/scale.py [--repeats 3]

The plan is LoRA and DoRA at five ranks, ten learning rates, ten sample counts and ten seeds on the built-in world. The
recorded cells are those of results/rank_real_small (three tasks, 500 questions each) under other ranks, rates, sample
counts and seeds, with other log-likelihoods and the answers and scores that follow from them; they lie in a temporary
folder. Every timing is a process of its own, with OMP_NUM_THREADS=1: seconds of the wall (`s`) and of the processor
(`_cpu_s`), the least of the repeats of each, its start and its imports included; of the loading, `read_results` alone.
Writes results/benchmarks/scale.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contenders import environment

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RESULT = Path("results/benchmarks/scale.json")
RECORDED = Path("results/rank_real_small")
NOISE = 0.5
"""s.d. in nats of what is added to each recorded log-likelihood, so that no two cells answer alike."""
METHODS = ("lora", "dora")
SEEDS = tuple(range(10))

PLANNED = {
    "name": "planned",
    "base_model": "smollm2-135m-instruct",
    "data": {"train": "world"},
    "methods": [
        {"method": name, "rank": [2, 4, 8, 16, 32], "lr": [round(1e-4 * n, 5) for n in range(1, 11)]}
        for name in METHODS
    ],
    "samples": [100 * n for n in range(1, 11)],
    "seeds": list(SEEDS),
}
IMPORTS = "import torch, transformers.models.llama.modeling_llama, peft"
"""What counting a LoRA's parameters on this base cannot do without."""


def record(folder: Path) -> None:
    """Write a results folder of 1,000 trained cells and the untuned one."""
    import numpy as np
    import pandas as pd

    from bench.evaluation.scoring import check_rows, compute_scores
    from bench.store.folder import CellFolder, Results
    from bench.store.pack import unpack
    from bench.store.record_json import content_of
    from bench.sweep.cell import Cell

    recorded = Results(folder.parent / "source")
    shutil.copytree(RECORDED, recorded.path, ignore=shutil.ignore_patterns("report", "locks"))
    unpack(recorded)
    plan = content_of(recorded.plan_record())
    base = next(cell for cell in plan["cells"] if cell["method"] == "base")
    shutil.copytree(recorded.path / "cells" / base["folder"], folder / "cells" / base["folder"])
    shutil.copy(RECORDED / "sweep.yaml", folder)
    templates = {cell["method"]: cell for cell in plan["cells"]}
    random = np.random.default_rng(0)
    cells = [base]
    settings = itertools.product(METHODS, (4, 8, 16, 32, 64), (1e-4, 2e-4, 3e-4, 5e-4, 1e-3), (500, 1000), SEEDS)
    for method, rank, lr, samples, seed in settings:
        entry = templates[method]
        source = recorded.folder_named(entry["folder"])
        options = {**entry["options"], "rank": rank, "alpha": 2.0 * rank, "lr": lr}
        changed = {"options": options, "samples": samples, "seed": seed}
        cell = Cell.model_validate({**source.cell().model_dump(mode="json"), **changed})
        cells.append({**entry, **changed, "folder": cell.folder, "name": cell.name, "rank": rank})
        target = CellFolder(folder / "cells" / cell.folder)
        (target.path / "items").mkdir(parents=True)
        metrics = content_of(source.record())
        for one in metrics["evaluations"].values():
            items = other_answers(pd.read_parquet(source.path / "items" / one["file"]), random)
            items.to_parquet(target.path / "items" / one["file"], index=False)
            one |= content_of(compute_scores(check_rows(items), one["primary"]))
        (target.path / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (target.path / "cell.json").write_text(cell.model_dump_json(indent=2))
        shutil.copy(source.path / "environment.json", target.path)
    (folder / "plan.json").write_text(json.dumps({**plan, "name": folder.name, "cells": cells}, indent=2))


def other_answers(items: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The rows with noise on their log-likelihoods, and the answers that follow."""
    found = [scores + random.normal(scale=NOISE, size=len(scores)) for scores in items["loglikelihoods"]]
    prediction = [int(scores.argmax()) for scores in found]
    norm = [int((scores / lengths).argmax()) for scores, lengths in zip(found, items["lengths"], strict=True)]
    acc = (items["gold"] == prediction).astype(float)
    rounded = [scores.round(6) for scores in found]
    return items.assign(loglikelihoods=rounded, prediction=prediction, prediction_norm=norm, acc=acc)


def load(folder: Path) -> tuple[float, float]:
    """Read all recorded cells, in this process: seconds of the wall, and of the processor."""
    from bench.analysis.result_tables import read_results
    from bench.store.folder import Results

    begun, before = time.perf_counter(), time.process_time()
    read = read_results(Results(folder))
    found = time.perf_counter() - begun, time.process_time() - before
    if read.problems or len(read.questions) != 1500 * len(read.cells):
        raise SystemExit(f"not what was recorded: {read.problems[:3]}")
    return found


def run(command: Sequence[str]) -> tuple[float, float, str]:
    """Run Python in a process of its own: seconds of the wall, of the processor, and what it printed."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are timed
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sweep, results = folder / "sweep.yaml", folder / "recorded"
        sweep.write_text(json.dumps(PLANNED))  # JSON is YAML
        results.mkdir()
        record(results)
        plan = ["-m", "bench.cli", "plan", str(sweep), "--results", str(folder / "none")]
        content = {}
        for name, command in (
            ("plan_10000_cells", plan),
            ("plan_10000_cells_json", [*plan, "--json"]),
            ("plan_imports", ["-c", IMPORTS]),
            ("load_1000_cells", [__file__, "--load", str(results)]),
            ("report_1000_cells", ["-m", "bench.cli", "report", str(results)]),
        ):
            found = [run(command) for _ in range(repeats)]
            if name == "load_1000_cells":
                found = [json.loads(printed) for *_, printed in found]
            content[f"{name}_s"], content[f"{name}_cpu_s"] = (round(min(one[at] for one in found), 2) for at in (0, 1))
            print(f"{name}: {content[f'{name}_s']} s, {content[f'{name}_cpu_s']} s of the processor", flush=True)
    from bench.store.files import write_json

    write_json(RESULT, {**content, "repeats": repeats, "environment": environment()})
    print(f"written: {RESULT}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(load(Path(sys.argv[2]))))
    else:
        main()
