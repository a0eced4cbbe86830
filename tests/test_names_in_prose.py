"""Names in docstrings, comments, pages and settings files are names of something that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.paths import CONFIGS, ROOT
from helpers.prose import Tree, missing_names, passages
from pydantic import BaseModel, create_model
from typer.main import get_command

from bench.cli import app
from bench.sweep.schema import Sweep
from bench.sweep.sections import TrainingConfig

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]
FILES = sorted(
    path
    for folder, suffixes in {
        "bench": (".py", ".yaml"),
        "tests": (".py",),
        "configs": (".yaml",),
        "docs": (".md",),
    }.items()
    for path in (ROOT / folder).rglob("*")
    if path.suffix in suffixes
) + [path for path in PAGES if path.is_file()]


@pytest.fixture(scope="module")
def tree() -> Tree:
    """The checkout."""
    commands = {
        name: frozenset(
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        )
        for name, command in get_command(app).commands.items()
    }
    # A sweep file may give several values to each training setting; those that a cell has are named.
    settings = create_model("Settings", __base__=Sweep, training=(TrainingConfig, ...))
    return Tree(ROOT, settings, commands)


def test_every_name_in_prose_exists(tree: Tree) -> None:
    assert CONFIGS / "quickstart.yaml" in FILES and ROOT / "docs" / "design.md" in FILES and len(FILES) > 200
    missing = [
        f"{path.relative_to(ROOT)}:{passage.line}: {name}"
        for path in FILES
        for passage in passages(path)
        for name in missing_names(passage.text, path, tree)
    ]
    assert not missing, "these names are in prose and nowhere else:\n" + "\n".join(missing)


class Section(BaseModel):
    batch_size: int = 8


class Settings(BaseModel):
    training: Section = Section()
    sets: dict[str, Section] = {}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree of three modules, a page and a Makefile."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("bench/training", "bench/data", "tests/helpers", "docs", "configs"):
        (root / folder).mkdir(parents=True)
    for package in ("bench", "bench/training", "bench/data"):
        (root / package / "__init__.py").write_text("")
    (root / "bench/training/loop.py").write_text("class Loop:\n    step_count: int\n\n    def run(self) -> None: ...\n")
    (root / "bench/data/encoding.py").write_text("IGNORED = -100\n\n\ndef encode_pair(): ...\n")
    (root / "docs/methods.md").write_text("")
    (root / "Makefile").write_text("test: all\n\techo\n")
    (root / "pyproject.toml").write_text("")
    return Tree(root, Settings, {"run": frozenset({"--workers"})})


def missing_in(text: str, tree: Tree, file: str = "bench/data/encoding.py") -> list[str]:
    return missing_names(text, tree.root / file, tree)


@pytest.mark.parametrize(
    "text",
    [
        "see bench.data.encoding.encode_pair, bench.training and bench.training.loop.Loop.run",
        "split at the end (encoding.encode_pair), and `data.encoding.IGNORED` there",
        "`encoding.encode_pair`, `loop.step_count`, `Loop.step_count`, `encode_pair()` and `step_count`",
        "by `training.batch_size` or training.batch_size, of which `sets.mine.batch_size` is one",
        "docs/methods.md, `data/encoding.py`, bench/*/loop.py, `encoding.py` and [a page](https://x.y/docs/none.md)",
        "`make test`, `WORKERS=2 make test` and `bench run sweep.yaml --workers 2`",
        "words like `alpaca`, `NaN` and `LoRA`; files like `report.html` and `plan.json`; e.g. upstream/path/train.py",
        "of others: `peft.tuners.lora.Linear`, torch.nn.Linear, `trigger_tokens`",
        "from bench.data.encoding import encode_pair, IGNORED",
    ],
)
def test_names_that_exist_pass(text: str, small: Tree) -> None:
    assert missing_in(text, small) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("comes from `bench.data.own`.", ["bench.data.own"]),
        ("bench.data.encoding.encode_pairs", ["bench.data.encoding.encode_pairs"]),
        ("the tokens (training.encode_pair) of", ["training.encode_pair"]),
        ("`loop.walk` and `Loop.walk`", ["loop.walk", "Loop.walk"]),
        ("bench.training.loop.Loop.walk", ["bench.training.loop.Loop.walk"]),
        ("`training.batch_sizes`", ["training.batch_sizes"]),
        ("docs/method.md and `data/decoding.py`", ["docs/method.md", "data/decoding.py"]),
        ("`decoding.py`", ["decoding.py"]),
        ("```bash\npython mine.py\n```\n\n```\nencoding.py -> decoding.py\n```", ["decoding.py"]),
        (
            "`make tests` or `bench walk` or `bench run x.yaml --worker 2`",
            ["make tests", "bench walk", "bench run --worker"],
        ),
        ("`encode_pairs` and `decode()` and `EncodedPairs`", ["encode_pairs", "decode()", "EncodedPairs"]),
        ("from bench.data.encoding import encode_pair, decode", ["bench.data.encoding.decode"]),
    ],
)
def test_names_that_do_not_exist_are_found(text: str, names: list[str], small: Tree) -> None:
    assert sorted(missing_in(text, small)) == sorted(names)


def test_a_page_may_name_a_script_that_its_reader_writes(small: Tree) -> None:
    assert missing_in("`my_method.py`", small, "docs/methods.md") == []
    assert missing_in("`my_method.py`", small, "docs/design.md") == ["my_method.py"]


def test_prose_is_docstrings_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""A."""\nx = "no prose"  # B\n\n# C\n# D\nclass Y:\n    z: int\n    """E."""\n')
    assert [(one.line, one.text) for one in passages(path)] == [(1, "A."), (8, "E."), (2, "B"), (4, "C\nD")]
    path = tmp_path / "settings.yaml"
    path.write_text("# A\nkey: a#b  # B\n")
    assert [(one.line, one.text) for one in passages(path)] == [(1, "A"), (2, "B")]
