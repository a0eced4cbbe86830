"""Any type of the installed PEFT: `{method: peft, peft: {peft_type: ...}}`, and the names that people know.

A setting that is a field of the type's configuration may stand beside `rank` and `lr`, too
(`{method: boft, rank: 8, boft_n_butterfly_factor: 2}`); one whose value is a list belongs inside `peft: {...}`, since
a list beside `rank` makes a cell of each of its values. `rank` sets the field that it means for the type
(`bench.methods.peft_registry`). The resolved configuration, every field of it, is part of the cell.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.errors import UserError, unknown
from bench.methods.method import MethodFacts, MethodOptions
from bench.methods.peft_base import PeftMethod, quiet
from bench.methods.peft_registry import PEFT_TYPES, PeftFacts, facts_of
from bench.methods.target_modules import resolve_targets
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

NOT_SETTINGS = {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"}
NOT_SETTINGS |= {"inference_mode"}
"""Fields of every PEFT configuration that say where it comes from, not what it does."""

FROM_CELL: dict[str, Callable[[Cell], int]] = {
    "total_step": lambda cell: cell.steps,
    **dict.fromkeys(
        ("projection_prng_key", "random_loc_seed", "proj_seed", "projection_seed", "random_seed"),
        lambda cell: cell.seed,
    ),
}
"""Fields that follow from the cell unless they are set, and are null in its settings: AdaLoRA's number of steps, and
what draws the frozen random parts of an adapter, which belong to its initialisation."""


class GenericPeftOptions(MethodOptions):
    """The settings of a PEFT type."""

    lr: float | None = Field(None, gt=0)
    """Peak learning rate. Default: the registry's for the type."""
    rank: int | None = Field(None, ge=1)
    """The capacity knob of the type: `bench methods` says what it is."""
    target_modules: str | list[str] = "auto"
    """As for LoRA; `auto` is PEFT's own choice where the type is not for linear layers."""
    peft: dict[str, Any] | str = Field(default_factory=dict)
    """PEFT's configuration, or the path of an adapter_config.json; `peft_type` says which type it is."""


class GenericPeft(PeftMethod):
    """A PEFT type, whichever."""

    name = "peft"
    Options = GenericPeftOptions
    facts = MethodFacts(
        summary="any type of the installed PEFT, by its configuration",
        rank="what it is for the type",
        shared_prefix="none",
        lr_grid=(),
        source="the type's",
    )

    def facts_for(self, options: Mapping[str, Any]) -> MethodFacts:
        return _facts(facts_of(options["peft"]["peft_type"]))

    @property
    def changes_weights(self) -> bool:
        return bool(self.preset) and facts_of(self.preset["peft"]["peft_type"]).targets != "none"

    @property
    def default_lr(self) -> float | None:
        return facts_of(self.preset["peft"]["peft_type"]).lr if self.preset else None

    def cannot_load_in_peft(self, options: Mapping[str, Any]) -> str:
        config = configurations()[options["peft"]["peft_type"]]
        return "" if config.__module__.startswith("peft.") else "the type is this harness's own"

    def resolve(self, settings: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
        beside = {key: value for key, value in settings.items() if key not in GenericPeftOptions.model_fields}
        options = super().resolve({key: value for key, value in settings.items() if key not in beside}, model)
        given = {**_read(options["peft"], self.name), **beside}
        if self.preset:  # a name for one type
            peft_type = self.preset["peft"]["peft_type"]
            if given.setdefault("peft_type", peft_type) != peft_type:
                raise UserError(f"method {self.name} is {peft_type}, not {given['peft_type']}", "Use method: peft.")
        if not given.get("peft_type"):
            raise UserError(
                f"method {self.name}: no peft_type is given",
                "For example {method: peft, peft: {peft_type: LOHA, r: 8}}, or the path of an adapter_config.json.",
            )
        peft_type = given["peft_type"] = str(given["peft_type"]).upper()
        types = configurations()
        if peft_type not in types:
            raise UserError(f"method {self.name}: {unknown('peft_type', peft_type, types)}")
        entry = facts_of(peft_type)
        if entry.why_not:
            raise UserError(f"method {self.name}: {peft_type} does not run here: {entry.why_not}")
        if entry.architectures and model.config.model_type not in entry.architectures:
            raise UserError(
                f"method {self.name} works on {', '.join(entry.architectures)}; the base model is of the type "
                f"{model.config.model_type}",
                "PEFT covers no other architecture here: leave the method out for this base.",
            )
        fields = _fields(types[peft_type])
        for key in given:
            if key not in {*fields, *NOT_SETTINGS}:
                raise UserError(
                    f"method {self.name}: {unknown('setting', key, {*fields, *GenericPeftOptions.model_fields})}"
                )
        chosen = {key: value for key, value in given.items() if key in fields}
        for key, reason in entry.refused.items():
            if chosen.get(key) not in (None, False, _default(fields[key])):
                raise UserError(f"method {self.name}: {peft_type} with {key}: {chosen[key]!r} is refused: {reason}")
        if options["rank"] is not None:
            self._set_rank(chosen, options["rank"], entry, peft_type)
        if "target_modules" in fields:
            asked = chosen.get("target_modules") or options["target_modules"]
            chosen["target_modules"] = self._targets(asked, entry, peft_type, model)
        elif options["target_modules"] != "auto":
            raise UserError(f"method {self.name}: {peft_type} has no target_modules")
        chosen = {key: value for key, value in chosen.items() if value is not None}
        sized = entry.sized_defaults(model, chosen) if entry.sized_defaults else {}
        chosen = {**sized, **entry.defaults, **chosen}
        rank = chosen.get(entry.rank_field) or (_default(fields[entry.rank_field]) if entry.rank_field else None)
        follows = {name: math.ceil(ratio * rank) for name, ratio in entry.follows_rank.items()} if rank else {}
        resolved = self._resolved(peft_type, {**follows, **chosen})
        if options["rank"] is not None and resolved[entry.rank_field] != options["rank"]:
            raise UserError(
                f"method {self.name}: rank {options['rank']} is not possible with these settings: {peft_type} makes it "
                f"{entry.rank_field} {resolved[entry.rank_field]}"
            )
        return {
            "lr": options["lr"] or entry.lr,
            "rank": resolved[entry.rank_field] if entry.rank_field else None,
            "peft": {"peft_type": peft_type, **resolved},
        }

    def _set_rank(self, chosen: dict[str, Any], rank: int, entry: PeftFacts, peft_type: str) -> None:
        if entry.rank_field is None:
            raise UserError(f"method {self.name}: rank: {peft_type} has no rank; leave it out")
        if chosen.setdefault(entry.rank_field, rank) != rank:
            raise UserError(
                f"method {self.name}: rank is {rank}, and {entry.rank_field} is {chosen[entry.rank_field]}",
                f"They are one and the same for {peft_type}: give one of them.",
            )

    def _targets(
        self, asked: str | list[str], entry: PeftFacts, peft_type: str, model: PreTrainedModel
    ) -> list[str] | str | None:
        if asked == "auto" and entry.targets == "none":
            return None
        if asked == "auto" and entry.targets == "own":
            mapping = getattr(tuners().get(peft_type), "target_module_mapping", None) or {}
            found = mapping.get(model.config.model_type)
            return sorted(found) if isinstance(found, (list, tuple, set)) else found
        if asked == "all-linear":  # PEFT's word for it
            asked = "auto"
        named = {name.rpartition(".")[2] for name, _ in model.named_modules()} | {"auto", "llm_adapters"}
        if isinstance(asked, str) and (asked not in named or entry.targets == "none"):
            return asked  # a regular expression: PEFT looks whether it finds anything
        return resolve_targets(asked, model, self.name)

    def _resolved(self, peft_type: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Every field of the configuration, as JSON."""
        kind = configurations()[peft_type]
        from_cell = set(FROM_CELL) & set(_fields(kind)) - set(chosen)
        # Many steps: whether a schedule fits into the cell's is seen when it is attached, in the plan.
        steps = {"total_step": 10**9} if "total_step" in from_cell else {}
        try:
            with quiet():
                config = kind(task_type="CAUSAL_LM", **steps | chosen)
        except (TypeError, ValueError) as error:
            raise UserError(f"method {self.name}: {peft_type} refuses its settings: {error}") from error
        resolved = {name: _plain(getattr(config, name)) for name in _fields(kind)}
        return resolved | dict.fromkeys(from_cell)

    def config(self, cell: Cell) -> PeftConfig:
        options = dict(cell.options["peft"])
        peft_type = options.pop("peft_type")
        kind = configurations()[peft_type]
        for name, value in FROM_CELL.items():
            if name in options and options[name] is None:
                options[name] = value(cell)
        # Only what differs from PEFT's defaults is handed over: some defaults are objects, which JSON cannot give back.
        changed = {name: value for name, value in options.items() if value != _plain(_default(_fields(kind)[name]))}
        with quiet():
            return kind(task_type="CAUSAL_LM", **changed)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        configurations()  # DVoRA must be known to PEFT before its file is read
        return super().load(model, folder, cell)

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        from bench.methods.peft_sync_free import leave_unasked

        adapted = super()._adapted(model, config, cell)
        leave_unasked(adapted)
        if facts_of(cell.options["peft"]["peft_type"]).needs_task_ids:
            from peft.tuners.poly.layer import PolyLayer

            # By layer where they are asked there: in generation rows come (beams) and go (those that have ended).
            layers = [one for one in adapted.modules() if isinstance(one, PolyLayer)]
            for door in layers or [adapted]:
                door.register_forward_pre_hook(_first_task, with_kwargs=True)
            if not layers:
                generate = adapted.generate
                adapted.generate = lambda **inputs: generate(**_first_task(adapted, (), inputs)[1])
        return adapted

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        """AdaLoRA's orthogonality term, which PEFT adds only to a loss that the model itself computes (arXiv
        2303.10512, equation 4): weight times the mean of |P P^T - I| over the factors."""
        if cell.options["peft"]["peft_type"] != "ADALORA":
            return None
        import torch

        grams = [
            value @ value.T if "lora_A" in name else value.T @ value  # (rank, rank)
            for name, value in model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        off = [torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return cell.options["peft"]["orth_reg_weight"] * torch.stack(off).mean()

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        # PEFT's own hook of the types that allot their budget while they train (AdaLoRA, AdaMSS).
        allocate = getattr(model.base_model, "update_and_allocate", None)
        if allocate is not None:
            allocate(step)


def configurations() -> dict[str, type[PeftConfig]]:
    """The configuration classes of the installed PEFT by type, our DVoRA among them."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    import bench.methods.dvora  # noqa: F401  (registers it)

    return {one.value: config for one, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def tuners() -> dict[str, type]:
    """The tuner classes by type."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return {one.value: tuner for one, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()}


def _facts(entry: PeftFacts) -> MethodFacts:
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
    )


def _read(peft: Mapping[str, Any] | str, method: str) -> dict[str, Any]:
    if not isinstance(peft, str):
        return dict(peft)
    try:
        found = json.loads(Path(peft).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"method {method}: cannot read the configuration {peft}: {error}",
            "Give the path of an adapter_config.json, or a mapping with peft_type.",
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"method {method}: {peft} holds no configuration", "It must be a JSON mapping with peft_type.")
    return found


def _fields(kind: type[PeftConfig]) -> dict[str, dataclasses.Field]:
    """The fields of a configuration that are settings."""
    return {one.name: one for one in dataclasses.fields(kind) if one.init and one.name not in NOT_SETTINGS}


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    """A setting as JSON."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(one) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return value


def _first_task(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """All rows are of task 0."""
    import torch

    rows = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
    return args, {**kwargs, "task_ids": torch.zeros(len(rows), dtype=torch.long, device=rows.device)}


PEFT_METHODS = (
    GenericPeft(),
    *(
        GenericPeft.named(entry.name, {"peft": {"peft_type": peft_type}}, **vars(_facts(entry)))
        for peft_type, entry in PEFT_TYPES.items()
        if peft_type != "LORA" and not entry.why_not
    ),
)
