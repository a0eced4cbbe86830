"""A sweep as a frozen model: what the user wrote, checked, with every default. `bench.sweep.sections` has its sections.

`bench.planning.build` turns it into cells: the product of the methods' list-valued settings, the training's, the sample
counts and the seeds, plus one untuned cell per base model.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.errors import shortened
from bench.hashing import short_hash
from bench.statistics import SEEDS
from bench.sweep.cell import Settings
from bench.sweep.contrasts import MOST_CONTRASTS, ContrastConfig
from bench.sweep.decide import DecideConfig
from bench.sweep.file_sets import with_file_sets
from bench.sweep.run_sections import CostsConfig, RunConfig, TuneConfig, with_design
from bench.sweep.sections import (
    AnswersConfig,
    BaseModelConfig,
    DataConfig,
    EvaluationConfig,
    OneOrMore,
    OpenSet,
    OwnSet,
    ReportConfig,
    SampleSize,
    Seed,
    Strict,
    TrainingConfig,
    ValidationConfig,
    json_values,
)

MAX_CELLS = 50_000
"""Of a sweep. The plan and the report look at every cell."""
MAX_PROBLEMS = 5
"""That one message lists."""


EXPECTED = {
    **dict.fromkeys(("dict_type", "model_type"), "must be a mapping, {key: value}, or left out"),
    **dict.fromkeys(("tuple_type", "list_type"), "must be a value or a list, or left out"),
}
"""What pydantic says in terms of Python, in those of YAML, by its type of error."""


class Sweep(Strict):
    """One sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Names the results folder."""
    note: str = ""
    """A sentence that the report must say, such as what was special about this run."""
    base_model: tuple[BaseModelConfig, ...]
    """An alias, folder or hub id, or {id, revision, dtype}; a list for several."""
    data: DataConfig = DataConfig()
    methods: tuple[Settings, ...]
    """Each a name or {method: name, setting: value or list of values}."""
    samples: OneOrMore[SampleSize | Literal["all"]]
    """Training examples per cell; subsets are nested within a seed."""
    seeds: OneOrMore[Seed] = (0,)
    """Of initialisation, dropout, training subset and order; a cell for each. With `decide`, of the first look."""
    tune: TuneConfig | None = None
    """Without it, each method runs at the rate that it is given, or its default."""
    training: Settings = Field(default_factory=dict)
    """The section below; a list in a field makes a cell for each value."""
    evaluation: EvaluationConfig = EvaluationConfig()
    answers: AnswersConfig | None = None
    """Without it, no open question is answered."""
    costs: CostsConfig = CostsConfig()
    run: RunConfig = RunConfig()
    report: ReportConfig = ReportConfig()
    contrasts: tuple[ContrastConfig, ...] = Field((), max_length=MOST_CONTRASTS)
    """The questions that the sweep is run to answer, at most five. Named before the first cell is run; one that is
    added later is reported as post hoc."""
    decide: DecideConfig | None = None
    """Without it, every setting is run with all seeds."""

    @model_serializer(mode="wrap")
    def _without_new_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Sweep files from before there were contrasts have no key for them, nor for `decide`."""
        content: dict[str, object] = handler(self)
        for key in ("contrasts", "decide"):
            if not getattr(self, key):
                content.pop(key, None)
        return content

    @model_validator(mode="before")
    @classmethod
    def _as_json_has_it(cls, data: object) -> object:
        """A program may give tuples, paths and numbers of numpy; a YAML file, dates and whole numbers as keys; both,
        files in the place of sets."""
        plain = json_values(data)
        if empty := _empty_list(plain):
            raise ValueError(f"{empty} is an empty list; give at least one value, or leave it out")
        if not isinstance(plain, dict):
            return plain
        if plain.get("decide") is not None and plain.get("seeds") is None:
            with suppress(ValidationError):  # which is raised again, with its place
                first = DecideConfig.model_validate(plain["decide"]).looks[0]
                plain = {**plain, "seeds": list(range(first))}
        return with_design(with_file_sets(plain))

    @field_validator("base_model", mode="before")
    @classmethod
    def _expand_bases(cls, value: object) -> object:
        entries = value if isinstance(value, (list, tuple)) else [value]
        return tuple({"id": entry} if isinstance(entry, str) else entry for entry in entries)

    @field_validator("methods", mode="before")
    @classmethod
    def _expand_methods(cls, value: object) -> object:
        entries = []
        for item in value if isinstance(value, (list, tuple)) else [value]:
            entry = {"method": item} if isinstance(item, str) else item
            if isinstance(entry, dict) and "peft" in entry:
                entry = {"method": "peft", **entry}
            if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
                raise ValueError(f"a method must be a name or {{method: name, ...}}; got {shortened(entry)}")
            entries.append(entry)
        return tuple(entries)

    @model_validator(mode="after")
    def _check_baseline(self) -> Sweep:
        methods = self.method_names
        if self.report.baseline is not None and self.report.baseline not in methods:
            raise ValueError(
                f"report.baseline {self.report.baseline!r} is not one of the methods: {', '.join(methods)}"
            )
        if self.report.baseline_rank is not None and self.report.baseline is None:
            raise ValueError("report.baseline_rank is a rank of report.baseline, which names no method")
        return self

    @model_validator(mode="after")
    def _check_contrasts(self) -> Sweep:
        for number, contrast in enumerate(self.contrasts):
            missing = [name for name in contrast.methods if name not in self.method_names]
            if missing:
                raise ValueError(
                    f"contrasts.{number}: {missing[0]!r} is not one of the methods: {', '.join(self.method_names)}"
                )
        if self.contrasts and len(set(self.seeds)) < SEEDS:
            raise ValueError(
                f"contrasts are estimated over seeds, at least {SEEDS}, and this sweep has {len(set(self.seeds))}; "
                f"set seeds to {list(range(SEEDS))} or more, or leave contrasts out"
            )
        repeated = {contrast.id for contrast in self.contrasts}
        if len(repeated) < len(self.contrasts):
            raise ValueError("contrasts has the same contrast twice; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_looks(self) -> Sweep:
        if self.decide is None:
            return self
        given, first = len(set(self.seeds)), self.decide.looks[0]
        if given != first or given != len(self.seeds):
            many = f"{given} different seeds" if given < len(self.seeds) else f"{given} seed{'s' * (given > 1)}"
            raise ValueError(
                f"seeds are those of the first look of decide, at {first} seeds, and this sweep has {many}; leave "
                f"seeds out, or give {first}"
                + (f", or set decide.looks to [{given}, ...]" if given == len(self.seeds) >= SEEDS else "")
            )
        self.decide.all_seeds(self.seeds)
        return self

    @model_validator(mode="after")
    def _check_tuning(self) -> Sweep:
        if self.tune is None:
            return self
        with_rate = [str(entry["method"]) for entry in self.methods if "lr" in entry]
        if with_rate:
            raise ValueError(f"tune chooses the learning rates; leave out lr of {', '.join(with_rate)}")
        if self.tune.design == "crossed":
            self._check_crossed(self.tune)
        elif self.tune.seed in self.seeds:
            raise ValueError(f"tune.seed {self.tune.seed} is one of the seeds; the trials need another one")
        unknown = set() if self.tune.lr == "grid" else set(self.tune.lr) - set(self.method_names)
        if unknown:
            raise ValueError(f"tune.lr names methods that are not in the sweep: {', '.join(sorted(unknown))}")
        if self.tune.most_rates < self.tune.trials:
            raise ValueError(f"tune.limit {self.tune.limit} is below tune.trials {self.tune.trials}; raise it")
        return self

    def _check_crossed(self, tune: TuneConfig) -> None:
        if len(set(self.seeds)) < 2:
            raise ValueError(
                "tune.design crossed chooses the rate of a seed by the other seeds, and this sweep has one; set seeds "
                "to [0, 1, 2], or design to pilot"
            )
        if tune.budget < 1:
            raise ValueError("tune.budget is of a pilot, and tune.design is crossed; leave one of them out")

    @property
    def method_names(self) -> list[str]:
        """The methods' names, in the order of the sweep file."""
        return [str(entry["method"]) for entry in self.methods]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds, and with `decide` those of all looks after them."""
        reserved = None if self.tune is None else self.tune.seed
        return self.seeds if self.decide is None else self.decide.all_seeds(self.seeds, reserved)

    def resolved(self) -> dict[str, JsonValue]:
        """The sweep with its defaults filled in, as sweep.yaml holds it; it can be run again."""
        return self.model_dump(mode="json")

    def plan_hash(self) -> str:
        """The same for sweeps with the same plan: how its cells are run is left out."""
        return short_hash(json.dumps(self.model_dump(mode="json", exclude={"run"}), sort_keys=True))

    @model_validator(mode="after")
    def _check_training(self) -> Sweep:
        combinations = count_combinations(TrainingConfig, self.training)
        if combinations > MAX_CELLS:  # each is checked
            raise ValueError(
                f"the lists of training make {combinations:,} combinations; at most {MAX_CELLS:,} can be run"
            )
        for settings in product_of_lists(TrainingConfig, self.training):
            TrainingConfig.model_validate(settings)
        return self


def describe(error: ValidationError) -> str:
    """A validation error in one line a problem: where, what."""
    lines = []
    problems = error.errors()
    for problem in problems[:MAX_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"])
        what = EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").replace("\n  ", ". ")
        given = problem.get("input")
        is_scalar = given is None or isinstance(given, (str, int, float, bool))
        shown = f" (got {'null' if given is None else shortened(given)})" if is_scalar else ""
        lines.append(f"{where}: {what}{shown}" if where else f"{what}{shown}")
    more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "; ".join([*lines, *more])


def product_of_lists(model: type[BaseModel], settings: Settings) -> Iterator[Settings]:
    """Every combination of the list-valued settings.

    A field that is a list by its own type is multiplied only where the value is a list of lists.
    """
    for combination in itertools.product(*_axes(model, settings)):
        yield dict(combination)


def count_combinations(model: type[BaseModel], settings: Settings) -> int:
    """How many settings `product_of_lists` yields."""
    return math.prod(map(len, _axes(model, settings)))


def _axes(model: type[BaseModel], settings: Settings) -> list[list[tuple[str, JsonValue]]]:
    """The values of each setting, each with its key."""
    axes: list[list[tuple[str, JsonValue]]] = []
    for key, value in settings.items():
        if not isinstance(value, list):
            axes.append([(key, value)])
            continue
        field = model.model_fields.get(key)
        is_value = field is not None and _takes_list(field.annotation) and not any(isinstance(v, list) for v in value)
        axes.append([(key, value)] if is_value else [(key, item) for item in value])
    return axes


def _takes_list(annotation: object) -> bool:
    if get_origin(annotation) in (list, tuple):
        return True
    return any(_takes_list(part) for part in get_args(annotation))


def _empty_list(value: object, path: str = "") -> str:
    """The dotted path of an empty list in a sweep; empty if there is none. PEFT's configurations may have some, and
    `report_to` may be one."""
    if isinstance(value, (list, tuple)):
        children = [(f"{path}.{place}", item) for place, item in enumerate(value)]
        if not children:
            return path or "the sweep"
    elif isinstance(value, dict):
        children = [
            (f"{path}.{key}" if path else str(key), item)
            for key, item in value.items()
            if key not in ("peft", "report_to")
        ]
    else:
        return ""
    return next((empty for name, item in children if (empty := _empty_list(item, name))), "")


SECTIONS: dict[str, type[BaseModel]] = {
    "": Sweep,
    "base_model": BaseModelConfig,
    "data": DataConfig,
    "data.sets.NAME": OwnSet,
    "training": TrainingConfig,
    "training.validation": ValidationConfig,
    "tune": TuneConfig,
    "evaluation": EvaluationConfig,
    "answers": AnswersConfig,
    "answers.sets.NAME": OpenSet,
    "costs": CostsConfig,
    "run": RunConfig,
    "report": ReportConfig,
    "contrasts": ContrastConfig,
    "decide": DecideConfig,
}
"""The sections of a sweep file by their dotted keys."""
