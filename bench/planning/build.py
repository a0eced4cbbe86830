"""Turns a sweep and its data into a list of cells, each checked against its base model.

Nothing is started before every cell has been checked: a module that the base lacks, an impossible rank or too few
examples are found here, on models without weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bench.data.prepare import prepare_data
from bench.data.sweep_data import SweepData
from bench.errors import SettingsError, UserError
from bench.evaluation.plan_evaluations import answer_identities, evaluation_identities
from bench.evaluation.protocols import check_protocols
from bench.methods.learning_rate_grid import learning_rates_to_try, with_learning_rate
from bench.methods.method import Method
from bench.methods.parameter_count import ParameterCounter
from bench.methods.registry import get
from bench.models.attention import resolve_attention
from bench.models.dtype import resolve_dtype
from bench.models.locate import pin_base
from bench.planning import checks
from bench.planning.plan import Pending, Plan, PlannedCell, Refusal
from bench.planning.usable_tasks import check_code, usable_tasks
from bench.sweep.cell import BaseIdentity, Cell, CellData, Settings
from bench.sweep.evaluation_identity import AnswersIdentity, EvaluationIdentity
from bench.sweep.run_sections import TuneConfig
from bench.sweep.schema import Sweep, product_of_lists
from bench.sweep.sections import BaseModelConfig, TrainingConfig


def make_plan(
    sweep: Sweep,
    use_placeholders: bool = False,
    elsewhere: bool = False,
    strict: bool = False,
    allow_code: Collection[str] = (),
) -> Plan:
    """All cells of a sweep, each checked. What is impossible on a base, a base that is none, and a task of lm-eval that
    cannot be read are left out and named in `Plan.refused`.

    With `use_placeholders`, placeholders replace the data of a hub: such a plan says what a sweep would take, but its
    cells are not the ones that would run. `elsewhere`: for a GPU that is not in this machine. `allow_code`: task files
    of lm-eval (as evaluation.tasks names them) whose functions may run.

    Raises UserError for settings that are wrong on any base, and if no cell is left to train; with `strict` for the
    first that is refused.
    """
    # Before data are downloaded, and before any code runs that a file names:
    check_code(sweep, allow_code)
    checks.check_size(sweep)
    checks.check_files(sweep)
    check_protocols(sweep.evaluation, sweep.data.format)
    data = prepare_data(sweep, use_placeholders)
    usable, bad_tasks = usable_tasks(sweep)
    cells: dict[str, PlannedCell] = {}
    pending: list[Pending] = []
    later: list[PlannedCell | Pending] = []
    refused: list[Refusal] = []
    dtypes = {}
    attention: dict[str, str] = {}
    warnings: list[str] = []
    samples = [data.resolve_samples(count) for count in sweep.samples]
    for base in sweep.base_model:
        try:
            dtype = resolve_dtype(base.dtype, elsewhere)
            trusted = base.trust_remote_code
            id, revision = pin_base(base.id, base.revision, trusted)
            identity = BaseIdentity(id=id, revision=revision, dtype=dtype.value, trust_remote_code=trusted)
            builder = _Builder(usable, data, samples, base, identity, elsewhere)
            builder.build()
        except SettingsError:
            raise
        except UserError as error:
            refused.append(Refusal(f"base model {base.id}", error.problem, error.fix))
            continue
        dtypes[base.id] = dtype
        if builder.no_attention:
            attention[base.id] = builder.no_attention
        refused += builder.refused
        warnings += [f"{method} on {base.id}: PEFT warns: {text}" for text, method in builder.counter.warnings.items()]
        for planned in builder.cells:
            cells.setdefault(planned.cell.id, planned)
        pending += builder.pending
        later += builder.later
    refused += bad_tasks
    trained = pending or any(planned.cell.data is not None for planned in cells.values())
    if refused and (strict or not trained):
        raise refused[0].error
    final = [planned.cell for planned in cells.values() if not planned.trial]
    final += [waiting.template.cell for waiting in pending]
    checks.check_baseline(sweep, final)
    checks.check_contrasts(sweep, final)
    scored = [evaluation.task for planned in cells.values() for evaluation in planned.evaluations]
    checks.check_average(sweep, dict.fromkeys(scored))
    return Plan(
        sweep,
        data,
        tuple(cells.values()),
        dtypes,
        tuple(pending),
        tuple(refused),
        attention,
        tuple(warnings),
        usable.evaluation.of_lm_eval,
        tuple(later),
    )


@dataclass(frozen=True)
class _Wanted:
    """What a cell is scored on."""

    evaluations: tuple[EvaluationIdentity, ...]
    answers: tuple[AnswersIdentity, ...] = ()


class _Builder:
    """Builds the cells of a sweep on one base model."""

    def __init__(
        self,
        sweep: Sweep,
        data: SweepData,
        samples: Sequence[int],
        base: BaseModelConfig,
        identity: BaseIdentity,
        elsewhere: bool = False,
    ) -> None:
        self.sweep, self.data, self.samples, self.base, self.identity = sweep, data, samples, base, identity
        self.counter = ParameterCounter(base)
        checks.check_weights(base, self.counter.skeleton)
        checks.check_tokenizer(base, self.counter.skeleton)
        self.no_attention = ""
        """Why the base does not compute attention as the sweep says; empty if it does."""
        self.trainings = [
            self._with_attention(TrainingConfig.model_validate(settings), elsewhere)
            for settings in product_of_lists(TrainingConfig, sweep.training)
        ]
        self.cells: list[PlannedCell] = []
        """Cells whose settings are known."""
        self.pending: list[Pending] = []
        """Cells whose learning rate is yet to be tuned."""
        self.later: list[PlannedCell | Pending] = []
        """Cells of seeds that `decide` may add."""
        self.refused: list[Refusal] = []
        """Settings that are impossible on this base."""

    def _with_attention(self, training: TrainingConfig, elsewhere: bool) -> TrainingConfig:
        """The training with the attention implementation that the base has."""
        choice = resolve_attention(training.attn_implementation, self.counter.skeleton, elsewhere)
        self.no_attention = self.no_attention or choice.reason
        return training.model_copy(update={"attn_implementation": choice.value})

    def build(self) -> None:
        """Fill `cells` and `pending`. Raises UserError for a cell that is impossible."""
        checks.check_answer_length(self.sweep, self.base, self.counter.config)
        checks.check_trackers(self.trainings)
        if self.sweep.tune is not None:
            checks.check_development(self.data)
        untuned = Cell(base=self.identity, method="base", method_version="1", options={}, samples=0, seed=0)
        self.cells.append(
            self._planned(untuned, self.trainings[0], self._wanted(True), timed=self.sweep.costs.inference)
        )
        for name, entry in zip(self.sweep.method_names, self.sweep.methods, strict=True):
            if name == "base":
                checks.check_untuned(entry)
                continue  # in every sweep already
            method = get(name)
            settings = {key: value for key, value in entry.items() if key != "method"}
            for combination in product_of_lists(method.Options, settings):
                try:
                    self._add_setting(name, method, combination)
                except SettingsError:
                    raise
                except UserError as error:
                    what = f"{name} on {self.base.id}" if len(self.sweep.base_model) > 1 else name
                    self.refused.append(Refusal(what, error.problem, error.fix))

    def _add_setting(self, name: str, method: Method, settings: Settings) -> None:
        """Add the cells of a method under one combination of its settings."""
        tune = self.sweep.tune
        rates = learning_rates_to_try(method, tune) if tune is not None else ()
        options = self.counter.resolve(method, {**settings, "lr": rates[0]} if rates else settings)
        # The parts of a stacked method may have learning rates of their own: these change with the method's.
        variants = [with_learning_rate(options, rate) for rate in rates] or [options]
        method.check_machine(variants[0])
        facts = method.facts_for(variants[0])
        wanted = self._wanted(facts.mergeable)
        for training in self.trainings:
            checks.check_supported(name, training, facts, self.counter.no_packing)
            virtual_tokens = method.virtual_tokens(variants[0])
            checks.check_max_length(training, self.base, self.counter.config, virtual_tokens, name)
            checks.check_held_out(training, [*self.samples, *([self._trial_samples] if tune is not None else [])])
            template = Cell(
                base=self.identity,
                method=name,
                method_version=method.version,
                options=variants[0],
                samples=max(self.samples),
                seed=0,
                data=self._cell_data,
                training=_identity_settings(training),
            )
            final = [
                self._planned(
                    template.model_copy(update={"samples": samples, "seed": seed}),
                    training,
                    wanted,
                    timed=self.sweep.costs.inference and (samples, seed) == (self.samples[0], self.sweep.seeds[0]),
                    merge_compared=seed == self.sweep.seeds[0],
                )
                for samples in self.samples
                for seed in self.sweep.all_seeds
            ]
            first = [planned for planned in final if planned.cell.seed in self.sweep.seeds]
            later = [planned for planned in final if planned.cell.seed not in self.sweep.seeds]
            if tune is None:
                self.cells += first
                self.later += later
            elif tune.design == "pilot":
                trials = self._pilot(tune, first[0], variants, self._trial_evaluations(facts.mergeable))
                self._add_tuned(first, later, rates, trials)
            else:
                development = self._trial_evaluations(facts.mergeable)
                for samples in self.samples:
                    of_samples = [planned for planned in first if planned.cell.samples == samples]
                    trials = self._crossed(of_samples, variants, development)
                    later_of = [planned for planned in later if planned.cell.samples == samples]
                    self._add_tuned(of_samples, later_of, rates, trials)

    def _pilot(
        self,
        tune: TuneConfig,
        final: PlannedCell,
        variants: Sequence[Settings],
        development: tuple[EvaluationIdentity, ...],
    ) -> tuple[PlannedCell, ...]:
        """One trial of a setting at each of the rates; `variants`: its options at these."""
        changes = {"samples": self._trial_samples, "seed": tune.seed}
        return tuple(
            replace(
                final,
                cell=final.cell.model_copy(update={**changes, "options": variant}),
                evaluations=(),
                answers=(),
                development=development,
                development_rows=self.data.development_answers_fingerprint,
                final=False,
                timed=False,
                merge_compared=False,
            )
            for variant in variants
        )

    def _crossed(
        self, final: Sequence[PlannedCell], variants: Sequence[Settings], development: tuple[EvaluationIdentity, ...]
    ) -> tuple[PlannedCell, ...]:
        """The final cells of a setting, one a seed, at each of the rates."""
        return tuple(
            replace(
                planned,
                cell=planned.cell.model_copy(update={"options": variant}),
                development=development,
                development_rows=self.data.development_answers_fingerprint,
                final=False,
            )
            for planned in final
            for variant in variants
        )

    def _add_tuned(
        self,
        first: Sequence[PlannedCell],
        later: Sequence[PlannedCell],
        rates: tuple[float, ...],
        trials: tuple[PlannedCell, ...],
    ) -> None:
        """Add the trials of a setting, and its final cells as pending. Those of later seeds run at the rate that the
        trials of the first seeds choose."""
        self.cells += trials
        self.pending += [Pending(planned, rates, trials) for planned in first]
        self.later += [Pending(planned, rates, trials) for planned in later]

    def _planned(
        self, cell: Cell, training: TrainingConfig, wanted: _Wanted, timed: bool = False, merge_compared: bool = True
    ) -> PlannedCell:
        return PlannedCell(
            cell,
            self.base,
            training,
            wanted.evaluations,
            *self.counter.count(cell),
            wanted.answers,
            timed=timed,
            merge_compared=merge_compared,
        )

    def _wanted(self, mergeable: bool) -> _Wanted:
        dtype = self.identity.dtype
        return _Wanted(
            tuple(evaluation_identities(self.data, self.sweep.evaluation, dtype, mergeable)),
            tuple(answer_identities(self.data, self.sweep, dtype, mergeable)),
        )

    def _trial_evaluations(self, mergeable: bool) -> tuple[EvaluationIdentity, ...]:
        """On the development questions, by the first protocol, whose scores averages are made of: a protocol that is
        added later changes nothing for a trial."""
        first = {"limit": None, "tasks": None, "protocol": self.sweep.evaluation.protocols[0]}
        config = self.sweep.evaluation.model_copy(update=first)
        return tuple(evaluation_identities(self.data.development_view, config, self.identity.dtype, mergeable))

    @cached_property
    def _trial_samples(self) -> int:
        """Examples of a trial."""
        share = self.sweep.tune.budget if self.sweep.tune is not None else 1.0
        return max(1, round(max(self.samples) * share))

    @cached_property
    def _cell_data(self) -> CellData:
        """The examples that the cells learn from."""
        config = self.data.config
        return CellData(
            train=tuple(sorted(self.data.pools)),
            format=config.format,
            mix=config.mix,
            subset_seed=config.subset_seed,
            append_eos=config.append_eos,
            fingerprint=self.data.fingerprint,
            template=config.template if self.data.has_instructions else None,
        )


def _identity_settings(training: TrainingConfig) -> Settings:
    """The settings of the training that are part of a cell."""
    settings: Settings = training.model_dump(mode="json", exclude=set(TrainingConfig.NOT_IDENTITY))
    if training.validation is None:  # cells from before the setting existed have no key for it
        del settings["validation"]
    if training.truncate == "start":  # nor for this one
        del settings["truncate"]
    return settings
