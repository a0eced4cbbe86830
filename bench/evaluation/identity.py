"""What decides a score besides the weights: task, protocol, wording, arithmetic."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING

from bench.sweep import EvaluationConfig, Strict

if TYPE_CHECKING:
    from bench.data import Data

PROTOCOLS = {"loglikelihood": 1}
"""Name and version: raised when the same model and questions would come to another score."""


class EvaluationIdentity(Strict):
    """What decides a score besides the weights. Its hash names the items file."""

    task: str
    task_version: int
    protocol: str
    protocol_version: int
    format: str
    questions: str
    """Hash of the questions and their wording."""
    limit: int | None
    dtype: str
    merged: bool
    autocast: bool | None = None
    """Of an unmerged model: forward passes are cast to `dtype`, trained weights stay in float32. Null where merged."""

    @functools.cached_property
    def id(self) -> str:
        """The evaluation hash, 8 hex digits."""
        content = self.model_dump(mode="json", exclude=None if self.autocast else {"autocast"})
        content = json.dumps(content, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    @property
    def file(self) -> str:
        return f"{self.task}@{self.protocol}-{self.id}.parquet"


def identities(data: Data, config: EvaluationConfig, dtype: str, mergeable: bool) -> list[EvaluationIdentity]:
    """The evaluations that a cell of this sweep must have."""
    merged = mergeable and config.merge == "always"
    return [
        EvaluationIdentity(
            task=task,
            task_version=data.tasks[task].version,
            protocol=config.protocol,
            protocol_version=PROTOCOLS[config.protocol],
            format=data.config.format,
            questions=data.questions_fingerprint(task),
            limit=config.limit,
            dtype=dtype,
            merged=merged,
            autocast=True if not merged and dtype != "float32" else None,
        )
        for task in data.questions
    ]
