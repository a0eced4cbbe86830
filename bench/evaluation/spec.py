"""What decides a score or an answer besides the weights: task or question, protocol, wording, arithmetic."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass

from bench.errors import UserError, unknown
from bench.sweep.sections import EvaluationConfig, Strict


@dataclass(frozen=True)
class Protocol:
    """A named way from a question to its score."""

    version: int
    """Raised when the same model and questions would come to another score; the generative ones have it in their
    names, so that a change is a new name."""
    formats: tuple[str, ...]
    """The formats of `data.format` whose answers it can score."""


PROTOCOLS = {
    "loglikelihood": Protocol(1, ("question", "llm_adapters", "loreft")),
    "llm-adapters-v1": Protocol(1, ("llm_adapters",)),
    "loreft-v1": Protocol(1, ("loreft",)),
    "generative-v2": Protocol(2, ("llm_adapters",)),
}


def label(name: str, version: int) -> str:
    """A protocol as tables have it: `loglikelihood-v1`, `llm-adapters-v1`."""
    return name if name.endswith(f"-v{version}") else f"{name}-v{version}"


def check_protocols(config: EvaluationConfig, format: str) -> None:
    """Raises UserError for a protocol that is unknown, or cannot score answers of this format."""
    for name in config.protocols:
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
        allowed = PROTOCOLS[name].formats
        if format not in allowed:
            fitting = ", ".join(other for other, one in PROTOCOLS.items() if format in one.formats)
            raise UserError(
                f"evaluation.protocol {name} cannot score data.format {format}; it scores {', '.join(allowed)}",
                f"Set data.format: {allowed[0]} (cells are then trained anew), or evaluation.protocol to one that "
                f"scores {format}: {fitting}.",
            )


class _Identity(Strict):
    """What is common to both kinds. The hash names the file of what came of it."""

    dtype: str
    merged: bool
    autocast: bool | None = None
    """Of an unmerged model: forward passes are cast to `dtype`, trained weights stay in float32. Null where merged."""

    @functools.cached_property
    def id(self) -> str:
        """8 hex digits."""
        content = self.model_dump(mode="json", exclude=None if self.autocast else {"autocast"})
        content = json.dumps(content, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]


class AnswersIdentity(_Identity):
    """What decides the answers to open questions besides the weights; sampled ones depend on the cell's seed, too."""

    set: str
    """Name of the set of questions."""
    questions: str
    """Hash of the questions."""
    template: str
    temperature: str
    max_new_tokens: int
    version: int = 1
    """Raised when the same model and questions would come to other answers."""

    @property
    def file(self) -> str:
        return f"{self.set}-{self.id}.jsonl"


class EvaluationIdentity(_Identity):
    """What decides a score besides the weights. Its hash names the items file."""

    task: str
    task_version: int | str
    """lm-eval's own tasks have texts."""
    protocol: str
    protocol_version: int
    format: str
    questions: str
    """Hash of the questions and their wording."""
    limit: int | None

    @property
    def label(self) -> str:
        """The protocol with its version."""
        return label(self.protocol, self.protocol_version)

    @property
    def file(self) -> str:
        name = re.sub(r"[^A-Za-z0-9._-]", ".", self.task)  # lm-eval's own have a colon, or are paths
        return f"{name}@{self.protocol}-{self.id}.parquet"
