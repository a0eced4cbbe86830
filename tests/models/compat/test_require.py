"""The check of assumptions about libraries' private parts."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from bench.models.compat import IncompatibleLibrary, require

LINK = "https://github.com/huggingface/peft/blob/main/src/peft/mapping.py"


def test_a_kept_assumption_passes() -> None:
    require(True, "peft", "a part", LINK)


def test_a_broken_assumption_names_the_library_its_version_the_part_and_the_link() -> None:
    with pytest.raises(IncompatibleLibrary) as raised:
        require(False, "peft", "the dictionary of tuners", LINK)
    for part in ("peft", version("peft"), "the dictionary of tuners", LINK):
        assert part in str(raised.value)


def test_a_library_that_is_not_installed_is_named_as_such() -> None:
    with pytest.raises(IncompatibleLibrary, match="no-such-library of unknown version"):
        require(False, "no-such-library", "a part", LINK)
