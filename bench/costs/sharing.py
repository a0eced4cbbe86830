"""Whether a cell had its device to itself: costs that were taken beside other work are not compared."""

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
"""Share of the processors that others may use before a cell on a CPU counts as disturbed."""


class Occupancy:
    """While entered, this process says that it runs a cell on its device, and looks who else does.

    Every process leaves a file of its number in a folder of the device (in the cache folder); one that finds the file
    of another that lives writes into both. On a CPU the load that others put on this process's processors counts too.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.where = compute_device()
        self.folder = folder or cache_folder() / "devices" / device_name(self.where)
        self.mine = self.folder / str(os.getpid())

    def __enter__(self) -> Self:
        self.before = _processors()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.mine.write_text("")
            for other in self.folder.iterdir():
                if other == self.mine:
                    continue
                if other.name.isdigit() and psutil.pid_exists(int(other.name)):
                    other.write_text("shared")
                    self.mine.write_text("shared")
                else:
                    other.unlink(missing_ok=True)  # of a process that was killed
        except OSError:
            pass  # nowhere to say it; the load is still looked at
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.mine.unlink(missing_ok=True)
        except OSError:
            return

    @property
    def others_cpu(self) -> float:
        """The share (0 to 1) of this process's processors that others have used since it was entered."""
        now = _processors()
        available, busy, own = (new - old for new, old in zip(now, self.before, strict=True))
        return min(1.0, max(0.0, (busy - own) / available)) if available > 0 else 0.0

    @property
    def shared(self) -> bool:
        """Whether another cell has been on the device since it was entered or, on a CPU, others kept it busy."""
        try:
            met = self.mine.read_text() != ""
        except OSError:
            met = False
        return met or (self.where.type == "cpu" and self.others_cpu > BUSY)


def device_name(where: torch.device) -> str:
    """A name of the device itself, whatever number this process knows it by."""
    if where.type == "cuda":
        return f"cuda-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    return where.type


def _processors() -> tuple[float, float, float]:
    """Seconds so far of the processors that this process may use: in all, busy, and busy with this process or with
    those that it launched."""
    process = psutil.Process()
    everyone = psutil.cpu_times(percpu=True)
    usable = getattr(process, "cpu_affinity", lambda: range(len(everyone)))()
    mine = [everyone[number] for number in usable if number < len(everyone)]
    # `guest` is part of `user` already.
    available = sum(sum(one) - getattr(one, "guest", 0.0) - getattr(one, "guest_nice", 0.0) for one in mine)
    waiting = sum(one.idle + getattr(one, "iowait", 0.0) + getattr(one, "steal", 0.0) for one in mine)
    own = process.cpu_times()
    launched = getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)  # those that have ended
    return available, available - waiting, own.user + own.system + launched
