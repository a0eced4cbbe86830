"""What decides a score or an answer besides the weights: task or question, protocol, wording, arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import UserError, unknown
from bench.sweep.sections import EvaluationConfig


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
