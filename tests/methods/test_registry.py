"""Methods are found by name, as pairs and as a user's own class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench import methods
from bench.errors import UserError

OWN = """
from bench.methods import Method, MethodFacts, MethodOptions

class Own(Method):
    facts = MethodFacts(summary="a user's own", rank=None, shared_prefix="any", lr_grid=(), source="-")
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
