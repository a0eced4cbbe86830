"""A model's own code: never asked about, never run unless the sweep trusts it, and then part of the identity."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers.sweeps import bench, sweep_file

from bench.errors import UserError
from bench.export import export
from bench.models.load import load_model, load_skeleton, load_tokenizer
from bench.models.locate import find_base, pin_base
from bench.store.folder import Results
from bench.sweep.cell import BaseIdentity, Cell

CODE = """
import os
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(os.environ["RAN"]).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose architecture is in its own code; the file $RAN shows that the code ran."""
    folder = tmp_path / "own"
    shutil.copytree(tiny_model, folder)
    (folder / "modeling_own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))  # who is asked says yes
    return folder


def test_it_is_not_run_and_nobody_is_asked(own_code: Path, tmp_path: Path) -> None:
    path = sweep_file(tmp_path, own_code)
    for command in ("plan", "run"):
        done = bench(command, path, "--results", tmp_path / "r")
        assert done.exit_code == 2 and "base_model.trust_remote_code: true" in done.output, done.output
        assert "[y/N]" not in done.output
    assert not (tmp_path / "ran").exists() and not (tmp_path / "r").exists()
    assert sys.stdin.read(1) == "y"  # nothing was read of it


def test_a_known_architecture_with_code_of_its_own_runs_without_it(own_code: Path, tmp_path: Path) -> None:
    config = json.loads((own_code / "config.json").read_text())
    (own_code / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    base = find_base(str(own_code))
    assert type(load_skeleton(str(own_code))).__module__.startswith("transformers.models.llama")
    assert type(load_model(base, "float32")).__module__.startswith("transformers.models.llama")
    load_tokenizer(base)
    assert not (tmp_path / "ran").exists()


def test_it_runs_where_it_is_trusted_and_is_part_of_the_cells(own_code: Path, tmp_path: Path) -> None:
    path = sweep_file(tmp_path, own_code)
    only = ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]", "--set", "evaluation.tasks=[world_two]")
    trusted = ("--set", "base_model.trust_remote_code=true", "--workers", "0")
    done = bench("run", path, "--results", tmp_path / "r", *only, *trusted)
    assert done.exit_code == 0 and (tmp_path / "ran").exists(), done.output
    folder = next(one for one in Results(tmp_path / "r" / "tiny").folders() if "lora" in one.path.name)
    assert folder.cell().base.trust_remote_code
    before = pin_base(str(own_code), None, True)
    assert before != pin_base(str(own_code), None, False)
    with pytest.raises(UserError, match="--trust-remote-code"):
        export(folder, tmp_path / "merged", merged=True, base=str(own_code))
    export(folder, tmp_path / "merged", merged=True, base=str(own_code), trust_remote_code=True)


def test_cells_without_it_keep_the_identity_that_they_had() -> None:
    base = BaseIdentity(id="m", revision="r", dtype="float32")
    cell = Cell(base=base, method="base", method_version="1", options={}, samples=0, seed=0)
    assert cell.model_dump(mode="json")["base"] == {"id": "m", "revision": "r", "dtype": "float32"}
    trusted = cell.model_copy(update={"base": base.model_copy(update={"trust_remote_code": True})})
    assert cell.id != trusted.id and Cell.model_validate(trusted.model_dump()) == trusted
