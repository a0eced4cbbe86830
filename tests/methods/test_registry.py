"""Methods are found by name, as pairs and as a user's own class; what all of them share; PEFT's types; targets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.methods import SETTINGS, TRAINED
from helpers.paths import ROOT
from transformers import AutoModelForCausalLM

from bench import methods
from bench.errors import UserError
from bench.methods.lora import Lora
from bench.methods.peft_configuration import configuration_classes
from bench.methods.peft_registry import PEFT_TYPES
from bench.methods.target_modules import linear_layers

OWN = """
from bench.methods import Method, MethodFacts, MethodOptions

class Own(Method):
    facts = MethodFacts(summary="a user's own", rank=None, shared_prefix="any", lr_center=None, source="-")
    Options = MethodOptions
"""


def test_every_method_has_the_name_by_which_it_is_found() -> None:
    assert methods.METHODS
    for name in methods.METHODS:
        assert methods.get(name).name == name


def test_a_pair_that_is_not_listed_is_built() -> None:
    pair = methods.get("noreft+vera")
    assert pair.name == "noreft+vera" and pair.facts.shared_prefix == "context"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dorra", "unknown method 'dorra'\n.*Did you mean 'dora'"),
        ("lora+loreft", "'lora' cannot be stacked on 'loreft'"),
        ("loreft+full", "loreft cannot be stacked on full"),
        ("loreft+prompt", "loreft cannot be stacked on prompt"),
        ("no_such_package:Own", "cannot import method"),
        ("json:loads", r"is no bench\.methods\.Method"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        methods.get(name)


def test_the_source_of_a_users_own_method_is_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_method_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    method = methods.get("own_method_of_a_test:Own")
    assert method.name == "own_method_of_a_test:Own"
    assert method.version == f"sha256:{hashlib.sha256(OWN.encode()).hexdigest()[:16]}"
    assert method.default_lr is None  # its settings name none


def test_a_missing_package_is_named_with_the_extra_that_installs_it() -> None:
    lacking = Lora.named("lacking", facts=replace(Lora.facts, needs={"a_package_that_nobody_has": "quant"}))
    with pytest.raises(UserError, match=r"lacking needs a_package_that_nobody_has.*\n.*bench-peft\[quant\]"):
        lacking.check_machine({"quantization": None})


def test_a_preset_learning_rate_comes_before_the_default() -> None:
    assert methods.get("lora").default_lr == 3e-4
    assert methods.get("dora").default_lr == 2e-4
    assert methods.get("base").default_lr is None


def test_importing_the_methods_imports_no_torch() -> None:
    code = "import sys, bench.methods.listing; print({'torch', 'peft', 'pyreft'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "set()"


def test_every_type_of_the_installed_peft_is_tried() -> None:
    """At least 40 of them run; those that do not say why, in the registry and in the docs."""
    installed = set(configuration_classes()) - {"DVORA"}
    assert installed <= set(PEFT_TYPES), "a new PEFT has new types: try them and add them to the table"
    refused = {name: PEFT_TYPES[name].unsupported for name in installed if PEFT_TYPES[name].unsupported}
    assert len(installed) - len(refused) >= 40
    tried = {
        methods.METHODS[name].preset["peft"]["peft_type"] for name in TRAINED if "peft" in methods.METHODS[name].preset
    }
    assert installed - set(refused) <= tried | {SETTINGS["peft"]["peft"]["peft_type"]}
    docs = (ROOT / "docs" / "methods.md").read_text()
    for name in installed:
        row = next(line for line in docs.splitlines() if line.startswith(f"| `{name}`"))
        assert f"`{PEFT_TYPES[name].name}`" in row and row.endswith("| no |" if name in refused else "| yes |")
    for why in refused.values():
        assert why in docs


def test_auto_targets_every_linear_layer_but_the_head(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert linear_layers(model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
