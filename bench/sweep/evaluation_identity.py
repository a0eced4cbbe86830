"""What decides a score or an answer besides the weights, and the hash that names the file of its rows.

Records hold the settings; a plan holds identities, which are the settings with the hash.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Self

from bench.hashing import short_hash
from bench.sweep.sections import Strict, TemplateName


def autocast(dtype: str, merged: bool) -> bool | None:
    """Whether forward passes are cast to `dtype`; null where nothing is to be cast."""
    return True if not merged and dtype != "float32" else None


def label(name: str, version: int) -> str:
    """A protocol as tables name it: `loglikelihood-v1`, `llm-adapters-v1`."""
    return name if name.endswith(f"-v{version}") else f"{name}-v{version}"


class _Settings(Strict):
    """Settings that scores and answers share."""

    dtype: str
    merged: bool
    autocast: bool | None = None
    """For an unmerged model: forward passes are cast to `dtype`, trained weights stay in float32. Null where merged."""

    def of(self, merged: bool) -> Self:
        """The same settings for the merged or the unmerged model."""
        arithmetic = {"merged": merged, "autocast": autocast(self.dtype, merged)}
        return self if self.merged == merged else type(self).model_validate({**self.model_dump(), **arithmetic})


class AnswersSettings(_Settings):
    """What decides the answers to open questions besides the weights; sampled ones depend on the cell's seed, too."""

    set: str
    """Name of the set of questions."""
    questions: str
    """Hash of the questions."""
    template: TemplateName
    temperature: str
    max_new_tokens: int
    version: int = 1
    """Raised when the same model and questions would give other answers."""


class EvaluationSettings(_Settings):
    """What decides a score besides the weights."""

    task: str
    task_version: int | str
    """A text for the tasks of lm-eval."""
    protocol: str
    protocol_version: int
    format: str
    questions: str
    """Hash of the questions and their wording."""
    limit: int | None = None

    @property
    def label(self) -> str:
        """The protocol with its version."""
        return label(self.protocol, self.protocol_version)


def _hash8(settings: _Settings) -> str:
    """8 hex digits of all settings."""
    content = settings.model_dump(mode="json", exclude=None if settings.autocast else {"autocast"})
    return short_hash(json.dumps(content, sort_keys=True), digits=8)


class AnswersIdentity(AnswersSettings):
    """The settings of answers to open questions, with the hash that names their file."""

    @functools.cached_property
    def id(self) -> str:
        """8 hex digits."""
        return _hash8(self)

    @property
    def file(self) -> str:
        return f"{self.set}-{self.id}.jsonl"


class EvaluationIdentity(EvaluationSettings):
    """The settings of a score, with the hash that names the file of its rows."""

    @functools.cached_property
    def id(self) -> str:
        """8 hex digits."""
        return _hash8(self)

    @property
    def file(self) -> str:
        name = re.sub(r"[^A-Za-z0-9._-]", ".", self.task)  # lm-eval's tasks have a colon, or are paths
        return f"{name}@{self.protocol}-{self.id}.parquet"
