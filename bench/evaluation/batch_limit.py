"""How much a forward pass of scoring or generation holds: a limit in tokens, halved when memory runs out."""

from __future__ import annotations

from dataclasses import dataclass, field

BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Tokens of a forward pass, padding included, to begin with. On a CPU more gains nothing; on a GPU the number is halved
until a batch fits."""


@dataclass
class BatchLimit:
    """The limit of a model's batches. It only shrinks, so that what ran out of memory once is not tried again."""

    tokens: int
    """Of a batch, padding included."""
    max_rows: int | None = None
    """Rows of a batch; None: as many as `tokens` allows."""
    used: list[int] = field(default_factory=list)
    """The values of `tokens` since `begin`, each smaller than the one before: in half precision a score moves with
    them."""

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the values before the present one."""
        self.used = [self.tokens]

    def rows(self, length: int) -> int:
        """How many rows of `length` tokens a batch holds; at least 1."""
        size = max(1, self.tokens // length)
        return min(size, self.max_rows or size)

    def halve(self, rows: int, length: int) -> None:
        """Memory ran out in a batch of `rows` rows of `length` tokens."""
        self.shrink_to(rows * length // 2)

    def shrink_to(self, tokens: int) -> None:
        """Hold at most `tokens` tokens from here on."""
        if tokens < self.tokens:
            self.tokens = tokens
            self.used.append(tokens)
