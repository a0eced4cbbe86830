"""Energy from the counters that the hardware keeps: NVML of a GPU, RAPL of processors. None if there are none.

Not taken from a library: zeus and codecarbon read the same counters, but install some twenty packages for it (among
them scikit-learn and web clients), and codecarbon estimates what it cannot read. Here a figure is measured or None.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")

POLLING_SECONDS = 60.0
"""Between two readings of RAPL's counters, which wrap around after some minutes of full power."""


class EnergyMeter:
    """Counts the joules that the device uses from the construction on, for whichever process."""

    def __init__(self, device: torch.device) -> None:
        self.counter: _NvmlCounter | _RaplCounters | None = None
        if device.type == "cuda":
            self.counter = _NvmlCounter.find()
        elif device.type == "cpu":
            self.counter = _RaplCounters.find()

    def joules(self) -> float | None:
        """The energy used so far, in joules. None if the device has no counter that this process may read."""
        return self.counter.joules() if self.counter is not None else None

    def close(self) -> None:
        """Stop reading the counters."""
        if isinstance(self.counter, _RaplCounters):
            self.counter.close()


class _NvmlCounter:
    """NVIDIA's own counter of a GPU, in millijoules since the driver was loaded."""

    def __init__(self, millijoules: Callable[[], int]) -> None:
        self.millijoules = millijoules
        self.start = millijoules()

    @classmethod
    def find(cls) -> _NvmlCounter | None:
        try:
            import pynvml
        except ImportError:  # of the extra `energy`
            return None
        try:
            pynvml.nvmlInit()
            # By its UUID: NVML ignores CUDA_VISIBLE_DEVICES.
            uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
            device = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            return cls(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(device))
        except pynvml.NVMLError:  # no such counter before Volta, or no permission
            return None

    def joules(self) -> float:
        return (self.millijoules() - self.start) / 1000


@dataclass(frozen=True)
class _Domain:
    """One processor package of RAPL."""

    path: Path
    range: int
    """Microjoules at which its counter wraps around."""

    def microjoules(self) -> int:
        return int((self.path / "energy_uj").read_text())


class _RaplCounters:
    """The counters of all processor packages, read often enough to notice each wrap-around."""

    def __init__(self, domains: list[_Domain]) -> None:
        self.domains = domains
        self.last = [domain.microjoules() for domain in domains]
        self.total = 0  # microjoules
        self.reading = threading.Lock()
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._poll, daemon=True)
        self.thread.start()

    @classmethod
    def find(cls, root: Path | None = None) -> _RaplCounters | None:
        # A name with one colon is a package; with two, a part of one.
        packages = [path for path in sorted((root or RAPL).glob("intel-rapl:*")) if path.name.count(":") == 1]
        try:
            domains = [_Domain(path, int((path / "max_energy_range_uj").read_text())) for path in packages]
            return cls(domains) if domains else None
        except (OSError, ValueError):  # since Linux 5.10 only root may read them
            return None

    def read(self) -> None:
        """Add the energy used since the last reading."""
        with self.reading:
            now = [domain.microjoules() for domain in self.domains]
            self.total += sum(
                (new - old) % domain.range for new, old, domain in zip(now, self.last, self.domains, strict=True)
            )
            self.last = now

    def joules(self) -> float:
        self.read()
        return self.total / 1e6

    def close(self) -> None:
        self.closed.set()
        self.thread.join()

    def _poll(self) -> None:
        while not self.closed.wait(POLLING_SECONDS):
            self.read()
