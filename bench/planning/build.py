"""A sweep and its data become a list of cells, each checked against its base model.

Nothing is started before every cell has been checked: a module that the base lacks, an impossible rank or too
few examples are found here, on models without weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from bench import methods
from bench.data.prepare import prepare_data
from bench.data.sweep_data import SweepData
from bench.errors import UserError
from bench.evaluation.plan_evaluations import answer_identities, evaluation_identities
from bench.evaluation.protocols import check_protocols
from bench.methods.learning_rates import learning_rates_to_try, with_learning_rate
from bench.methods.parameter_count import ParameterCounter
from bench.models.dtype import resolve_dtype
from bench.models.locate import pin_base
from bench.planning.plan import Pending, Plan, PlannedCell
from bench.sweep.cell import BaseIdentity, Cell, CellData
from bench.sweep.schema import Sweep, product_of_lists
from bench.sweep.sections import BaseModelConfig, TrainingConfig, TuneConfig


def make_plan(sweep: Sweep, use_placeholders: bool = False, elsewhere: bool = False) -> Plan:
    """Every cell of a sweep, each checked. With `use_placeholders`, placeholders replace the data of a hub: such a plan
    says what a sweep would take, and its cells are not those that would be run. `elsewhere`: for a GPU that is not
    here.

    Raises UserError, naming the cell, for one that is impossible.
    """
    check_protocols(sweep.evaluation, sweep.data.format)  # before data are fetched
    data = prepare_data(sweep, use_placeholders)
    cells: dict[str, PlannedCell] = {}
    pending: list[Pending] = []
    dtypes = {}
    samples = [data.resolve_samples(n) for n in sweep.samples]
    for base in sweep.base_model:
        choice = resolve_dtype(base.dtype, elsewhere)
        dtypes[base.id] = choice
        id, revision = pin_base(base.id, base.revision)
        identity = BaseIdentity(id=id, revision=revision, dtype=choice.value)
        known, later = _cells_of(sweep, base, identity, data, samples)
        for planned in known:
            cells.setdefault(planned.cell.id, planned)
        pending += later
    _check_baseline(sweep, [*(one.cell for one in cells.values()), *(one.template.cell for one in pending)])
    return Plan(sweep, data, tuple(cells.values()), dtypes, tuple(pending))


def _check_baseline(sweep: Sweep, cells: Sequence[Cell]) -> None:
    rules = sweep.report
    ranks = sorted({one.rank for one in cells if one.method == rules.baseline and one.rank is not None})
    if rules.baseline_rank is not None and rules.baseline_rank not in ranks:
        known = f"at rank {', '.join(map(str, ranks))}" if ranks else "without a rank"
        raise UserError(
            f"report.baseline_rank {rules.baseline_rank}: this sweep trains {rules.baseline} {known}",
            "Name one of its ranks, or leave it out: equal ranks are compared then.",
        )


def _cells_of(
    sweep: Sweep, base: BaseModelConfig, identity: BaseIdentity, data: SweepData, samples: list[int]
) -> tuple[list[PlannedCell], list[Pending]]:
    """The cells whose settings are known, and those whose learning rate is yet to be tuned."""
    cells: list[PlannedCell] = []
    pending: list[Pending] = []
    sizes = ParameterCounter(base)
    room = getattr(sizes.config.get_text_config(), "max_position_embeddings", None)
    if sweep.answers is not None and room is not None and sweep.answers.max_new_tokens >= room:
        raise UserError(
            f"answers.max_new_tokens {sweep.answers.max_new_tokens} leaves no room for a question in {base.id}, which "
            f"reads {room} tokens",
            f"Set it to {room // 2} or so.",
        )
    trainings = [TrainingConfig.model_validate(one) for one in product_of_lists(TrainingConfig, sweep.training)]
    for tracker in {tracker for training in trainings for tracker in training.report_to}:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(f"training.report_to: {tracker} is not installed", f"pip install {tracker}")
    untuned = Cell(base=identity, method="base", method_version="1", options={}, samples=0, seed=0)
    evaluations = tuple(evaluation_identities(data, sweep.evaluation, identity.dtype, mergeable=True))
    answers = tuple(answer_identities(data, sweep, identity.dtype, mergeable=True))
    timed = sweep.costs.inference
    cells.append(PlannedCell(untuned, base, trainings[0], evaluations, *sizes.count(untuned), answers, timed=timed))
    learned = CellData(
        train=tuple(sorted(data.pools)),
        format=data.config.format,
        mix=data.config.mix,
        subset_seed=data.config.subset_seed,
        append_eos=data.config.append_eos,
        fingerprint=data.fingerprint,
        template=data.config.template if data.has_instructions else None,
    )
    # Trials are scored by what averages are made of: a protocol that is added later changes nothing for them.
    first = {"limit": None, "tasks": None, "protocol": sweep.evaluation.protocols[0]}
    developing = sweep.evaluation.model_copy(update=first)
    if sweep.tune is not None and not data.development_view.questions:
        raise UserError(
            "tune chooses by development questions, and there are none", "Set data.development to 100 or so."
        )
    for entry in sweep.methods:
        settings = {key: value for key, value in entry.items() if key != "method"}
        method = methods.get(entry["method"])
        if entry["method"] == "base":
            continue  # in every sweep already
        for one in product_of_lists(method.Options, settings):
            rates = learning_rates_to_try(method, sweep.tune) if sweep.tune is not None else ()
            options = sizes.resolve(method, {**one, "lr": rates[0]} if rates else one)
            # The parts of a stacked method may have rates of their own: these move with the method's.
            variants = [with_learning_rate(options, rate) for rate in rates] or [options]
            options = variants[0]
            method.check_machine(options)
            facts = method.facts_for(options)
            evaluations = tuple(evaluation_identities(data, sweep.evaluation, identity.dtype, facts.mergeable))
            answers = tuple(answer_identities(data, sweep, identity.dtype, facts.mergeable))
            for training in trainings:
                if training.weight_decay and facts.no_weight_decay:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.weight_decay {training.weight_decay}: "
                        f"{facts.no_weight_decay}",
                        "Set it to 0, or run this method in a sweep of its own.",
                    )
                if training.gradient_checkpointing and facts.no_checkpointing:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.gradient_checkpointing: "
                        f"{facts.no_checkpointing}",
                        "Set it to false, or run this method in a sweep of its own.",
                    )
                if training.packed and (why := facts.no_packing or sizes.no_packing):
                    raise UserError(
                        f"method {entry['method']} cannot bear training.packed: {why}",
                        "Set it to false, or run this method in a sweep of its own.",
                    )
                if training.validation and facts.no_validation:
                    raise UserError(
                        f"method {entry['method']} cannot bear training.validation: {facts.no_validation}",
                        "Leave it out, or run this method in a sweep of its own.",
                    )
                held_out = training.validation.examples if training.validation else 0
                least = min(samples if sweep.tune is None else (*samples, _of_trials(samples, sweep.tune)))
                if held_out >= least:
                    raise UserError(
                        f"training.validation.examples holds {held_out} examples out of {least}",
                        "Hold out fewer, or raise samples.",
                    )
                kept = training.model_dump(mode="json", exclude=set(TrainingConfig.NOT_IDENTITY))
                if not held_out:  # nor is it part of what cells without it are
                    del kept["validation"]
                common = Cell(
                    base=identity,
                    method=entry["method"],
                    method_version=method.version,
                    options=options,
                    samples=max(samples),
                    seed=0,
                    data=learned,
                    training=kept,
                ).model_dump(mode="json")
                final = [
                    PlannedCell(cell, base, training, evaluations, *sizes.count(cell), answers, timed=timed and first)
                    for n in samples
                    for seed in sweep.seeds
                    for first in [(n, seed) == (samples[0], sweep.seeds[0])]
                    for cell in [Cell.model_validate({**common, "samples": n, "seed": seed})]
                ]
                if sweep.tune is None:
                    cells += final
                    continue
                of_trials = {"samples": _of_trials(samples, sweep.tune), "seed": sweep.tune.seed}
                asked = tuple(evaluation_identities(data.development_view, developing, identity.dtype, facts.mergeable))
                trials = tuple(
                    PlannedCell(cell, base, training, asked, *sizes.count(cell), trial=True)
                    for one in variants
                    for cell in [Cell.model_validate({**common, **of_trials, "options": one})]
                )
                cells += trials
                pending += [Pending(one, rates, trials) for one in final]
    return cells, pending


def _of_trials(samples: Sequence[int], tune: TuneConfig) -> int:
    """Examples of a trial."""
    return max(1, round(max(samples) * tune.budget))
