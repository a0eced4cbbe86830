"""A tiny model that chats."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.questions import CHATML
from helpers.sweeps import make_tiny_model
from transformers import AutoTokenizer


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    """A tiny model whose tokenizer has a chat template."""
    folder = make_tiny_model(tmp_path / "chatting")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder
