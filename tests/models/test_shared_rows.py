"""What texts may share in a row or a batch, on models of many families."""

from __future__ import annotations

import pytest
from helpers.families import tiny_config

from bench.models.shared_rows import RowSharing, row_sharing

PLAIN = ("llama", "gpt2", "gpt_neox", "qwen3", "opt", "phi", "gemma", "qwen3_moe", "deepseek_v3", "falcon", "cohere")
WINDOWED = ("mistral", "mixtral", "gemma3", "gpt_oss", "llama4_text", "cohere2", "gpt_neo")
RECURRENT = ("mamba", "mamba2", "falcon_mamba", "jamba", "qwen3_next")


@pytest.mark.parametrize("family", PLAIN)
def test_plain_causal_attention_shares_rows_and_batches(family: str) -> None:
    assert row_sharing(tiny_config(family)) == RowSharing(rows=True, left_padding=True, padding_after_prefix=True)


@pytest.mark.parametrize("family", WINDOWED)
def test_a_window_reaches_over_padding_to_a_prefix_and_from_branch_to_branch(family: str) -> None:
    assert row_sharing(tiny_config(family)) == RowSharing(rows=False, left_padding=True, padding_after_prefix=False)


@pytest.mark.parametrize("family", RECURRENT)
def test_a_recurrent_state_has_seen_every_token_of_the_row(family: str) -> None:
    assert row_sharing(tiny_config(family)) == RowSharing(rows=False, left_padding=True, padding_after_prefix=False)


def test_alibi_counts_places_in_the_row() -> None:
    assert not row_sharing(tiny_config("bloom")).rows
    assert not row_sharing(tiny_config("mpt")).rows


def test_rwkv_takes_padding_for_text() -> None:
    assert row_sharing(tiny_config("rwkv")) == RowSharing(rows=False, left_padding=False, padding_after_prefix=False)


def test_a_model_that_cannot_be_copied_shares_nothing() -> None:
    assert not row_sharing(tiny_config("zamba")).rows
