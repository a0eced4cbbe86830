"""Every setting tried on a tiny copy of its base: what would fail in the night is refused in the plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sweeps import bench

from bench.errors import UserError
from bench.methods import METHODS
from bench.models.device import compute_device, on_cpu
from bench.planning.build import make_plan
from bench.planning.dry_run import DryRun
from bench.planning.plan import Plan
from bench.planning.try_settings import try_settings
from bench.progress import Progress
from bench.store.folder import Results
from bench.sweep.schema import Sweep


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing has been tried before."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def plan_of(base: str | Path, methods: list[Any], **settings: Any) -> Plan:
    base_model = {"id": str(base), "dtype": "float32"}
    content = {"name": "dry", "base_model": base_model, "methods": methods, "samples": 64, "evaluation": {"limit": 2}}
    return make_plan(Sweep.model_validate({**content, **settings}))


def tried(plan: Plan, results: Path, **options: Any) -> Plan:
    return try_settings(plan, Results(results), Progress(), **options)


BROKEN = """
from bench.methods.lora import Lora


class {name}(Lora):
    {verb}
"""
VERBS = {
    "Train": ("training", "def penalty(self, model, cell): raise RuntimeError('no penalty')"),
    "Save": ("saving", "def save(self, model, folder): raise OSError('nowhere')"),
    "Forget": (
        "loading what was saved",
        "def load(self, model, folder, cell):\n"
        "        model = super().load(model, folder, cell)\n"
        "        [p.data.add_(1) for n, p in model.named_parameters() if 'lora_B' in n]\n"
        "        return model",
    ),
    "Merge": (
        "merging",
        "def merge(self, model):\n"
        "        model = super().merge(model)\n"
        "        model.get_output_embeddings().weight.data.mul_(-3)\n"
        "        return model",
    ),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_fault_at_any_stage_is_found_and_named(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untried: None
) -> None:
    stage, verb = VERBS[name]
    (tmp_path / f"broken_{name.lower()}.py").write_text(BROKEN.format(name=name, verb=verb))
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = tried(plan_of(tiny_model, ["lora", f"broken_{name.lower()}:{name}"]), tmp_path / "results")
    (refusal,) = plan.refused
    assert refusal.what.startswith(f"broken_{name.lower()}:{name}") and refusal.problem.startswith(f"{stage} fails: ")
    assert {planned.cell.method for planned in plan.cells} == {"base", "lora"}
    assert plan.record().refused == [f"{refusal.what}: {refusal.problem}"]


def test_one_setting_that_fails_costs_its_own_cells_and_strict_makes_it_an_error(
    tiny_model: Path, tmp_path: Path, untried: None
) -> None:
    """OLoRA takes the QR of nn.Linear's weight; on a layer of another kind PEFT raises. Here: an embedding."""
    methods = [{"method": "lora", "rank": [2, 4]}, {"method": "pissa", "rank": 2, "target_modules": ["embed_tokens"]}]
    plan = plan_of(tiny_model, methods, seeds=[0, 1])
    kept = tried(plan, tmp_path)
    assert len(plan.cells) == 1 + 4 + 2 and len(kept.cells) == 1 + 4
    assert "pissa" in kept.refused[0].what and "attaching fails" in kept.refused[0].problem
    with pytest.raises(UserError, match=r"pissa at rank 2 .*attaching fails"):
        tried(plan, tmp_path, strict=True)
    with pytest.raises(UserError, match=r"pissa at rank 2 .*attaching fails"):
        tried(plan_of(tiny_model, methods[1:]), tmp_path)


@pytest.mark.parametrize("settings", [{"lora_alpha": 0}, {"lora_dropout": 1.0}])
def test_settings_that_no_gradient_passes_are_refused(
    settings: dict[str, float], tiny_model: Path, tmp_path: Path, untried: None
) -> None:
    """A cell of them would be trained for its whole time, and be the untuned base."""
    peft = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], **settings}
    kept = tried(plan_of(tiny_model, ["lora", {"method": "peft", "lr": 1e-3, "peft": peft}]), tmp_path)
    (refusal,) = kept.refused
    assert refusal.what.startswith("peft") and "all gradients are 0" in refusal.problem


def test_the_command_goes_on_with_the_others_and_the_report_says_so(tiny_model: Path, tmp_path: Path) -> None:
    content = {
        "name": "dry",
        "base_model": {"id": str(tiny_model), "dtype": "float32"},
        "methods": [
            {"method": "lora", "rank": 2, "target_modules": ["q_proj"]},
            {"method": "pissa", "rank": 2, "target_modules": ["embed_tokens"]},
        ],
        "samples": 64,
        "evaluation": {"limit": 2},
    }
    path = tmp_path / "dry.yaml"
    path.write_text(json.dumps(content))
    listed = bench("plan", path, "--results", tmp_path)
    assert listed.exit_code == 0 and "cannot run: pissa at rank 2" in listed.stdout
    assert bench("plan", path, "--results", tmp_path, "--strict").exit_code == 2
    done = bench("run", path, "--results", tmp_path, "--workers", "0")
    assert done.exit_code == 0, done.output
    assert "not run: pissa at rank 2" in (tmp_path / "dry" / "report" / "report.md").read_text()


def test_a_bad_base_costs_its_own_cells(tiny_model: Path, tmp_path: Path) -> None:
    bases = [{"id": str(tiny_model), "dtype": "float32"}, {"id": str(tmp_path / "none"), "dtype": "float32"}]
    content = {"name": "two", "base_model": bases, "methods": ["lora"], "samples": 64, "evaluation": {"limit": 2}}
    sweep = Sweep.model_validate(content)
    plan = make_plan(sweep)
    assert [refusal.what for refusal in plan.refused] == [f"base model {tmp_path / 'none'}"]
    assert {planned.base.id for planned in plan.cells} == {str(tiny_model)}
    with pytest.raises(UserError, match="no folder"):
        make_plan(sweep, strict=True)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}, "awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "weird"}, "weird"),
        ({}, "of no kind"),
    ],
)
def test_a_base_that_is_quantized_already_is_refused_by_its_kind(
    settings: dict[str, Any], kind: str, tiny_model: Path, tmp_path: Path, untried: None
) -> None:
    base = tmp_path / "quantized"
    shutil.copytree(tiny_model, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    with pytest.raises(
        UserError, match=rf"its weights are quantized already \({kind}, by its config\.json\)"
    ) as raised:
        tried(plan_of(base, ["lora"]), tmp_path)
    assert "Give the model in floats" in raised.value.fix


def test_a_setting_of_wrong_type_is_an_error_of_the_sweep(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="rank"):
        plan_of(tiny_model, ["lora", {"method": "dora", "rank": "many"}])


def test_what_has_passed_is_not_tried_again(
    tiny_model: Path, tmp_path: Path, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tiny_model, [{"method": "lora", "rank": 2}], seeds=[0, 1])
    counted: list[str] = []
    real = DryRun.try_setting

    def counting(self: DryRun, planned: Any, all_layers: bool = False) -> bool:
        counted.append(planned.cell.method)
        return real(self, planned, all_layers)

    monkeypatch.setattr(DryRun, "try_setting", counting)
    state = torch.random.get_rng_state()
    assert tried(plan, tmp_path).cells == plan.cells
    assert torch.random.get_rng_state().equal(state)
    assert tried(plan, tmp_path).cells == plan.cells
    assert counted == ["base", "lora"]
    other = plan_of(tiny_model, [{"method": "lora", "rank": 2, "dropout": 0.5}])
    tried(other, tmp_path)
    assert counted == ["base", "lora", "lora"]


def test_on_a_cpu_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compute_device().type == "cuda"
    with on_cpu():
        assert compute_device().type == "cpu"
    assert compute_device().type == "cuda"


@pytest.mark.slow
def test_every_method_passes_on_a_llama(tiny_model: Path, tmp_path: Path) -> None:
    runnable = [name for name in METHODS if name != "base"]
    plan = plan_of(tiny_model, runnable)
    assert tried(plan, tmp_path).refused == plan.refused
