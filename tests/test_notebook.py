"""The notebook runs on the committed results, and says what it is committed with."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from helpers.paths import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "reading_results.ipynb"


def said(notebook: Any) -> list[list[str]]:
    """The texts that each code cell came to; of a picture that there is one."""
    return [
        [one.get("text") or one["data"].get("text/plain", "") for one in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


# jupyter_client 8.10 speaks of connections that are not encrypted; this one stays on the machine.
@pytest.mark.filterwarnings("ignore::RuntimeWarning:jupyter_client")
def test_it_comes_to_what_is_committed() -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.get("outputs") for cell in committed.cells if cell.cell_type == "code")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert said(notebook) == said(committed)
