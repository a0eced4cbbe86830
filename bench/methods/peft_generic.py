"""Any type of the installed PEFT: `{method: peft, peft: {peft_type: ...}}`, or a type by its usual name.

A setting that is a field of the type's configuration may also be written beside `rank` and `lr`
(`{method: boft, rank: 8, boft_n_butterfly_factor: 2}`). A setting whose value is a list belongs inside `peft: {...}`,
because a list beside `rank` makes a cell of each of its values. `rank` sets the field that is the rank of the type
(`bench.methods.peft_registry`). The resolved configuration, with every field, is part of the cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, JsonValue

from bench.errors import UserError, unknown
from bench.methods.method import MethodFacts
from bench.methods.peft_base import PeftMethod
from bench.methods.peft_configuration import (
    NOT_SETTINGS,
    as_json,
    build_configuration,
    configuration_classes,
    configuration_fields,
    default_of,
    tuner_classes,
)
from bench.methods.peft_registry import PEFT_TYPES, PeftFacts, peft_facts
from bench.methods.target_modules import resolve_target_modules
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import Strict

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

FROM_CELL: dict[str, Callable[[Cell], int]] = {
    "total_step": lambda cell: cell.steps,
    **dict.fromkeys(
        ("projection_prng_key", "random_loc_seed", "proj_seed", "projection_seed", "random_seed"),
        lambda cell: cell.seed,
    ),
}
"""Fields that follow from the cell unless they are set, and are null in its settings: AdaLoRA's number of steps, and
the seeds of an adapter's frozen random parts, which belong to its initialisation."""


class GenericPeftOptions(Strict):
    """The settings of a PEFT type."""

    lr: float | None = Field(None, gt=0)
    """Peak learning rate. Default: the registry's for the type."""
    rank: int | None = Field(None, ge=1)
    """The capacity setting of the type: `bench methods` says what it is."""
    target_modules: str | list[str] = "auto"
    """As for LoRA; `auto` is PEFT's own choice for a type that is not for linear layers."""
    peft: dict[str, JsonValue] | str = Field(default_factory=dict)
    """PEFT's configuration, or the path of an adapter_config.json; `peft_type` names the type."""


class GenericPeft(PeftMethod):
    """Any PEFT type; with a preset `peft_type`, that type."""

    name = "peft"
    Options: ClassVar[type[GenericPeftOptions]] = GenericPeftOptions
    facts = MethodFacts(
        summary="any type of the installed PEFT, by its configuration",
        rank="what it is for the type",
        shared_prefix="none",
        lr_grid=(),
        source="the type's",
    )

    def facts_for(self, options: Settings) -> MethodFacts:
        return _method_facts(peft_facts(_peft_type(options)))

    @property
    def preset_type(self) -> str | None:
        """The type that this name stands for; None for the method `peft`."""
        return _peft_type(self.preset) if self.preset else None

    @property
    def changes_weights(self) -> bool:
        return self.preset_type is not None and peft_facts(self.preset_type).targets != "none"

    @property
    def default_lr(self) -> float | None:
        return peft_facts(self.preset_type).lr if self.preset_type else None

    def cannot_load_in_peft(self, options: Settings, folder: Path) -> str:
        configuration = configuration_classes()[_peft_type(options)]
        return "" if configuration.__module__.startswith("peft.") else "the type is this harness's own"

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        fields = self.Options.model_fields
        beside = {key: value for key, value in settings.items() if key not in fields}
        validated = super().resolve({key: value for key, value in settings.items() if key in fields}, model)
        options = self.Options.model_validate(validated)
        given = {**_read_configuration(options.peft, self.name), **beside}
        peft_type = self._checked_type(given, model)
        entry = peft_facts(peft_type)
        chosen = self._checked_fields(given, peft_type, entry)
        if options.rank is not None:
            self._set_rank(chosen, options.rank, entry, peft_type)
        if "target_modules" in configuration_fields(peft_type):
            targets = chosen.get("target_modules") or as_json(options.target_modules)
            chosen["target_modules"] = self._target_modules(targets, entry, peft_type, model)
        elif options.target_modules != "auto":
            raise UserError(f"method {self.name}: {peft_type} has no target_modules")
        resolved = self._resolved(peft_type, _with_defaults(chosen, entry, peft_type, model))
        rank = resolved[entry.rank_field] if entry.rank_field else None
        if options.rank is not None and rank != options.rank:
            raise UserError(
                f"method {self.name}: rank {options.rank} is not possible with these settings: {peft_type} makes it "
                f"{entry.rank_field} {rank}"
            )
        return {"lr": options.lr or entry.lr, "rank": rank, "peft": {"peft_type": peft_type, **resolved}}

    def _checked_type(self, given: Settings, model: PreTrainedModel) -> str:
        """The PEFT type of a configuration. Raises UserError if it is missing, unknown or impossible here."""
        peft_type = given.get("peft_type") or self.preset_type
        if not peft_type:
            raise UserError(
                f"method {self.name}: no peft_type is given",
                "For example {method: peft, peft: {peft_type: LOHA, r: 8}}, or the path of an adapter_config.json.",
            )
        if self.preset_type and peft_type != self.preset_type:
            raise UserError(f"method {self.name} is {self.preset_type}, not {peft_type}", "Use method: peft.")
        peft_type = str(peft_type).upper()
        if peft_type not in configuration_classes():
            raise UserError(f"method {self.name}: {unknown('peft_type', peft_type, configuration_classes())}")
        entry = peft_facts(peft_type)
        if entry.unsupported:
            raise UserError(f"method {self.name}: {peft_type} does not run here: {entry.unsupported}")
        if entry.architectures and model.config.model_type not in entry.architectures:
            raise UserError(
                f"method {self.name} works on {', '.join(entry.architectures)}; the base model is of the type "
                f"{model.config.model_type}",
                "PEFT covers no other architecture here: leave the method out for this base.",
            )
        return peft_type

    def _checked_fields(self, given: Settings, peft_type: str, entry: PeftFacts) -> Settings:
        """The settings among the fields of a configuration. Raises UserError for unknown and for refused ones."""
        fields = configuration_fields(peft_type)
        for key in given:
            if key not in {*fields, *NOT_SETTINGS}:
                allowed = {*fields, *self.Options.model_fields}
                raise UserError(f"method {self.name}: {unknown('setting', key, allowed)}")
        chosen = {key: value for key, value in given.items() if key in fields}
        for key, reason in entry.refused.items():
            if chosen.get(key) not in (None, False, default_of(fields[key])):
                raise UserError(f"method {self.name}: {peft_type} with {key}: {chosen[key]!r} is refused: {reason}")
        return chosen

    def _set_rank(self, chosen: Settings, rank: int, entry: PeftFacts, peft_type: str) -> None:
        if entry.rank_field is None:
            raise UserError(f"method {self.name}: rank: {peft_type} has no rank; leave it out")
        if chosen.setdefault(entry.rank_field, rank) != rank:
            raise UserError(
                f"method {self.name}: rank is {rank}, and {entry.rank_field} is {chosen[entry.rank_field]}",
                f"They are the same setting of {peft_type}: give only one of them.",
            )

    def _target_modules(
        self, setting: JsonValue, entry: PeftFacts, peft_type: str, model: PreTrainedModel
    ) -> JsonValue:
        if setting == "auto" and entry.targets == "none":
            return None
        if setting == "auto" and entry.targets == "own":
            tuner = tuner_classes().get(peft_type)
            mapping: Mapping[str, Collection[str]] = getattr(tuner, "target_module_mapping", None) or {}
            targets = mapping.get(model.config.model_type)
            return targets if targets is None or isinstance(targets, str) else as_json(sorted(targets))
        if setting == "all-linear":  # PEFT's name for it
            setting = "auto"
        names = {path.rpartition(".")[2] for path, _ in model.named_modules()} | {"auto", "llm_adapters"}
        if isinstance(setting, str):
            if setting not in names or entry.targets == "none":
                return setting  # a regular expression: PEFT checks that it matches a module
            return as_json(resolve_target_modules(setting, model, self.name))
        if not isinstance(setting, list):
            raise UserError(f"method {self.name}: target_modules: {setting!r}", "Give names of modules, or auto.")
        return as_json(resolve_target_modules([str(name) for name in setting], model, self.name))

    def _resolved(self, peft_type: str, chosen: Settings) -> Settings:
        """Every field of the configuration, as JSON."""
        fields = configuration_fields(peft_type)
        from_cell = set(FROM_CELL) & set(fields) - set(chosen)
        # Many steps: whether a schedule fits into the cell's steps is checked in the plan, when it is attached.
        steps: Settings = {"total_step": 10**9} if "total_step" in from_cell else {}
        try:
            config = build_configuration(peft_type, steps | chosen)
        except (TypeError, ValueError) as error:
            raise UserError(f"method {self.name}: {peft_type} refuses its settings: {error}") from error
        return {name: None if name in from_cell else as_json(getattr(config, name)) for name in fields}

    def config(self, cell: Cell) -> PeftConfig:
        options = dict(_configuration(cell.options))
        peft_type = str(options.pop("peft_type"))
        for name, value in FROM_CELL.items():
            if name in options and options[name] is None:
                options[name] = value(cell)
        fields = configuration_fields(peft_type)
        # Only settings that differ from PEFT's defaults are passed: some defaults are objects that JSON cannot hold.
        changed = {name: value for name, value in options.items() if value != as_json(default_of(fields[name]))}
        return build_configuration(peft_type, changed)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> PeftModel:
        configuration_classes()  # registers DVoRA with PEFT before its file is read
        return super().load(model, folder, cell)

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        from bench.models.compat.peft import give_first_task
        from bench.models.compat.peft_sync_free import avoid_synchronisation

        adapted = super()._adapted(model, config, cell)
        avoid_synchronisation(adapted)
        if peft_facts(_peft_type(cell.options)).needs_task_ids:
            give_first_task(adapted)
        return adapted

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        """AdaLoRA's orthogonality term, which PEFT adds only to a loss that the model itself computes (arXiv
        2303.10512, equation 4): weight times the mean of |P P^T - I| over the factors."""
        if _peft_type(cell.options) != "ADALORA":
            return None
        import torch

        weight = _configuration(cell.options)["orth_reg_weight"]
        assert isinstance(weight, (int, float))
        grams = [
            value @ value.T if "lora_A" in name else value.T @ value  # (rank, rank)
            for name, value in model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        norms = [torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return weight * torch.stack(norms).mean()

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        # PEFT's hook for the types that allot their budget while they train (AdaLoRA, AdaMSS).
        allocate: Callable[[int], None] | None = getattr(model.base_model, "update_and_allocate", None)
        if allocate is not None:
            allocate(step)


def _configuration(options: Mapping[str, JsonValue]) -> Settings:
    """The resolved configuration among a cell's settings."""
    configuration = options["peft"]
    assert isinstance(configuration, dict)
    return configuration


def _peft_type(options: Mapping[str, JsonValue]) -> str:
    return str(_configuration(options)["peft_type"])


def _with_defaults(chosen: Settings, entry: PeftFacts, peft_type: str, model: PreTrainedModel) -> Settings:
    """The chosen settings over the registry's defaults for this base and rank."""
    chosen = {key: value for key, value in chosen.items() if value is not None}
    sized = entry.sized_defaults(model, chosen) if entry.sized_defaults else {}
    settings = {**sized, **entry.defaults, **chosen}
    if entry.rank_field is None:
        return settings
    rank = settings.get(entry.rank_field) or default_of(configuration_fields(peft_type)[entry.rank_field])
    return {**entry.following(rank), **settings} if isinstance(rank, (int, float)) and rank else settings


def _method_facts(entry: PeftFacts) -> MethodFacts:
    return MethodFacts(
        summary=entry.summary,
        rank=entry.rank if entry.rank_field else None,
        shared_prefix=entry.shared_prefix,
        lr_grid=(entry.lr / 3, entry.lr, entry.lr * 3),
        source=entry.source,
        cannot_merge=entry.cannot_merge,
        pads_left=entry.pads_left,
        no_checkpointing=entry.no_checkpointing,
        no_packing=entry.no_packing,
        no_validation=entry.no_validation,
        no_checkpoint=entry.no_checkpoint,
    )


def _read_configuration(peft: Settings | str, method: str) -> Settings:
    """A configuration, or the content of the file that it names."""
    if not isinstance(peft, str):
        return dict(peft)
    try:
        content = json.loads(Path(peft).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"method {method}: cannot read the configuration {peft}: {error}",
            "Give the path of an adapter_config.json, or a mapping with peft_type.",
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"method {method}: {peft} holds no configuration", "It must be a JSON mapping with peft_type.")
    return content


PEFT_METHODS = (
    GenericPeft(),
    *(
        GenericPeft.named(entry.name, {"peft": {"peft_type": peft_type}}, _method_facts(entry))
        for peft_type, entry in PEFT_TYPES.items()
        if peft_type != "LORA" and not entry.unsupported
    ),
)
