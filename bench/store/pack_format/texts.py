"""records.jsonl.gz: the text files of all packed cells, byte for byte.

Its first line is {"schema": ...}; each other line is a file: {"cell": ..., "name": ..., "text": ...}. To read one:
zcat records.jsonl.gz | jq -r 'select(.name == "metrics.json") | .text'
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.store.file_names import plain_name, plain_path
from bench.store.files import write_bytes
from bench.store.pack_format.decompress import gunzip
from bench.store.pack_format.stamp import Stamp, corrupt, stamp
from bench.store.record_json import check_schema
from bench.store.records import SCHEMA

Texts = Mapping[str, Mapping[str, str]]
"""Texts by cell, and by the file's name within the cell's folder."""


@dataclass(frozen=True)
class PackedTexts:
    """One records.jsonl.gz. A missing file holds nothing."""

    path: Path

    def read(self) -> Texts:
        """All texts. Raises UserError if the file is corrupt or a newer version wrote it."""
        now = stamp(self.path)
        return {} if now is None else _read(self.path, now)

    def write(self, texts: Texts) -> None:
        """Write the file atomically. The same texts give the same bytes."""
        # Files of one kind are alike: side by side they compress best.
        order = sorted((name, cell) for cell, files in texts.items() for name in files)
        rows = [{"cell": cell, "name": name, "text": texts[cell][name]} for name, cell in order]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in ({"schema": SCHEMA}, *rows)]
        write_bytes(self.path, gzip.compress("".join(lines).encode(), mtime=0))


@lru_cache(maxsize=2)
def _read(path: Path, stamp: Stamp) -> Texts:
    texts: dict[str, dict[str, str]] = {}
    try:
        # Not splitlines: a text may hold other separators of lines.
        first, *lines, end = gunzip(path.read_bytes()).decode().split("\n")
        check_schema(path, json.loads(first)["schema"])
        if end:
            raise ValueError("its last line is cut off")
        for line in lines:
            row = json.loads(line)
            texts.setdefault(plain_name(row["cell"]), {})[plain_path(row["name"])] = row["text"]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise corrupt(path, error) from None
    return texts
