"""YAML as sweep files have it: scalars of YAML 1.2, each key once, and hostile files refused at once."""

from __future__ import annotations

import pytest
import yaml

from bench.sweep.yaml12 import MAX_CHARACTERS, MAX_DEPTH, MAX_TEXT, dump_yaml, parse_yaml

SCALARS = {
    "040": 40,  # YAML 1.1: 32
    "08": 8,
    "1:30": "1:30",  # 90
    "1e-4": 1e-4,  # a text
    "yes": "yes",  # true
    "off": "off",
    "0o17": 15,
    "0x1F": 31,
    "+12": 12,
    "-.5": -0.5,
    "8.": 8.0,
    "1_000": "1_000",  # 1000
    "2020-01-01": "2020-01-01",  # a date
    "=": "=",
    "": None,
    "~": None,
    "Null": None,
    "True": True,
    "FALSE": False,
    "tRUE": "tRUE",
    "'8'": "8",
    "!!str 8": "8",
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_those_of_yaml_1_2(text: str) -> None:
    value = parse_yaml(f"key: {text}")
    assert value == {"key": SCALARS[text]} and type(value["key"]) is type(SCALARS[text])


REFUSED = {
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key a is given twice"),
    "a key twice within a section": ("a: {b: 1, 'b': 1}", "the key b is given twice"),
    "a number as a key twice": ("1: 2\n'1': 3", "the key 1 is given twice"),
    "a list as a key": ("? [a]\n: b", "a list or mapping cannot be a key"),
    "infinity": ("a: .inf", ".inf is not a finite number"),
    "minus infinity": ("a: -.Inf", "-.Inf is not a finite number"),
    "no number": ("a: .nan", ".nan is not a finite number"),
    "an infinity that is spelled out": ("a: 1e999", "1e999 is not a finite number"),
    "an integer of 5,000 digits": ("a: " + "9" * 5000, "a number of 5,000 digits is too long"),
    "a hexadecimal integer of 5,000 digits": ("a: 0x" + "f" * 5000, "digits is too long"),
    "a long text": ("a: " + "x" * (MAX_TEXT + 1), "characters; at most"),
    "deep lists": ("[" * 100_000, f"nested more than {MAX_DEPTH} deep"),
    "deep mappings": ("{a: " * 100_000, f"nested more than {MAX_DEPTH} deep"),
    "deep items": ("- " * 100_000, f"nested more than {MAX_DEPTH} deep"),
    "a list within itself": ("a: &a [*a]", "stands for nothing"),
    "aliases that multiply": (
        "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
        "more than 50,000 values",
    ),
    "200,000 values": (f"a: [{'1,' * 200_000}]", "more than 50,000 values"),
    "a file without end": (" " * (MAX_CHARACTERS + 1), "more than 1,000,000 characters"),
    "an object of Python's": ("a: !!python/object/apply:os.system [x]", "the tag !!python/object/apply:os.system"),
    "a set": ("a: !!set {b}", "the tag !!set has no place"),
    "a mapping that is none": ("!!map [1]", "expected a mapping"),
    "a tag that does not fit": ("a: !!int x", "x is not a whole number"),
    "a boolean that is none": ("a: !!bool maybe", "neither true nor false"),
    "a null character": ('a: "\\0"', "null character"),
    "half of a surrogate pair": ('a: "\\ud800"', ""),
    "two documents": ("a: 1\n---\nb: 2", "a single document"),
    "an open bracket": ("a: [1", "line 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_sweep_file_is_refused_in_one_line(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_aliases_and_merge_keys_are_read() -> None:
    text = "base: &base {rank: 8, lr: 1e-3}\nother: {<<: *base, rank: 4}\nagain: *base"
    base = {"rank": 8, "lr": 1e-3}
    assert parse_yaml(text) == {"base": base, "other": {"rank": 4, "lr": 1e-3}, "again": base}


def test_keys_are_texts_as_they_are_written() -> None:
    assert parse_yaml("{1: a, true: b, 07: c}") == {"1": "a", "true": "b", "07": "c"}


def test_both_versions_of_yaml_read_what_is_written() -> None:
    texts = [
        "1e-4",
        "0o10",
        "040",
        "1:30",
        "yes",
        "null",
        "~",
        "",
        "2020-01-01",
        ".inf",
        "<<",
        "8",
        "a: b",
        "ü",
        "'",
        "#",
    ]
    value = {"texts": texts, "numbers": [0, -1, 1e-5, 0.1, 1e30], "rest": [True, None, {}, [], {"a": [{"b": "c"}]}]}
    written = dump_yaml(value)
    assert parse_yaml(written) == value and yaml.safe_load(written) == value
