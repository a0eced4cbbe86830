"""Processes that tests send signals to."""

from __future__ import annotations

import signal


def hear_hangup() -> None:
    """To be called in a new process: it hears that its terminal is closed, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
