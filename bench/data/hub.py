"""Reads data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable

from bench.data.files.json_rows import Row
from bench.errors import OutOfReach, first_line


def hub_rows(path: str, config: str | None, revision: str | None, split: str) -> Iterable[Row]:
    """The rows of a split. Raises OutOfReach if the hub does not give them."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, config, revision=revision, split=split)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        at = f"{path}{f' ({config})' if config else ''} at {revision or 'main'}, split {split}"
        raise OutOfReach(
            f"cannot load the data set {at}: {reason}",
            "It would be downloaded from the hub. Connect once, or give files of your own: data.dir (a folder of "
            "LLM-Adapters' JSON), data.alpaca, answers.sets.",
        ) from error
