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

from bench.costs.energy import EnergyMeter
from bench.models.device import compute_device, synchronize

SAMPLING_SECONDS = 0.01
"""Between two readings of the resident set, if the system keeps no peak that can be reset."""


@dataclass(frozen=True)
class Reading:
    """The costs of a stretch of work. None if the device or the system cannot measure them."""

    seconds: float
    peak_bytes: int | None
    """CUDA: the peak of allocated memory, weights included. CPU: the process's peak resident set less the meter's
    `level`."""
    reserved_bytes: int | None
    """CUDA: the peak of the memory that the allocator reserved; else None."""
    joules: float | None
    """Energy of the device (a GPU by NVML, processors by RAPL), used by any process."""


class Meter:
    """Measures a stretch of work: `with Meter(level) as meter: ...`, then `meter.reading`.

    `level` (bytes) is what the process held before the cell (`resident_level`); on a CPU it is subtracted from the
    peak. Memory that earlier work left with the allocator is released first, so that it does not hide new allocations.
    """

    reading: Reading

    def __init__(self, level: int = 0) -> None:
        self.level, self.device = level, compute_device()

    def __enter__(self) -> Self:
        release_memory()
        self.peak: _PeakMemory | None = None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        elif self.device.type == "cpu":
            self.peak = _PeakMemory()
        self.energy = EnergyMeter(self.device)
        synchronize(self.device)
        self.start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            synchronize(self.device)
        self.reading = self.read()
        self.energy.close()
        if self.peak is not None:
            self.peak.close()

    def read(self) -> Reading:
        """The costs so far."""
        seconds = time.perf_counter() - self.start
        joules = self.energy.joules()
        peak: int | None = None
        reserved: int | None = None
        if self.device.type == "cuda":
            peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        elif self.peak is not None:
            peak = max(0, self.peak.bytes() - self.level)
        return Reading(seconds, peak, reserved, joules)


def resident_level() -> int:
    """The process's resident set in bytes, after it has released unused memory."""
    release_memory()
    return psutil.Process().memory_info().rss


def release_memory() -> None:
    """Return unused memory to the device and the system."""
    gc.collect()  # a schedule and its optimizer hold each other, and with them the trained weights
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed blocks
        except (OSError, AttributeError):
            return  # another C library


class _PeakMemory:
    """The peak resident set of this process since the construction: the system's own mark (Linux), else the highest
    reading of a thread that polls."""

    def __init__(self) -> None:
        self.highest: int | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        except OSError:
            self.highest = 0
            self.closed = threading.Event()
            self.thread = threading.Thread(target=self._poll, daemon=True)
            self.thread.start()

    def bytes(self) -> int:
        if self.highest is None:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
        return self.highest

    def close(self) -> None:
        if self.highest is not None:
            self.closed.set()
            self.thread.join()

    def _poll(self) -> None:
        process = psutil.Process()
        while True:
            self.highest = max(self.highest or 0, process.memory_info().rss)
            if self.closed.wait(SAMPLING_SECONDS):
                return
