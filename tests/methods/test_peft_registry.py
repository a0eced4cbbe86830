"""The registry covers the types of the installed PEFT."""

from __future__ import annotations

from helpers.methods import SETTINGS, TRAINED
from helpers.paths import ROOT

from bench import methods
from bench.methods.peft_configuration import configuration_classes
from bench.methods.peft_registry import PEFT_TYPES


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
