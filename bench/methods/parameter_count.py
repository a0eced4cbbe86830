"""How many parameters a cell trains, counted on its base model without weights.

The count also shows whether a method can be attached to a base at all.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.methods.learning_rate_grid import without_learning_rate
from bench.methods.method import Method
from bench.methods.peft_base import collect_warnings
from bench.methods.registry import get
from bench.models.load import build_model, load_config, load_skeleton
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import BaseModelConfig

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Size, nn
    from transformers import PretrainedConfig, PreTrainedModel

    ModuleKind = tuple[str, type[nn.Module], tuple[tuple[str, Size], ...]]
    """A module's place (without the numbers in it), its class, and its parameters' names and shapes."""


class ParameterCounter:
    """Checks settings and counts parameters on a base without its weights. Counts once per method and settings,
    whatever the learning rate."""

    def __init__(self, base: BaseModelConfig) -> None:
        self.base = base
        self.config = load_config(base.id, base.revision, base.trust_remote_code)
        self.skeleton = load_skeleton(base.id, base.revision, base.trust_remote_code)
        self.alike = layers_alike(self.skeleton, base.trust_remote_code)
        self.counted: dict[str, tuple[int, int]] = {}
        self.warnings: dict[str, str] = {}
        """Of PEFT, by text: the method whose settings met it first."""

    @property
    def no_packing(self) -> str:
        """Why several examples cannot share a row of this base; empty if they can."""
        from bench.models.shared_rows import row_sharing

        kind = self.config.model_type
        return "" if row_sharing(self.config).rows else f"in a model of the type {kind} they could see one another"

    def resolve(self, method: Method, settings: Settings) -> Settings:
        """The method's settings. Raises UserError, naming the cells, for settings that are impossible on this base."""
        try:
            with self._collecting(method.name):
                return method.resolve(settings, self.skeleton)
        except UserError as error:
            rank = settings.get("rank")
            cells = f"cells {method.name}{f'-r{rank}' if rank is not None else ''} on {self.base.id}"
            raise type(error)(f"{cells}: {error.problem}", error.fix) from error

    def count(self, cell: Cell) -> tuple[int, int]:
        """(trainable, total) parameters. Raises UserError for a cell that is trained and has no parameter to train."""
        key = json.dumps([cell.method, without_learning_rate(cell.options)], sort_keys=True)
        if key not in self.counted:
            with self._collecting(cell.method):
                self.counted[key] = count_parameters(cell, self.config, alike=self.alike)
        if cell.data is not None and not self.counted[key][0]:
            raise UserError(f"cell {cell.name} would train nothing", "Its settings leave no parameter to train.")
        return self.counted[key]

    @contextmanager
    def _collecting(self, method: str) -> Iterator[None]:
        with collect_warnings() as texts:
            yield
        for text in texts:
            self.warnings.setdefault(text, method)


def layers_alike(skeleton: PreTrainedModel, trust_remote_code: bool = False) -> bool:
    """Whether all layers of a model after its first have the same modules and parameters, so that models of one and of
    two layers suffice to count those of any depth. False if an architecture cannot be that shallow."""
    import torch

    try:
        layers = skeleton.config.get_text_config().num_hidden_layers
        with torch.device("meta"):
            shallow = (build_model(of_depth(skeleton.config, depth), trust_remote_code) for depth in (1, 2))
            first, second = (_modules(model) for model in shallow)
    except Exception:  # an architecture may raise anything for a depth that it was not made for
        return False
    modules = _modules(skeleton)
    kinds = {*modules, *second, *first}
    return all(modules[kind] == first[kind] + (second[kind] - first[kind]) * (layers - 1) for kind in kinds)


def _modules(model: nn.Module) -> Counter[ModuleKind]:
    """How many modules of each kind a model has."""
    return Counter(
        (
            re.sub(r"\d+", "#", path),
            type(module),
            tuple(
                (name, parameter.shape)
                for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
            ),
        )
        for path, module in model.named_modules()
    )


def of_depth(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """A copy of the configuration with this number of layers."""
    changed = copy.deepcopy(config)
    changed.get_text_config().num_hidden_layers = layers
    return changed


def count_parameters(cell: Cell, config: PretrainedConfig, exact: bool = True, alike: bool = False) -> tuple[int, int]:
    """(trainable, total) parameters of a cell's model, without the base's weights and, except for a few methods,
    without any memory. Those few decide by values, so they are attached to models of one and of two layers with random
    weights, and all further layers are taken to be like the second; `exact=False` refuses them instead.

    `alike`: the base's layers are (`layers_alike`), and models of one and of two layers serve for every method.
    Settings that pick layers always need all of them, and so does a user's own method, which may treat each layer
    differently.

    Raises UserError, naming the cell, if the method cannot be attached to this base.
    """
    import torch

    method = get(cell.method)

    def attached(config: PretrainedConfig = config) -> tuple[int, int]:
        torch.manual_seed(0)
        return _parameters(method.attach(build_model(config, cell.base.trust_remote_code), cell))

    def extrapolated() -> tuple[int, int]:
        layers = config.get_text_config().num_hidden_layers
        first, second = (attached(of_depth(config, min(depth, layers))) for depth in (1, 2))
        trainable, total = (a + (b - a) * (layers - 1) for a, b in zip(first, second, strict=True))
        return trainable, total

    picks = picks_layers(cell.options)
    try:
        try:
            with torch.device("meta"):
                return extrapolated() if alike and not picks and ":" not in cell.method else attached()
        except RuntimeError as error:  # torch's, for a value that was read from the meta device
            if "meta" not in str(error).lower():
                raise
            if not exact:
                raise UserError("how many it trains depends on the weights: `bench plan` counts it") from None
        return attached() if picks else extrapolated()
    except UserError:
        raise
    except Exception as error:  # a method's library may raise anything for settings that do not fit
        reason = method.explain(cell.options, str(error))
        raise UserError(f"cell {cell.name} is impossible on {cell.base.id}: {reason}") from error


def adapted_share(cell: Cell, config: PretrainedConfig, trust_remote_code: bool = False) -> float | None:
    """The part of the weights in the base's blocks that a cell's adapter acts on, 0 to 1, counted without weights.

    None if it acts on no weights (a prompt, say), if it trains all of them, or if the base has no blocks.
    """
    import torch

    from bench.models.blocks import find_blocks

    with torch.device("meta"):
        model = build_model(config, trust_remote_code)
        blocks = find_blocks(model)
        if blocks is None:
            return None
        in_blocks = {
            name: parameter.numel()
            for name, parameter in model.named_parameters()
            if name.startswith(f"{blocks.path}.") and parameter.ndim > 1
        }
        try:
            adapted = get(cell.method).attach(model, cell)
        except RuntimeError:  # a method that reads values
            return None
    tuner = getattr(adapted, "base_model", None)
    modules: list[str] = getattr(tuner, "targeted_module_names", [])
    parameters: list[str] = getattr(tuner, "targeted_parameter_names", [])
    targeted = {*(f"{name}.weight" for name in modules), *parameters}
    return sum(in_blocks.get(name, 0) for name in targeted) / sum(in_blocks.values()) if targeted else None


NAME = re.compile(r"(?!\d)[\w-]+(\.(?!\d)[\w-]+)*")
"""The end of a module's path (`q_proj`, `self_attn.q_proj`), or a word. A path with a number in it and a pattern do
not match: either may select only some layers."""


def picks_layers(setting: JsonValue) -> bool:
    """Whether a setting, or any setting within it, picks layers: by its key, or by a text that is more than a name."""
    if isinstance(setting, dict):
        return any(
            picks_layers(key) or picks_layers(value) or (bool(value) and "layer" in key)
            for key, value in setting.items()
        )
    if isinstance(setting, list):
        return any(picks_layers(item) for item in setting)
    return isinstance(setting, str) and not NAME.fullmatch(setting)


def _parameters(model: nn.Module) -> tuple[int, int]:
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
