"""Which judge scored answers: judge.json. Records of cells and plans are in `bench.store.records`."""

from __future__ import annotations

import json
import re
from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from bench.hashing import short_hash
from bench.store.records import SCHEMA, Record
from bench.sweep.cell import Settings


class JudgeRecord(Record):
    """Which judge: all that changes what it would say. judge.json."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    kind: Literal["reference", "openai"]
    name: str
    """As tables have it."""
    scale: tuple[FiniteFloat, FiniteFloat]
    """The lowest and the highest score."""
    settings: Settings

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"its lowest score {self.scale[0]:g} is not below its highest, {self.scale[1]:g}")
        return self

    @property
    def label(self) -> str:
        """The name and 8 hex digits of the hash of all fields. The judge's files are named after it."""
        content = json.dumps([self.kind, self.name, self.scale, self.settings], sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.name)
        return f"{name}-{short_hash(content, digits=8)}"
