"""The server that worker processes are forked from: it has the libraries loaded and has computed nothing.

This module imports nothing but the standard library, so that the server can load while the plan is made.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

LONGEST_FOLDER = 60
"""Characters: with the folder and the file that Python adds it stays below what every system takes for a socket."""
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""Device files that exist where a GPU is (NVIDIA's, AMD's)."""
SIGNALS, PRELOADED = "bench.runner.forkserver_signals", "bench.runner.forkserver_preload"


def start_forkserver() -> None:
    """Start to load what workers need in the process that they are forked from; returns at once.

    With a GPU no library is loaded: one may ask the driver something when it is imported (bitsandbytes does), and no
    process that is forked afterwards could use the device.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        gpu = any(Path(driver).exists() for driver in GPU_DRIVERS)
        multiprocessing.set_forkserver_preload([SIGNALS] if gpu else [SIGNALS, PRELOADED])
        from multiprocessing import forkserver

        with _short_temporary_folder():
            forkserver.ensure_running()


@contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """The server's socket lies among the temporary files, and a system takes about a hundred characters of its path:
    some clusters' TMPDIR is longer, and /tmp serves."""
    before = tempfile.tempdir
    if len(tempfile.gettempdir()) > LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"
    try:
        yield
    finally:
        tempfile.tempdir = before


def worker_context() -> ForkServerContext | SpawnContext:
    """How worker processes are started: forked from the server, or spawned where the system has no fork."""
    start_forkserver()
    if "forkserver" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")
