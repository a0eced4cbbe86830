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
from bench.runner.score_cell import UnreadableAdapter, score_cell, time_answers
from bench.runner.train_cell import train_cell
from bench.store.adapters import adapter_problem
from bench.store.folder import CellFolder
from bench.store.records import BaseModelRecord, CellRecord, EnvironmentRecord, Status
from bench.sweep.schema import Sweep


def run_cell(
    planned: PlannedCell,
    data: SweepData,
    folder: CellFolder,
    sweep: Sweep,
    listener: Listener,
    may_train: bool = True,
) -> None:
    """Train and score one cell and record it in its folder.

    A trained cell whose adapter is damaged is trained again, unless it may not train (`bench evaluate`). Raises
    whatever went wrong, and leaves complete what was complete by then; the caller records the reason.
    """
    level = resident_level()
    with Occupancy() as occupancy:
        run = CellRun(planned, data, folder, sweep, listener, level, occupancy)
        was_trained = run.record.costs is not None
        if run.record.costs is None:
            _train(run)
        elif run.cell.data is not None and (problem := adapter_problem(folder, run.record.costs.adapter_bytes)):
            _train_again(run, problem, may_train)
            was_trained = False
        release_memory()
        if planned.timed and run.costs.inference is None:
            run.costs.inference = {}
        if run.cell.data is None:  # for the whole sweep
            time_answers(run, "base", LanguageModel(run.load_base(for_method=False), run.tokenizer, None, "any"))
            release_memory()
        try:
            score_cell(run)
        except UnreadableAdapter as error:
            if not was_trained:  # just saved: training it again would come to the same
                raise
            _train_again(run, f"cannot be loaded ({error})", may_train)
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


def _train_again(run: CellRun, problem: str, may_train: bool) -> None:
    """Set the adapter aside, with all that was scored with it, and train the cell from its beginning.

    Raises CellProblem if it may not train, and if its adapter was left out of what was kept: its scores are whole.
    """
    folder = run.folder
    scored = bool(run.record.evaluations or run.record.answers)
    if scored and not folder.adapter.is_dir():
        raise CellProblem(
            f"{folder.path.name} is trained but its adapter was not kept, so it cannot be scored on more tasks",
            "Remove its folder (of a packed sweep after `bench unpack`) to train it again.",
        )
    if not may_train:
        raise CellProblem(
            f"the adapter of {folder.path.name} {problem}, so it cannot be scored", "`bench run` trains the cell again."
        )
    kept = folder.set_adapter_aside()
    place = f"it is kept as {kept.name}, and " if kept is not None else ""
    run.listener.line(f"{run.cell.name}: its adapter {problem}; {place}the cell is trained again from the beginning")
    run.record, run.earlier = CellRecord(), None
    folder.write_record(run.record)  # it is not trained, whatever becomes of this process
    _train(run)


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
