"""Whether a cell shared its device: costs measured beside other work are not compared."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from bench.models.device import compute_device
from bench.models.packaged import cache_folder

BUSY = 0.1
"""Share of the processors that other processes may use before a cell on a CPU counts as disturbed."""


class Occupancy:
    """While entered, this process announces that it runs a cell on its device, and looks for others that do.

    Each process puts a file named by its process id into a folder of the device (in the cache folder). A process that
    finds the file of another living process marks both. On a CPU the load of other processes on this process's
    processors counts too. If the folder cannot be written, only the load is measured.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.device = compute_device()
        self.folder = folder or cache_folder() / "devices" / device_name(self.device)
        self.marker = self.folder / str(os.getpid())

    def __enter__(self) -> Self:
        self.before = _cpu_seconds()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.marker.write_text("")
            for other in self.folder.iterdir():
                if other == self.marker:
                    continue
                if other.name.isdigit() and psutil.pid_exists(int(other.name)):
                    other.write_text("shared")
                    self.marker.write_text("shared")
                else:
                    other.unlink(missing_ok=True)  # of a killed process
        except OSError:
            pass  # the load is measured all the same
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.marker.unlink(missing_ok=True)
        except OSError:
            return

    @property
    def others_cpu(self) -> float:
        """The share (0 to 1) of this process's processors that other processes have used since it was entered."""
        now = _cpu_seconds()
        available, busy, ours = (new - old for new, old in zip(now, self.before, strict=True))
        return min(1.0, max(0.0, (busy - ours) / available)) if available > 0 else 0.0

    @property
    def shared(self) -> bool:
        """True if another cell has run on the device meanwhile or, on a CPU, other processes kept it busy."""
        try:
            marked = self.marker.read_text() != ""
        except OSError:
            marked = False
        return marked or (self.device.type == "cpu" and self.others_cpu > BUSY)


def device_name(device: torch.device) -> str:
    """A name of the physical device, whatever index it has in this process."""
    if device.type == "cuda":
        return f"cuda-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    return device.type


def _cpu_seconds() -> tuple[float, float, float]:
    """Seconds so far of the processors that this process may use: in all, busy, and busy with this process or its
    children."""
    process = psutil.Process()
    processors = psutil.cpu_times(percpu=True)
    usable = getattr(process, "cpu_affinity", lambda: range(len(processors)))()
    times = [processors[number] for number in usable if number < len(processors)]
    # `guest` is part of `user` already.
    available = sum(sum(time) - getattr(time, "guest", 0.0) - getattr(time, "guest_nice", 0.0) for time in times)
    idle = sum(time.idle + getattr(time, "iowait", 0.0) + getattr(time, "steal", 0.0) for time in times)
    ours = process.cpu_times()
    children = getattr(ours, "children_user", 0.0) + getattr(ours, "children_system", 0.0)  # of those that have ended
    return available, available - idle, ours.user + ours.system + children
