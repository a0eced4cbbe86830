"""A sweep as a frozen model: what the user wrote, checked, with every default. `bench.sweep.sections` has its sections.

`bench.planning.build` turns it into cells: the product of the methods' list-valued settings, the training's, the sample
counts and the seeds, plus one untuned cell per base model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, JsonValue, ValidationError, field_validator, model_validator

from bench.sweep.sections import (
    AnswersConfig,
    BaseModelConfig,
    CostsConfig,
    DataConfig,
    EvaluationConfig,
    ReportConfig,
    RunConfig,
    Strict,
    TrainingConfig,
    TuneConfig,
)


class Sweep(Strict):
    """One sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the results folder."""
    note: str = ""
    """A sentence that the report must say, such as what was special about this run."""
    base_model: tuple[BaseModelConfig, ...]
    """An alias, folder or hub id, or {id, revision, dtype}; a list for several."""
    data: DataConfig = DataConfig()
    methods: tuple[dict[str, Any], ...]
    """Each a name or {method: name, setting: value or list of values}."""
    samples: tuple[int | Literal["all"], ...]
    """Training examples per cell; subsets are nested within a seed."""
    seeds: tuple[int, ...] = (0,)
    tune: TuneConfig | None = None
    """Without it, each method runs at the rate that it is given, or its default."""
    training: dict[str, Any] = Field(default_factory=dict)
    """The section below; a list in a field makes a cell for each value."""
    evaluation: EvaluationConfig = EvaluationConfig()
    answers: AnswersConfig | None = None
    """Without it, no open question is answered."""
    costs: CostsConfig = CostsConfig()
    run: RunConfig = RunConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("base_model", mode="before")
    @classmethod
    def _bases(cls, value: Any) -> Any:
        many = value if isinstance(value, (list, tuple)) else [value]
        return tuple({"id": one} if isinstance(one, str) else one for one in many)

    @field_validator("methods", mode="before")
    @classmethod
    def _methods(cls, value: Any) -> Any:
        many = value if isinstance(value, (list, tuple)) else [value]
        entries = tuple({"method": one} if isinstance(one, str) else one for one in many)
        entries = tuple(
            {"method": "peft", **one} if isinstance(one, dict) and "peft" in one else one for one in entries
        )
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
                raise ValueError(f"a method must be a name or {{method: name, ...}}; got {entry!r}")
        return entries

    @field_validator("samples", "seeds", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if isinstance(value, (list, tuple)) else (value,)

    @field_validator("samples")
    @classmethod
    def _positive(cls, samples: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if any(isinstance(n, int) and n < 1 for n in samples):
            raise ValueError("samples must be at least 1; the untuned base is in every sweep already")
        return samples

    @model_validator(mode="after")
    def _baseline_is_there(self) -> Sweep:
        methods = [one["method"] for one in self.methods]
        if self.report.baseline is not None and self.report.baseline not in methods:
            raise ValueError(f"report.baseline {self.report.baseline!r} is none of the methods: {', '.join(methods)}")
        if self.report.baseline_rank is not None and self.report.baseline is None:
            raise ValueError("report.baseline_rank is a rank of report.baseline, which names no method")
        return self

    @model_validator(mode="after")
    def _tuned_and_not_given(self) -> Sweep:
        if self.tune is None:
            return self
        given = [one["method"] for one in self.methods if "lr" in one]
        if given:
            raise ValueError(f"tune chooses the learning rates; leave out lr of {', '.join(given)}")
        if self.tune.seed in self.seeds:
            raise ValueError(f"tune.seed {self.tune.seed} is one of the seeds; the trials need one of their own")
        strangers = set(self.tune.lr) - {one["method"] for one in self.methods} if self.tune.lr != "grid" else set()
        if strangers:
            raise ValueError(f"tune.lr names what is none of the methods: {', '.join(sorted(strangers))}")
        return self

    def resolved(self) -> dict[str, JsonValue]:
        """The sweep with its defaults filled in, as sweep.yaml holds it; it can be run again."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _training_is_valid(self) -> Sweep:
        for settings in product_of_lists(TrainingConfig, self.training):
            TrainingConfig.model_validate(settings)
        return self


def describe(error: ValidationError) -> str:
    """A validation error in one line a problem: where, what."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ").replace("\n  ", " ")
        given = problem.get("input")
        shown = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) else ""
        lines.append(f"{where}: {what}{shown}" if where else f"{what}{shown}")
    return "; ".join(lines)


def product_of_lists(model: type[BaseModel], settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the list-valued settings.

    A field that is a list by its own type is multiplied only where the value is a list of lists.
    """
    axes = []
    for key, value in settings.items():
        field = model.model_fields.get(key)
        listed = isinstance(value, list)
        if listed and field is not None and _takes_list(field.annotation):
            listed = any(isinstance(one, list) for one in value)
        axes.append([(key, one) for one in value] if listed else [(key, value)])
    for combination in itertools.product(*axes):
        yield dict(combination)


def _takes_list(annotation: Any) -> bool:
    if get_origin(annotation) in (list, tuple):
        return True
    return any(_takes_list(part) for part in get_args(annotation))
