"""A recorded sweep with more to be scored: the same trained cells, more tasks or protocols."""

from __future__ import annotations

from bench.errors import UserError
from bench.planning.build import make_plan
from bench.planning.plan import Plan, state
from bench.planning.tuning import settle
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.schema import Sweep


def extended(
    results: Results,
    tasks: tuple[str, ...],
    protocols: tuple[str, ...],
    answers: tuple[str, ...],
    overrides: tuple[str, ...],
    skip_lost: bool = False,
) -> Plan:
    """The plan of a results folder with these tasks and protocols added to what its cells are scored on, and these sets
    of open questions to what they answer.

    Raises UserError for a folder that holds no sweep, and where the trained cells would be others: the questions of
    an added task that stand in the training sets are removed from these, and the cells were trained with them; also
    where trained cells have not kept their adapters, of some of which `skip_lost` makes nothing.
    """
    before = results.plan()
    sweep = load_sweep(results.path / "sweep.yaml", overrides)
    evaluation = sweep.evaluation
    # lm-eval's own tasks stand in the sweep alone, the rest also where the sweep left them to its training sets.
    tasks = tuple(dict.fromkeys([*before["tasks"], *(evaluation.tasks or ()), *tasks]))
    protocols = tuple(dict.fromkeys([*evaluation.protocols, *protocols]))
    changed = {"tasks": tasks, "protocol": protocols if len(protocols) > 1 else protocols[0]}
    content = {**sweep.model_dump(mode="json"), "evaluation": {**evaluation.model_dump(mode="json"), **changed}}
    if answers:
        before_answers = content["answers"] or {"questions": ()}
        content["answers"] = {
            **before_answers,
            "questions": list(dict.fromkeys([*before_answers["questions"], *answers])),
        }
    plan = settle(make_plan(Sweep.model_validate(content)), results)
    known = {one.cell.folder for one in plan.cells}
    others = [cell["name"] for cell in before["cells"] if cell["folder"] not in known]
    if others:
        removed = sum(one.removed for one in plan.data.overlap.values())
        raise UserError(
            f"{len(others)} of {len(before['cells'])} cells would be others, {others[0]} among them: with these tasks "
            f"{removed} training rows stand in a test set and are removed, and what is recorded was trained with them",
            "Leave out the task that shares questions with the training sets, or run it as a sweep of its own.",
        )
    waiting = [one for one in plan.cells if one.cell.data is not None and state(one, results) == "trained"]
    lost = [one.cell.name for one in waiting if not results.folder(one.cell).adapter.is_dir()]
    if lost and (len(lost) == len(waiting) or not skip_lost):
        raise UserError(
            f"{len(lost)} of {len(waiting)} trained cells have not kept their adapters, {lost[0]} among them",
            "Adapters are not in git: train such cells again (remove their folders, then bench run), or, while some "
            "have theirs, give --skip-lost: without the new scores the others drop out of the report's averages.",
        )
    return plan
