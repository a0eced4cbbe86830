"""Sweep files that nobody should write: the plan of each is made, or refused in a sentence; nonsense is refused."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt
from helpers.sweep_fuzz import sweep_texts
from helpers.sweeps import bench
from pydantic import BaseModel

from bench.methods.registry import METHODS
from bench.sweep.schema import SECTIONS

TESTS = Path(__file__).parents[1]
MANY, BATCH = 5_000, 250
SECONDS_EACH = 5
"""What a plan may take on a machine with other load; only a file that makes the plan spin takes longer."""


def outcomes(texts: Iterator[str], folder: Path, most_bytes: float = math.inf) -> list[str]:
    """What is wrong with the outcome of each text: a traceback, an exit code other than 0 and 2, an error that is not
    one short message, or a plan that took the process beyond `most_bytes`."""
    problems, peak = [], 0
    path = folder / "sweep.yaml"
    for number, text in enumerate(texts):
        path.write_text(text)
        done = bench("plan", path, "--results", folder)
        if done.exit_code not in (0, 2) or "Traceback" in done.output:
            problems.append(f"{number}: {done.exception!r} of\n{text}")
        elif done.exit_code == 2 and not (done.stderr.startswith("error: ") and len(done.stderr) < 3_000):
            problems.append(f"{number}: {done.stderr}")
        before, peak = peak, peak_bytes()
        if before < most_bytes <= peak:
            problems.append(f"{number}: {peak / 1e6:,.0f} MB after {before / 1e6:,.0f} MB for\n{text}")
    return problems


def peak_bytes() -> int:
    """The most memory that this program has had; 0 where the system has no /proc. `getrusage` counts the process that
    started it, too: a child begins as its copy."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_300_hostile_sweeps_are_planned_or_refused(tmp_path: Path, tiny_model: Path) -> None:
    assert outcomes(sweep_texts(0, 300, tiny_model), tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 1 + MANY // BATCH))
def test_5000_hostile_sweeps_neither_spin_nor_take_a_gigabyte(seed: int, tmp_path: Path, tiny_model: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, __file__, str(seed), str(BATCH), str(tiny_model), str(tmp_path)]
    limit = 60 + SECONDS_EACH * BATCH
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True, env=environment)
    assert json.loads(done.stdout.splitlines()[-1]) == []


NONSENSE = (
    *("samples: []", "samples: 0", "samples: -5", "samples: 1.5", "samples: true", "samples: 1:30", "samples: some"),
    *("samples: 1000000", "samples: 1e30", "samples: [[8]]", "samples: null", "samples: {a: 1}"),
    *("seeds: [-1]", "seeds: [4294967296]", "seeds: []", "seeds: [0.5]", "seeds: [true]", "seeds: one"),
    *("methods: []", "methods: lorra", "methods: 5", "methods: [5]", "methods: {}", "methods: ':x'", "methods: 'x:'"),
    *("methods: '.x:y'", "methods: 'bench.methods.method:Method'", "methods: 'bench.methods.stacked:Stacked'"),
    *(
        f"methods: [{{method: lora, {setting}}}]"
        for setting in (
            *("rank: []", "rank: 0", "rank: -1", "rank: 1.5", "rank: true", "rank: x", "rank: 1e9", "rank: null"),
            *(
                "lr: []",
                "lr: 0",
                "lr: -1",
                "lr: 1e30",
                "lr: 1e-300",
                "lr: true",
                "alpha: []",
                "alpha: 0",
                "alpha: 1e30",
            ),
            *("dropout: 1", "dropout: -0.1", "r: 8", "targets: []", "target_modules: []", "target_modules: [x]"),
            *("init: pissa_niter_100000", "lr_ratio: 1e30", "lora_alpha: 3", "epochs: 3", "rank: 08x", "'': 1"),
        )
    ),
    *(
        "methods: [{method: base, rank: 8}]",
        "methods: [{method: loreft, layers: []}]",
        "methods: [{method: loreft, first: -1}]",
    ),
    *("methods: [{method: loreft, layers: [-1]}]", "methods: [{method: galore, update_gap: 0}]"),
    *(
        "methods: [{method: galore, scale: 1e30}]",
        "methods: [{method: full, rank: 8}]",
        "methods: [{method: full, r: 8}]",
    ),
    *("methods: [{method: loha, peft: {r: x}}]", "methods: [{method: loha, peft: {r: true}}]"),
    *("methods: [{method: loha, peft: {r: 1.5}}]", "methods: [{method: loha, peft: {alpha: 1e30}}]"),
    *("methods: [{method: loha, peft: {module_dropout: 1e30}}]", "methods: [{method: loha, peft: {init_weights: 3}}]"),
    *(
        f"training: {{{setting}}}"
        for setting in ("epochs: 0", "epochs: -1", "epochs: 1e30", "epochs: 1e-300", "epochs: []")
    ),
    *(f"training: {{{setting}}}" for setting in ("batch_size: 0", "batch_size: 1e30", "batch_size: true", "lr: 1")),
    *(f"training: {{{setting}}}" for setting in ("weight_decay: 1e9", "weight_decay: -1", "max_length: 100000")),
    *(f"training: {{{setting}}}" for setting in ("max_length: 0", "max_grad_norm: 0", "warmup_ratio: 1", "devices: 0")),
    *(f"training: {{{setting}}}" for setting in ("warmup_steps: -1", "logging_steps: 0", "checkpoint_minutes: -1")),
    *("epochs: 2", "learning_rate: 1e-4", "rank: 8", "limit: 5", "x: 1", "seed: 0", "extends: 5", "extends: [a]"),
    *("data: {train: []}", "data: {train: x}", "data: {dir: /nonexistent}", "data: {alpaca: /nonexistent}"),
    *("data: {seed: -1}", "data: {development: -1}", "data: {held_out: true}", "data: {subset_seed: 4294967296}"),
    *("data: {sets: {x: {train: /nonexistent, columns: {prompt: a, answer: b}}}}", "data: 5", "data: null"),
    *("report: {tie_margin: .inf}", "report: {tie_margin: 0}", "report: {tie_margin: 1e9}", "report: {baseline: x}"),
    *("run: {cell_timeout: 0}", "run: {silence_timeout: 1e30}", "costs: {inference: maybe}"),
    *("evaluation: {limit: 0}", "evaluation: {tasks: []}", "evaluation: {tasks: [x]}", "evaluation: {protocol: []}"),
    *(
        "evaluation: {batch_size: 0}",
        "evaluation: {tasks: ['lm_eval:no_such_task_']}",
        "evaluation: {tasks: ['lm_eval:']}",
    ),
    *("answers: {questions: []}", "answers: {max_new_tokens: 0}", "answers: {max_new_tokens: 100000}"),
    *("tune: {trials: 1e9}", "tune: {trials: 1}", "tune: {budget: 0}", "tune: {lr: {lora: []}}", "tune: {seed: 0}"),
    *("tune: {lr: {lora: [1e30, 1]}}", "name: ''", "name: a/b", f"name: {'x' * 200}", "name: 5", "base_model: []"),
    *(f"seeds: [{'1,' * 60_000}]", f"note: {'9' * 5000}", "note: " + "[" * 5000, "note: [.inf]", "note: &a [*a]"),
    "training: {epochs: [" + ", ".join(map(str, range(1, 400))) + "], batch_size: [" + "8, " * 400 + "]}",
    "seeds: [" + ", ".join(map(str, range(40_000))) + "]\nsamples: [8, 16]",
    "seeds: 0\nseeds: 1",
)
"""Lines that replace those of a valid sweep."""

VALID = """\
name: fuzz
base_model: {{id: {model}, dtype: float32}}
data: {{train: [world_two]}}
methods: [{{method: lora, rank: 2}}]
samples: 8
seeds: 0
training: {{batch_size: 4}}
evaluation: {{limit: 2}}
costs: {{inference: false}}
"""


def changed(line: str, model: Path) -> str:
    keys = {part.partition(":")[0] for part in line.splitlines()}
    kept = [rest for rest in VALID.format(model=model).splitlines() if rest.partition(":")[0] not in keys]
    return "\n".join([*kept, line]) + "\n"


def test_the_sweep_that_nonsense_is_put_into_is_valid(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(changed("note: fine", tiny_model))
    assert bench("plan", tmp_path / "sweep.yaml", "--results", tmp_path).exit_code == 0


@pytest.mark.parametrize("line", NONSENSE, ids=lambda line: line[:60])
def test_no_nonsense_is_accepted(line: str, tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(changed(line, tiny_model))
    done = bench("plan", path, "--results", tmp_path)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ") and len(done.stderr) < 3_000


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("methods: [{method: lora, rank: 8.0}]", "lora-r8-n8-s0"),
        ("methods: [{method: lora, rank: 08}]", "lora-r8-n8-s0"),
        ("methods: [{method: lora, rank: '8'}]", "lora-r8-n8-s0"),
        ("methods: [{method: loha, peft: {r: '8'}}]", "loha-r8-n8-s0"),
        ("methods: [{method: loha, peft: {r: 8.0}}]", "loha-r8-n8-s0"),
        ("samples: 040", "lora-r2-n40-s0"),
        ("seeds: 4294967295", "lora-r2-n8-s4294967295"),
    ],
)
def test_a_number_is_read_however_it_is_written(line: str, name: str, tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(changed(line, tiny_model))
    done = bench("plan", path, "--results", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    assert [cell["name"] for cell in json.loads(done.stdout)["cells"]] == ["base", name]


def constraints(annotation: object, metadata: object = ()) -> Iterator[tuple[type, set[type]]]:
    """The numbers within a type, each with the kinds of its bounds."""
    bounds = set[type]()
    for constraint in metadata:
        bounds |= {type(part) for part in getattr(constraint, "metadata", [constraint])}
    if annotation in (int, float):
        yield annotation, bounds
    inner = getattr(annotation, "__metadata__", ())
    for part in getattr(annotation, "__args__", ()) if not inner else [annotation.__origin__]:
        yield from constraints(part, [*inner, *metadata])


MODELS = {
    **{name or "top level": model for name, model in SECTIONS.items()},
    **{n: m.Options for n, m in METHODS.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_number_has_bounds_and_is_described(name: str) -> None:
    model: type[BaseModel] = MODELS[name]
    for key, field in model.model_fields.items():
        for _, bounds in constraints(field.annotation, field.metadata):
            assert bounds & {Ge, Gt} and bounds & {Le, Lt}, key
            assert field.description, key


def main(seed: int, count: int, model: Path, folder: Path) -> None:
    print(json.dumps(outcomes(sweep_texts(seed, count, model), folder, 1e9)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
