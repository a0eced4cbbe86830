"""The tasks. The eight commonsense tasks are the YAML files of this folder.

A task file is an lm-eval task file, which lm-eval can run alone. Its `metadata` has what lm-eval has no field for: the
version, the primary metric (acc_norm where it is usual with lm-eval, else acc), LLM-Adapters' folder and wording. The
tasks of the built-in world are in `bench.data.synthetic.world`; those of a user's own data in the sweep file.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.data.questions import Wording

FOLDER = Path(__file__).parent


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's `!function module.name` as a text: lm-eval gets documents from us, so it needs no function."""


def _function_name(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    return str(loader.construct_scalar(node))


_Loader.add_constructor("!function", _function_name)


@dataclass(frozen=True)
class TaskSource:
    """Where the questions of a commonsense task come from: a hub data set, or LLM-Adapters' folder of JSON files."""

    hub: str
    revision: str
    training_configs: tuple[str | None, ...]
    test_config: str | None
    training_split: str
    test_split: str
    folder: str
    """The folder's name in LLM-Adapters' data."""


@dataclass(frozen=True)
class Task:
    """A set of questions that cells are scored on."""

    name: str
    wording: Wording
    primary: str = "acc"
    """The metric that averages over tasks use, fixed in advance."""
    version: int = 1
    source: TaskSource | None = None
    """For a commonsense task."""
    lm_eval: str = ""
    """The name of lm-eval's task of the same questions; empty where lm-eval has none."""
    parsed_answers: int = 0
    """How many answer names LLM-Adapters' parser looks for at least, whatever the number of choices."""

    def primary_in(self, format: str) -> str:
        """The primary metric in a format. With choices named `answer1` ..., all of one length, it is acc."""
        return self.primary if format in ("question", "lm_eval") else "acc"


@functools.cache
def commonsense_tasks() -> dict[str, Task]:
    """The eight tasks by name, read from their files."""
    tasks = {}
    for path in sorted(FOLDER.glob("[!_]*.yaml")):
        definition = yaml.load(path.read_text(), _Loader)
        metadata = definition["metadata"]
        tasks[definition["task"]] = Task(
            name=definition["task"],
            wording=Wording(**metadata["wording"]),
            primary=metadata["primary"],
            version=metadata["version"],
            source=TaskSource(
                hub=definition["dataset_path"],
                revision=definition["dataset_kwargs"]["revision"],
                training_configs=tuple(metadata.get("training_configs", [definition["dataset_name"]])),
                test_config=definition["dataset_name"],
                training_split=definition["training_split"],
                test_split=definition["test_split"],
                folder=metadata["folder"],
            ),
            lm_eval=metadata.get("lm_eval", ""),
            parsed_answers=metadata.get("parsed_answers", 0),
        )
    return tasks


def lm_eval_config(blank: bool) -> dict[str, Any]:
    """lm-eval's configuration of a multiple-choice task over the documents that `rows.document` makes."""
    return yaml.load((FOLDER / ("_blank.yaml" if blank else "_choices.yaml")).read_text(), _Loader)
