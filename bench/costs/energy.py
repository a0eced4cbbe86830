"""Energy from the counters that the hardware keeps: NVML of a GPU, RAPL of processors. None where there are none."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RAPL = Path("/sys/class/powercap")

READING_SECONDS = 60.0
"""Between two looks at RAPL's counters, which begin anew after some minutes of full power."""


class Joules:
    """Joules that the device takes from the making of this on, whoever uses it."""

    def __init__(self, device: torch.device) -> None:
        self.meter = _Nvml.find() if device.type == "cuda" else _Rapl.find() if device.type == "cpu" else None

    def spent(self) -> float | None:
        """By now. None where the device keeps no counter that may be read."""
        return self.meter.spent() if self.meter is not None else None

    def close(self) -> None:
        """No more is asked."""
        if isinstance(self.meter, _Rapl):
            self.meter.close()


class _Nvml:
    """NVIDIA's own count, in millijoules since the driver was loaded."""

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self.count = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        self.before = self.count()

    @classmethod
    def find(cls) -> _Nvml | None:
        try:
            import pynvml
        except ImportError:  # of the extra `energy`
            return None
        try:
            pynvml.nvmlInit()
            # By its UUID: NVML knows nothing of CUDA_VISIBLE_DEVICES.
            uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except pynvml.NVMLError:  # no such counter before Volta, or no permission
            return None

    def spent(self) -> float:
        return (self.count() - self.before) / 1000


@dataclass(frozen=True)
class _Domain:
    """One processor package of RAPL."""

    path: Path
    range: int
    """Microjoules at which its counter begins anew."""

    def count(self) -> int:
        return int((self.path / "energy_uj").read_text())


class _Rapl:
    """The counters of all processor packages, looked at often enough to see each begin anew."""

    def __init__(self, domains: list[_Domain]) -> None:
        self.domains = domains
        self.last = [one.count() for one in domains]
        self.microjoules = 0
        self.looking = threading.Lock()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    @classmethod
    def find(cls, root: Path | None = None) -> _Rapl | None:
        # A name with one colon is a package; with two, a part of one.
        packages = [path for path in sorted((root or RAPL).glob("intel-rapl:*")) if path.name.count(":") == 1]
        try:
            domains = [_Domain(path, int((path / "max_energy_range_uj").read_text())) for path in packages]
            return cls(domains) if domains else None
        except (OSError, ValueError):  # kernels since 5.10 let root alone read them
            return None

    def look(self) -> None:
        """Add what was spent since the last look."""
        with self.looking:
            now = [one.count() for one in self.domains]
            self.microjoules += sum(
                (new - old) % domain.range for new, old, domain in zip(now, self.last, self.domains, strict=True)
            )
            self.last = now

    def spent(self) -> float:
        self.look()
        return self.microjoules / 1e6

    def close(self) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(READING_SECONDS):
            self.look()
