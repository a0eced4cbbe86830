"""The tasks: one definition each. The eight commonsense tasks are the YAML files beside this one.

A task file is an lm-eval task file (it runs in lm-eval alone, too); `metadata` says what lm-eval has no field
for: the version, the primary metric (acc_norm where lm-eval's users report it, else acc), LLM-Adapters' folder
and wording. The built-in world's tasks come from `bench.data.synthetic.world`; `bench.data.loaders` reads a user's own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.data.questions import Wording

FOLDER = Path(__file__).parent


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's `!function module.name` as its text: the harness passes documents, not functions."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@dataclass(frozen=True)
class Task:
    """A set of questions to be scored on."""

    name: str
    wording: Wording
    primary: str = "acc"
    """The metric that stands for it in averages, fixed in advance."""
    version: int = 1
    definition: dict[str, Any] = field(default_factory=dict, hash=False)
    """The task file, for tasks that have one."""

    @property
    def metadata(self) -> dict[str, Any]:
        return self.definition.get("metadata", {})

    def primary_in(self, format: str) -> str:
        """In the llm_adapters format the choices are `answer1` ..., all of one length: acc."""
        return self.primary if format == "question" else "acc"


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
            definition=definition,
        )
    return tasks


def lm_eval_config(blank: bool) -> dict[str, Any]:
    """lm-eval's configuration of a multiple-choice task over the documents that `rows.document` makes."""
    return yaml.load((FOLDER / ("_blank.yaml" if blank else "_choices.yaml")).read_text(), _Loader)
