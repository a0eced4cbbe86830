"""What the base class of all methods does for them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from helpers.paths import ROOT

from bench import methods
from bench.errors import UserError
from bench.methods.lora import Lora


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
