"""A cell while it is run: what its stages need, and what is recorded so far."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import methods
from bench.costs import Occupancy
from bench.data.sweep_data import SweepData
from bench.methods.method import Method
from bench.models.load import load_model, load_skeleton, load_tokenizer
from bench.models.locate import find_base
from bench.planning.plan import PlannedCell
from bench.progress import Listener
from bench.store.folder import CellFolder
from bench.store.records import Costs
from bench.sweep.schema import Sweep


class CellRun:
    """A cell while it is run. `occupancy` must be entered, and tells who else uses the device."""

    def __init__(
        self,
        planned: PlannedCell,
        data: SweepData,
        folder: CellFolder,
        sweep: Sweep,
        listener: Listener,
        level: int,
        occupancy: Occupancy,
    ) -> None:
        """`level`: bytes that the process held before the cell."""
        self.planned, self.data, self.folder, self.sweep, self.listener = planned, data, folder, sweep, listener
        self.cell, self.level, self.occupancy = planned.cell, level, occupancy
        self.started = time.perf_counter()
        self.method: Method = methods.get(self.cell.method)
        self.facts = self.method.facts_for(self.cell.options)
        self.base = find_base(planned.base.id, planned.base.revision, planned.base.trust_remote_code)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.base)
        self.record = folder.record()
        self.earlier = self.record.costs.model_copy() if self.record.costs is not None else None
        """The costs of earlier runs of the cell."""
        folder.write_cell(self.cell)

    @functools.cached_property
    def skeleton(self) -> PreTrainedModel:
        """The base without weights."""
        base = self.planned.base
        return load_skeleton(base.id, base.revision, base.trust_remote_code)

    @property
    def costs(self) -> Costs:
        """The recorded costs. Raises ValueError before the training is complete."""
        if self.record.costs is None:
            raise ValueError(f"{self.cell.name} is not trained yet")
        return self.record.costs

    def load_base(self, for_method: bool = True) -> PreTrainedModel:
        """The base with its weights: as the cell's method needs it (quantized, say), or as it is."""
        return load_model(
            self.base,
            self.cell.base.dtype,
            self.planned.training.attn_implementation,
            method_kwargs=self.method.load_kwargs(self.cell) if for_method else None,
            seed=self.cell.seed,
        )

    def save(self) -> None:
        """Write the record, with how long the cell has taken so far and whether others used its device; earlier runs
        of the cell are included."""
        costs, earlier = self.record.costs, self.earlier
        if costs is not None:
            seconds, shared, others_cpu = 0.0, False, 0.0
            if earlier is not None:
                seconds, shared = earlier.wall_seconds or 0.0, bool(earlier.shared)
                others_cpu = earlier.others_cpu or 0.0
            costs.wall_seconds = round(seconds + time.perf_counter() - self.started, 2)
            costs.shared = shared or self.occupancy.shared
            costs.others_cpu = round(max(others_cpu, self.occupancy.others_cpu), 3)
        self.folder.write_record(self.record)

    def warn(self, warnings: Iterable[str]) -> None:
        """Record warnings, each once."""
        self.record.warnings = list(dict.fromkeys([*self.record.warnings, *warnings]))
