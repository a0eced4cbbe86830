"""One cell from start to finish, in reading order: base model, method, training, scores, record.

A cell can be run anywhere and any number of times: what is recorded is not done again, and whenever the process is
killed, the next run resumes from the last complete file. `bench.runner.train_cell` trains, `bench.runner.score_cell`
scores, and `bench.runner.cell_costs` has what both cost.
"""

from __future__ import annotations

import platform
import shutil

import torch

from bench.costs import Occupancy, release_memory, resident_level
from bench.data.sweep_data import SweepData
from bench.environment import harness_commit, package_versions
from bench.errors import CellProblem
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.device import machine
from bench.models.dtype import resolve_dtype
from bench.models.locate import ModelFolder
from bench.planning.plan import PlannedCell, overlap_records
from bench.progress import Listener
from bench.runner.cell_run import CellRun
from bench.runner.score_cell import score_cell, time_answers
from bench.runner.train_cell import train_cell
from bench.store.folder import CellFolder
from bench.store.records import BaseModelRecord, CellRecord, EnvironmentRecord, Status
from bench.sweep.schema import Sweep


def run_cell(planned: PlannedCell, data: SweepData, folder: CellFolder, sweep: Sweep, listener: Listener) -> None:
    """Train and score one cell and record it in its folder.

    Raises whatever went wrong, and leaves complete what was complete by then; the caller records the reason.
    """
    level = resident_level()
    with Occupancy() as occupancy:
        run = CellRun(planned, data, folder, sweep, listener, level, occupancy)
        if run.record.costs is None:
            _train(run)
        elif run.cell.data is not None and not folder.adapter.is_dir():
            raise CellProblem(
                f"{folder.path.name} is trained but its adapter was not kept, so it cannot be scored on more tasks",
                "Remove its folder (of a packed sweep after `bench unpack`) to train it again.",
            )
        release_memory()
        if planned.timed and run.costs.inference is None:
            run.costs.inference = {}
            time_answers(run, "base", LanguageModel(run.load_base(for_method=False), run.tokenizer, None, "any"))
            release_memory()
        score_cell(run)
        run.record.status, run.record.reason, run.record.traceback = Status.DONE, "", []
        run.save()


def _train(run: CellRun) -> None:
    """Train the cell and record it as trained."""
    for subfolder in ("items", "answers"):  # of another training's weights
        shutil.rmtree(run.folder.path / subfolder, ignore_errors=True)
    run.folder.write_environment(environment_record(run.base, run.data, run.planned))
    costs = train_cell(run)
    run.record = CellRecord(status=Status.TRAINED, costs=costs)
    run.save()
    shutil.rmtree(run.folder.work, ignore_errors=True)


def environment_record(base: ModelFolder, data: SweepData, planned: PlannedCell) -> EnvironmentRecord:
    """Versions, commit, device and fingerprints of a cell's run. No path and no host name."""
    here = machine()
    return EnvironmentRecord(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=package_versions(),
        commit=harness_commit(),
        device=here["device"],
        processor=here.get("processor"),
        threads=torch.get_num_threads(),
        base_model=BaseModelRecord(id=base.id, revision=base.revision, commit=base.commit),
        dtype_reason=resolve_dtype(planned.base.dtype).reason,
        data_fingerprint=data.fingerprint,
        overlap=overlap_records(data),
    )
