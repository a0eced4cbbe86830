"""Seconds, peak memory and energy of a stretch of work."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from bench.costs.energy import Joules
from bench.models.device import compute_device, synchronize

SAMPLING_SECONDS = 0.01
"""Between two looks at the resident set, where the system keeps no peak that can be reset."""


@dataclass(frozen=True)
class Reading:
    """What a stretch of work came to. None where the device or the system cannot tell."""

    seconds: float
    peak_bytes: int | None
    """CUDA: the most that was allocated at one time, weights and all. CPU: the process's peak resident set over the
    level that the meter was given."""
    reserved_bytes: int | None
    """CUDA: the most that the allocator held; else None."""
    joules: float | None
    """Of the device (a GPU by NVML, processors by RAPL), whoever used it."""


class Meter:
    """Reads a stretch of work: `with Meter(level) as meter: ...`, then `meter.reading`.

    `level` (bytes) is what the process held before the cell (`resident_level`); on a CPU it is taken off the peak.
    Memory that earlier work left to the allocator is given back first, so that it does not hide what this work takes.
    """

    reading: Reading

    def __init__(self, level: int = 0) -> None:
        self.level, self.device = level, compute_device()

    def __enter__(self) -> Self:
        release_memory()
        self.peak: _Peak | None = None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        elif self.device.type == "cpu":
            self.peak = _Peak()
        self.joules = Joules(self.device)
        synchronize(self.device)
        self.begun = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            synchronize(self.device)
        self.reading = self.read()
        self.joules.close()
        if self.peak is not None:
            self.peak.close()

    def read(self) -> Reading:
        """What the work has come to by now."""
        seconds = time.perf_counter() - self.begun
        joules = self.joules.spent()
        peak, reserved = None, None
        if self.device.type == "cuda":
            peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        elif self.peak is not None:
            peak = max(0, self.peak.bytes() - self.level)
        return Reading(seconds, peak, reserved, joules)


def resident_level() -> int:
    """Bytes that this process holds now, once it has given back what it does not use."""
    release_memory()
    return psutil.Process().memory_info().rss


def release_memory() -> None:
    """Give memory that nothing uses back to the device and the system."""
    gc.collect()  # a Trainer holds its model in a cycle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed blocks
        except (OSError, AttributeError):
            return  # another C library


class _Peak:
    """The most memory that this process has held since this was made: the system's own mark (Linux), else that of a
    thread that looks every so often."""

    def __init__(self) -> None:
        self.most: int | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        except OSError:
            self.most = 0
            self.over = threading.Event()
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()

    def bytes(self) -> int:
        if self.most is None:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
        return self.most

    def close(self) -> None:
        if self.most is not None:
            self.over.set()
            self.thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.most = max(self.most or 0, process.memory_info().rss)
            if self.over.wait(SAMPLING_SECONDS):
                return
