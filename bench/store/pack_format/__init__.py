"""The packed files of a sweep's cells: many small files as two.

    results/<sweep>/packed/
        records.jsonl.gz    the cells' text files, a line a file (texts.py)
        items.parquet       the rows of all their items files (items.py)

Both are cached as they are read, so that reading thousands of files from a pack takes no longer than reading them from
the disk; a pack that was replaced meanwhile is read anew. `bench.store.pack` makes packs and unpacks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.store.pack_format.items import PackedItems
from bench.store.pack_format.texts import PackedTexts

FOLDER = "packed"


@dataclass(frozen=True)
class Pack:
    """The packed files of one sweep. There may be none; then it is empty.

    All methods raise UserError, which names the file, if the pack is corrupt or a newer version wrote it.
    """

    path: Path
    """results/<sweep>/packed."""

    @property
    def records(self) -> PackedTexts:
        return PackedTexts(self.path / "records.jsonl.gz")

    @property
    def items(self) -> PackedItems:
        return PackedItems(self.path / "items.parquet")

    def cells(self) -> list[str]:
        """The folder names of the packed cells, sorted."""
        return sorted(self.records.read())

    def texts(self, cell: str) -> Mapping[str, str]:
        """The text files of a cell by name ("metrics.json", "answers/<file>"); empty if it is not packed."""
        return self.records.read().get(cell, {})
