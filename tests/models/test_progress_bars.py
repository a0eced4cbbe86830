"""Progress bars of the libraries are off only while the harness loads a model."""

from __future__ import annotations

from transformers.utils import logging

from bench.models.progress_bars import no_progress_bars


def test_bars_are_off_for_the_duration_only() -> None:
    logging.enable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()


def test_bars_that_the_user_has_switched_off_stay_off() -> None:
    logging.disable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert not logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
