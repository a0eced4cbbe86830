"""Any type of the installed PEFT: `{method: peft, peft: {peft_type: ...}}`, or a type by its usual name.

A setting that is a field of the type's configuration may also be written beside `rank` and `lr`
(`{method: boft, rank: 8, boft_n_butterfly_factor: 2}`). A setting whose value is a list belongs inside `peft: {...}`,
because a list beside `rank` makes a cell of each of its values. `rank` sets the field that is the rank of the type
(`bench.methods.peft_registry`). The resolved configuration, with every field, is part of the cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, JsonValue, model_validator

from bench.errors import UserError, unknown
from bench.methods.method import LoadingKeywords, MethodFacts
from bench.methods.peft_base import PeftMethod
from bench.methods.peft_configuration import (
    NOT_SETTINGS,
    as_json,
    build_configuration,
    checked_values,
    configuration_classes,
    configuration_fields,
    default_of,
    tuner_classes,
)
from bench.methods.peft_matching import check_matches
from bench.methods.peft_registry import PEFT_TYPES, PeftFacts, peft_facts
from bench.methods.quantization import Quantization, check_bitsandbytes, quantization_config, quantized_facts
from bench.methods.target_modules import resolve_target_modules
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Rank, Strict

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


OF_THE_HARNESS = ("save_projection", "progressbar", "auxiliary_loss_weight")
"""Defaults of the registry that hold for a configuration from a file, too: they do not change what is trained, or PEFT
leaves them to the caller."""


class GenericPeftOptions(Strict):
    """The settings of a PEFT type."""

    lr: LearningRate | None = None
    """Peak learning rate. Default: the registry's for the type."""
    rank: Rank | None = None
    """The capacity setting of the type: `bench methods` says what it is."""
    target_modules: str | list[str] = "auto"
    """As for LoRA; `auto` is PEFT's own choice for a type that is not for linear layers."""
    peft: dict[str, JsonValue] | str = Field(default_factory=dict)
    """PEFT's configuration, or the path of an adapter_config.json; `peft_type` names the type."""
    quantization: Quantization | None = None
    """As for LoRA: of VeRA and DVoRA, whose authors fine-tune a 4-bit base."""
    double_quantization: bool | None = None
    """As for LoRA."""

    @model_validator(mode="after")
    def _check_quantization(self) -> Self:
        if self.double_quantization is not None and self.quantization not in ("nf4", "fp4"):
            raise ValueError("double_quantization belongs to quantization: nf4 or fp4")
        return self


class GenericPeft(PeftMethod):
    """Any PEFT type; with a preset `peft_type`, that type."""

    name = "peft"
    Options: ClassVar[type[GenericPeftOptions]] = GenericPeftOptions
    facts = MethodFacts(
        summary="any type of the installed PEFT, by its configuration",
        rank="what it is for the type",
        shared_prefix="none",
        lr_center=None,
        source="the type's",
    )

    def facts_for(self, options: Settings) -> MethodFacts:
        facts = _method_facts(peft_facts(_peft_type(options)))
        if not options.get("quantization"):
            return facts
        return replace(quantized_facts(facts), needs={"bitsandbytes": "quant"})

    def check_machine(self, options: Settings) -> None:
        super().check_machine(options)
        if quantization := self._quantization(options)[0]:
            check_bitsandbytes(self.name, quantization)

    def load_kwargs(self, cell: Cell) -> LoadingKeywords:
        quantization, double = self._quantization(cell.options)
        if quantization is None:
            return {}
        return {"quantization_config": quantization_config(quantization, double, cell.base.dtype)}

    def _quantization(self, options: Settings) -> tuple[Quantization | None, bool]:
        """How the base is quantized, and whether its scales are, too."""
        settings = {key: value for key, value in options.items() if "quantization" in key}
        validated = self.Options.model_validate(settings)
        return validated.quantization, bool(validated.double_quantization)

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

    def cannot_export(self, options: Settings, folder: Path) -> str:
        configuration = configuration_classes()[_peft_type(options)]
        return "" if configuration.__module__.startswith("peft.") else "the type is this harness's own"

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        fields = self.Options.model_fields
        beside = {key: value for key, value in settings.items() if key not in fields}
        validated = super().resolve({key: value for key, value in settings.items() if key in fields}, model)
        options = self.Options.model_validate(validated)
        from_file = isinstance(options.peft, str)
        given = {**_read_configuration(options.peft, self.name), **beside}
        peft_type = self._checked_type(given, model)
        entry = peft_facts(peft_type)
        chosen = self._checked_fields(given, peft_type, entry)
        if options.rank is not None:
            self._set_rank(chosen, options.rank, entry, peft_type)
        if "target_modules" in configuration_fields(peft_type):
            by_peft = given.get("target_modules", "" if not from_file else None) is None
            if by_peft and "target_modules" not in settings:
                chosen["target_modules"] = self._choice_of_peft(peft_type, chosen, model)
            else:
                targets = chosen.get("target_modules") or as_json(options.target_modules)
                chosen["target_modules"] = self._target_modules(targets, entry, peft_type, model)
            if chosen["target_modules"] is None:
                del chosen["target_modules"]  # the registry's default for this base, if it has one, else PEFT's
        elif options.target_modules != "auto":
            raise UserError(f"method {self.name}: {peft_type} has no target_modules")
        defaults = _defaults(chosen, entry, peft_type, model)
        if from_file:  # what the file leaves out is PEFT's default
            defaults = {
                key: value
                for key, value in defaults.items()
                if key in OF_THE_HARNESS or default_of(configuration_fields(peft_type)[key]) is None
            }
        resolved = self._resolved(peft_type, {**defaults, **chosen})
        check_matches(resolved, model, self.name)
        rank = resolved[entry.rank_field] if entry.rank_field else None
        if options.rank is not None and rank != options.rank:
            raise UserError(
                f"method {self.name}: rank {options.rank} is not possible with these settings: {peft_type} makes it "
                f"{entry.rank_field} {rank}"
            )
        settled: Settings = {"lr": options.lr or entry.lr, "rank": rank, "peft": {"peft_type": peft_type, **resolved}}
        return settled | self._settled_quantization(options, entry, peft_type)

    def _settled_quantization(self, options: GenericPeftOptions, entry: PeftFacts, peft_type: str) -> Settings:
        """The settings of the quantization; none without one, as in cells from before there were such settings."""
        if options.quantization is None:
            return {}
        if not entry.quantizable:
            able = ", ".join(facts.name for facts in PEFT_TYPES.values() if facts.quantizable)
            raise UserError(
                f"method {self.name}: {peft_type} with quantization is not supported",
                f"Leave it out; {able} can, and method: lora.",
            )
        if options.quantization == "int8":
            return {"quantization": "int8"}
        double = True if options.double_quantization is None else options.double_quantization
        return {"quantization": options.quantization, "double_quantization": double}

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
        """The settings among the fields of a configuration, without those that are null: a null one is not set.

        A key that the installed PEFT does not know is ignored if its value sets nothing (null, false, an empty list).
        Raises UserError for unknown ones, all at once, and for refused ones.
        """
        fields = configuration_fields(peft_type)
        given = {key: value for key, value in given.items() if value is not None and key not in NOT_SETTINGS}
        if wrong := [key for key, value in given.items() if key not in fields and value not in (False, [], {})]:
            allowed = {*fields, *self.Options.model_fields}
            if len(wrong) == 1:
                raise UserError(f"method {self.name}: {unknown('setting', wrong[0], allowed)}")
            raise UserError(
                f"method {self.name}: unknown settings of {peft_type}: {', '.join(sorted(wrong))}",
                f"Leave them out. Allowed: {', '.join(sorted(allowed))}.",
            )
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

    def _choice_of_peft(self, peft_type: str, chosen: Settings, model: PreTrainedModel) -> JsonValue:
        """The target modules that PEFT takes for this architecture where its configuration has none."""
        kind = model.config.model_type
        modules = getattr(tuner_classes()[peft_type], "target_module_mapping", {}).get(kind)
        if modules is None and (chosen.get("target_parameters") or peft_facts(peft_type).targets != "linear"):
            return None  # PEFT chooses when it attaches
        if modules is None:
            raise UserError(
                f"method {self.name}: target_modules is null, and PEFT has no choice of its own for {peft_type} on a "
                f"model of the type {kind}",
                "Name modules, or give target_modules: auto.",
            )
        return modules if isinstance(modules, str) else as_json(sorted(modules))

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
            config = build_configuration(peft_type, steps | checked_values(peft_type, chosen))
        except (TypeError, ValueError) as error:
            raise UserError(f"method {self.name}: {peft_type} refuses its settings: {error}") from error
        return {name: None if name in from_cell else as_json(getattr(config, name)) for name in fields}

    def virtual_tokens(self, options: Settings) -> int:
        tokens = _configuration(options).get("num_virtual_tokens")
        return tokens if isinstance(tokens, int) else 0

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

        if cell.options.get("quantization"):
            from bench.models.compat.bitsandbytes import keep_packing

            keep_packing(model)
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


def _defaults(chosen: Settings, entry: PeftFacts, peft_type: str, model: PreTrainedModel) -> Settings:
    """The registry's defaults for this base and rank."""
    sized = entry.sized_defaults(model, chosen) if entry.sized_defaults else {}
    defaults = {**sized, **entry.defaults}
    if entry.rank_field is None:
        return defaults
    rank = {**defaults, **chosen}.get(entry.rank_field)
    rank = rank or as_json(default_of(configuration_fields(peft_type)[entry.rank_field]))
    return {**entry.following(rank), **defaults} if isinstance(rank, (int, float)) and rank else defaults


def _method_facts(entry: PeftFacts) -> MethodFacts:
    return MethodFacts(
        summary=entry.summary,
        rank=entry.rank if entry.rank_field else None,
        shared_prefix=entry.shared_prefix,
        lr_center=entry.lr,
        source=entry.source,
        cannot_merge=entry.cannot_merge,
        pads_left=entry.pads_left,
        no_checkpointing=entry.no_checkpointing,
        no_packing=entry.no_packing,
        no_validation=entry.no_validation,
        no_checkpoint=entry.no_checkpoint,
        requires=entry.requires,
    )


def _read_configuration(peft: Settings | str, method: str) -> Settings:
    """A configuration, or the content of the file that it names."""
    if not isinstance(peft, str):
        return dict(peft)
    try:
        content = json.loads(Path(peft).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
