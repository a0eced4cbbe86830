"""A plan: every cell is listed, and every committed sweep fits its base."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.families import save_family
from helpers.paths import CONFIGS
from helpers.sweeps import bench, sweep_file

from bench import methods
from bench.models.load import load_skeleton
from bench.sweep.load import load_sweep
from bench.sweep.schema import product_of_lists


def test_every_cell_has_a_line(tmp_path: Path, tiny_model: Path) -> None:
    done = bench("plan", sweep_file(tmp_path, tiny_model), "--results", tmp_path)
    assert done.exit_code == 0, done.output
    title, empty, heads, *lines = done.stdout.splitlines()
    assert (title, empty, " ".join(heads.split())) == (
        "tiny: 6 cells",
        "",
        "cell id state trainable % of base lr time memory disk GFLOPs time from",
    )
    found = {line.split()[0]: line.split()[2:] for line in lines[:6]}
    assert found["base"][:4] == ["todo", "-", "-", "-"]
    # Seven linear layers in each of two blocks: rank x (in + out); 32 x 32, with 16 for keys and values, and 64.
    trainable = 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert found["lora-r4-n32-s0"][:2] == ["todo", f"{trainable:,}"] and found["lora-r4-n32-s0"][3] == "0.01"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_of_every_config_fit_their_base(path: Path) -> None:
    """Without data and weights: a setting that a method does not know would show only where the data are."""
    sweep = load_sweep(path)
    for base in sweep.base_model:
        skeleton = load_skeleton(base.id, base.revision)
        for entry in sweep.methods:
            method = methods.get(entry["method"])
            settings = {key: value for key, value in entry.items() if key != "method"}
            for one in product_of_lists(method.Options, settings):
                assert method.resolve(one, skeleton)


def test_the_plan_says_which_share_of_a_mixture_of_experts_a_method_reaches(tmp_path: Path) -> None:
    folder = save_family("mixtral", tmp_path / "mixtral")
    path = tmp_path / "sweep.yaml"
    path.write_text(
        f"name: x\nbase_model: {{id: {folder}, dtype: float32}}\nsamples: 16\ntraining: {{batch_size: 8}}\n"
        "methods: [{method: lora, rank: [2, 4]}, {method: dora, rank: 2}, {method: full}]\n"
        "costs: {inference: false}\nevaluation: {limit: 2, tasks: [world_two]}\n"
    )
    done = bench("plan", path, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "in the blocks" in line]
    assert len(lines) == 1
    # Attention has 2 x 32 x 32 + 2 x 32 x 16 weights; 4 experts have 3 x 32 x 48 each, and the router 4 x 32.
    assert round(100 * 3072 / (3072 + 4 * 4608 + 128)) == 14
    assert lines[0].startswith("lora, dora: acts on 14 % of the weights")
