"""Finds the names in prose (docstrings, comments, pages, settings files) that nothing in the tree has.

`passages` takes the prose out of a file, `missing_names` follows each name in it:

- dotted names: modules and what they define (`bench.data.prepare`, `data.prepare`, `SweepData.subset`), and settings of
  a sweep file (`training.batch_size`);
- paths (`docs/methods.md`, `data/prepare.py`), and in Python files and pages about the tree names of Python files alone
  (`prepare.py`);
- in a page's drawings (blocks without a language) names of Python files;
- single names in backticks that have an underscore, two capitals or parentheses: they must occur in code;
- targets (`make test`) and commands with their options (`bench run --workers`).

A word is followed only if its form shows that it is meant as one of these. Names of other projects are written with
their package (`peft.tuners.lora`), or stand in `OF_OTHERS`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

NAME = r"[A-Za-z_]\w*"
BACKTICKED = re.compile(r"(?<!`)(`{1,2})([^`\n]+(?:\n[^`\n]+)?)\1(?!`)")
DOTTED = re.compile(rf"(?<![\w./:@-]){NAME}(?:\.{NAME})+(?![\w/-])")
PATH = re.compile(r"(?<![\w./:~<>{$-])[A-Za-z_][\w-]*(?:/[\w.-]*[\w*])+/?")
IMPORT = re.compile(rf"^\s*from (bench[\w.]*) import ((?:{NAME}(?:, )?)+)", re.M)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MAKE = re.compile(r"^(?:[A-Z_]+=\S* )*make ([a-z][\w-]*)")
ADDRESS = re.compile(r"\b(?:https?://|git\+|github:)\S+|\]\([^)]*\)")
OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")
SINGLE = re.compile(r"_{0,2}[A-Za-z]\w*(?:\(\))?")
FILE_ENDINGS = frozenset(
    [
        *("css", "csv", "html", "ipynb", "js", "json", "jsonl", "lock", "log", "md", "npz", "parquet", "pdf"),
        *("png", "py", "safetensors", "svg", "tex", "toml", "txt", "yaml", "zst"),
    ]
)
WORDS_OF = frozenset(["css", "csv", "html", "js", "jsonl", "py", "yaml"])
CHECKED_ENDINGS = (".py", ".md", ".yaml", ".ipynb", ".toml", ".lock")
OF_THE_TREE = ("design.md", "CONTRIBUTING.md")
"""Pages that name scripts of this tree only; others may name a script that their reader writes."""
OF_OTHERS = {
    "is_causal": "PyTorch, scaled_dot_product_attention",
    "load_best_model_at_end": "transformers, TrainingArguments",
    "NodireftIntervention": "pyreft",
    "pissa_niter_N": "PEFT, LoraConfig.init_lora_weights",
    "print_trainable_parameters": "PEFT, PeftModel",
    "trigger_tokens": "pyreft, examples/loreft",
}
"""Names of other projects that nothing in this tree's code uses, and whose they are."""


parsed = functools.cache(ast.parse)


@dataclass(frozen=True)
class Passage:
    """A piece of prose and the line of its file that it begins at."""

    line: int
    text: str


def passages(path: Path) -> list[Passage]:
    """The prose of a file: docstrings and comments of Python, comments of YAML and make, all of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [*_docstrings(text), *_comments(text)]
    if path.suffix == ".md":
        return [Passage(1, text)]
    lines = enumerate(text.splitlines(), start=1)
    return [Passage(number, found.group(1)) for number, line in lines if (found := re.search(r"(?:^|\s)# (.*)", line))]


def _docstrings(text: str) -> Iterator[Passage]:
    """Every text that is a statement by itself: docstrings of modules, classes and functions, and those of fields."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Passage(node.lineno, node.value.value)


def _comments(text: str) -> Iterator[Passage]:
    """Comments; those on lines that follow each other are one passage."""
    first, last, lines = 0, 0, []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if lines and line != last + 1:
            yield Passage(first, "\n".join(lines))
            lines = []
        first, last = (line if not lines else first), line
        lines.append(token.string.lstrip("# "))
    if lines:
        yield Passage(first, "\n".join(lines))


def _sources(root: Path) -> Iterator[Path]:
    for folder in ("bench", "tests", "configs"):
        yield from (path for path in (root / folder).rglob("*") if path.suffix[1:] in WORDS_OF)
    yield root / "pyproject.toml"


def _words(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"\w+", text))
    tree = parsed(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words: set[str] = set()
    for node in ast.walk(tree):
        if id(node) not in prose:
            for _, value in ast.iter_fields(node):  # names of every kind, and texts
                for part in value if isinstance(value, list) else [value]:
                    if isinstance(part, str):
                        words.update(re.findall(r"\w+", part))
    return words


@dataclass(frozen=True)
class _Class:
    node: ast.ClassDef
    module: str

    @cached_property
    def members(self) -> frozenset[str]:
        names = set(_defined(self.node.body))
        for node in ast.walk(self.node):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("self", "cls")
            ):
                names.add(node.attr)
        return frozenset(names)


def _defined(body: list[ast.stmt], imports: bool = False) -> Iterator[str]:
    """The names that statements define, also inside `if`, `try` and `with`; with `imports`, those that they import."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif imports and isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.For)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        for field in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With, ast.For)):
                yield from _defined(getattr(node, field, []), imports)


class Tree:
    """What a checkout has: modules and their names, files, targets of make, settings and commands."""

    def __init__(self, root: Path, settings: type[BaseModel], commands: Mapping[str, frozenset[str]]) -> None:
        self.root = root
        self.settings = settings
        self.commands = commands
        """The options of each command."""
        files = sorted([*(root / "bench").rglob("*.py"), *(root / "tests" / "helpers").rglob("*.py")])
        self.modules: dict[str, ast.Module] = {}
        self.names: dict[str, frozenset[str]] = {}
        """What each module defines; a package also has what it imports."""
        for path in files:
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[1:] if parts[0] == "tests" else parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.modules[name] = parsed(path.read_text(encoding="utf-8"))
            self.names[name] = frozenset(_defined(self.modules[name].body, imports=parts[-1] == "__init__"))
        self.classes: dict[str, list[_Class]] = {}
        for module, tree in self.modules.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, []).append(_Class(node, module))
        self.stems: dict[str, list[str]] = {}
        # The modules of `compat` are called like the libraries, whose own names are not followed.
        of_libraries = "bench.models.compat."
        for module in (name for name in self.modules if name.startswith("bench.") and of_libraries not in name):
            self.stems.setdefault(module.rpartition(".")[2], []).append(module)
        self.rooms = frozenset(path.name for path in (root / "bench").iterdir() if path.is_dir())
        self.words = frozenset(word for path in _sources(root) for word in _words(path))
        """Every word in the tree's code and data, prose left out."""
        self.scripts = frozenset(path.name for folder in ("bench", "tests") for path in (root / folder).rglob("*.py"))
        self.targets = frozenset(re.findall(r"^([a-z][\w-]*):", (root / "Makefile").read_text(encoding="utf-8"), re.M))

    def has_name(self, dotted: str) -> bool:
        """Whether a dotted name that begins with a package is a module, or something that a module defines."""
        parts = dotted.split(".")
        for size in range(len(parts), 0, -1):
            module = ".".join(parts[:size])
            if module in self.modules:
                return self._has_path(module, parts[size:])
        return False

    def _has_path(self, module: str, parts: list[str]) -> bool:
        if not parts:
            return True
        name, *more = parts
        if name not in self.names[module]:
            return False
        return not more or name not in self.classes or self.has_member(name, more[0])

    def has_member(self, name: str, member: str) -> bool:
        """Whether a class of this name, or one that it inherits from, has this member."""
        return any(
            member in owner.members
            or any(
                self.has_member(base, member) if base in self.classes else self._inherits(owner, member)
                for base in _bases(owner)
            )
            for owner in self.classes.get(name, ())
        )

    def _inherits(self, owner: _Class, member: str) -> bool:
        """Whether a class has this member from a library's, by import; where that is not installed, it may."""
        try:
            module = importlib.import_module(owner.module)
        except ImportError:
            return True
        return hasattr(getattr(module, owner.node.name, None), member)

    def has_setting(self, parts: list[str]) -> bool:
        """Whether a path of keys leads somewhere in a sweep file."""
        return _leads(self.settings, parts)

    def knows(self, dotted: str) -> bool | None:
        """Whether a dotted name is in the tree; None where it need not be one of ours."""
        head, *more = dotted.split(".")
        if head == "bench":
            return self.has_name(dotted)
        known = head in self.rooms or head in self.stems or head in self.classes or head in self.settings.model_fields
        if not known:
            return None
        if self.has_setting([head, *more]) or (head in self.rooms and self.has_name(f"bench.{dotted}")):
            return True
        if any(self.has_name(".".join([module, *more])) for module in self.stems.get(head, ())):
            return True
        # `plan.cells`: of a variable that is called like its class, or like the end of its name.
        ending = "".join(part.capitalize() for part in head.split("_"))
        return any(self.has_member(name, more[0]) for name in self.classes if name == head or name.endswith(ending))


def _bases(owner: _Class) -> list[str]:
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in owner.node.bases]


def _leads(annotation: Any, parts: list[str]) -> bool:
    if not parts:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(parts[0])
        return field is not None and _leads(field.annotation, parts[1:])
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if getattr(annotation, "__origin__", None) is dict:
        return _leads(inner[1], parts[1:])
    return any(_leads(part, parts) for part in inner)


def missing_names(text: str, path: Path, tree: Tree) -> list[str]:
    """The names in a piece of prose that the tree does not have. `path`: the file that the prose is in."""
    text = ADDRESS.sub(" ", text)
    missing = []
    for module, names in IMPORT.findall(text):
        missing += [f"{module}.{name}" for name in names.split(", ") if not tree.has_name(f"{module}.{name}")]
    for match in DOTTED.finditer(text):
        dotted = match.group()
        head = dotted.partition(".")[0]
        backticked = text[match.start() - 1 : match.start()] == "`"
        if dotted.rpartition(".")[2] in FILE_ENDINGS or not (backticked or head == "bench" or head in tree.rooms):
            continue
        if tree.knows(dotted) is False:
            missing.append(dotted)
    missing += [name for name in PATH.findall(text) if not _has_file(name, path.parent, tree)]
    for _, quoted in BACKTICKED.findall(text):
        missing += _missing_commands(" ".join(quoted.split()), tree)
        if _is_code(quoted) and quoted.removesuffix("()") not in tree.words | OF_OTHERS.keys():
            missing.append(quoted)
        if (
            (path.suffix == ".py" or path.name in OF_THE_TREE)
            and re.fullmatch(r"\w+\.py", quoted)
            and quoted not in tree.scripts
        ):
            missing.append(quoted)
    drawings = (block for language, block in BLOCK.findall(text) if not language)
    scripts = (name for drawing in drawings for name in re.findall(r"(?<![\w./])\w+\.py\b", drawing))
    missing += [name for name in scripts if name not in tree.scripts]
    return list(dict.fromkeys(missing))


def _is_code(quoted: str) -> bool:
    """Whether something in backticks can only be a name in code, not a value or a word."""
    if not SINGLE.fullmatch(quoted):
        return False
    return "_" in quoted.strip("_") or quoted.endswith("()") or bool(re.fullmatch(r"_?(?:[A-Z][a-z]+){2,}", quoted))


def _has_file(path: str, folder: Path, tree: Tree) -> bool:
    """Whether a path exists; True for a path that need not be one of ours."""
    first = path.partition("/")[0]
    ours = first in ("bench", "docs", "configs", "tests", "notebooks") or (
        first in tree.rooms and path.endswith(CHECKED_ENDINGS)
    )
    if not ours:
        return True
    roots = (tree.root, tree.root / "bench", tree.root / "tests", folder)
    return any(next(iter(root.glob(path.rstrip("/"))), None) is not None for root in roots)


def _missing_commands(quoted: str, tree: Tree) -> list[str]:
    made = MAKE.match(quoted)
    if made and made.group(1) not in tree.targets:
        return [f"make {made.group(1)}"]
    words = quoted.split()
    if len(words) < 2 or words[0] != "bench" or not re.fullmatch(r"[a-z][a-z-]*", words[1]):
        return []
    if words[1] not in tree.commands:
        return [f"bench {words[1]}"]
    options = OPTION.findall(quoted)
    return [f"bench {words[1]} {option}" for option in options if option not in tree.commands[words[1]]]
