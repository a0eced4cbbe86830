"""LoReFT and its relatives (arXiv 2404.03592): low-rank edits of hidden states at a prompt's first and last tokens.

The interventions are pyreft's modules, on our own hooks: pyvene's wrapper removes every other hook of the model, takes
positions as nested lists, and does not have the interface of a causal language model.

B rows, T tokens of the longest row, H hidden size, r rank, K most positions that are edited in a row.
"""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, cast

from pydantic import Field, model_validator

from bench.errors import CellProblem, UserError, unknown
from bench.methods.method import ExportSource, Method, MethodFacts, MethodOptions
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn
    from transformers import PreTrainedModel

FILE = "reft.safetensors"


class ReftOptions(MethodOptions):
    """The settings of the three edits."""

    lr: LearningRate = 9e-4
    """Peak learning rate."""
    rank: Rank = 8
    """Dimension of the edited subspace."""
    first: int = Field(7, ge=0, le=10**6)
    """How many of the prompt's first tokens are edited; at most half the prompt."""
    last: int = Field(7, ge=0, le=10**6)
    """How many of its last tokens are edited, the very last included; at most half the prompt."""
    tied: bool = True
    """One intervention a layer for all positions; else one for the first tokens and one for the last."""
    layers: Literal["all"] | list[Annotated[int, Field(ge=0, le=10**6)]] = "all"
    """Layers whose output is edited, counted from 0."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the edited hidden states, as in pyreft."""
    act_fn: str | None = None
    """Activation on W h + b, by transformers' name; none by default."""

    @model_validator(mode="after")
    def _edits_something(self) -> Self:
        if self.first + self.last == 0:
            raise ValueError("first and last are both 0, so nothing would be edited")
        return self


class Reft(Method):
    """Frozen base; at each chosen layer's output, the hidden states of some prompt tokens are edited."""

    name = "loreft"
    export_library = "pyreft"
    facts = MethodFacts(
        summary="edits prompt tokens' hidden states in a rotated subspace: h + R'(W h + b - R h)",
        rank="dimension of the edited subspace",
        shared_prefix="context",
        lr_center=9e-4,
        source="arXiv 2404.03592, eq. 2; rate, rank and positions of its commonsense runs",
        cannot_merge="it edits hidden states at some positions only, which no weight can do",
        no_weight_decay="its rotation is parametrized with a diagonal that must stay exactly +-1: decay makes that "
        "0.99.., which is truncated to 0, and from then on every gradient is 0",
        no_packing="it counts places within the one prompt of a row",
        needs={"pyreft": "reft", "pyvene": "reft"},
    )

    Options: ClassVar[type[ReftOptions]] = ReftOptions

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        from transformers.activations import ACT2FN

        options = self.Options.model_validate(super().resolve(settings, model))
        _, layers = decoder_and_layers(model)
        indices = list(range(len(layers))) if options.layers == "all" else sorted(set(options.layers))
        wrong = [index for index in indices if not 0 <= index < len(layers)]
        if wrong or not indices:
            raise UserError(
                f"method {self.name}: layers: {wrong or 'none given'}, but the base has {len(layers)} layers",
                f"Give layers from 0 to {len(layers) - 1}, or all.",
            )
        if options.rank > hidden_size(model):
            raise UserError(
                f"method {self.name}: rank {options.rank} is larger than the base's hidden size {hidden_size(model)}"
            )
        if options.act_fn is not None and options.act_fn not in ACT2FN:
            raise unknown(f"act_fn of method {self.name}", options.act_fn, ACT2FN)
        return options.model_copy(update={"layers": indices}).model_dump(mode="json")

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        """`model` itself, which may be a PEFT model: then PEFT's parameters are still trained."""
        from bench.models.compat.torch_parameters import NeverCastModules
        from bench.models.hooks import causal_lm, on_prompt_mask

        inner, options = causal_lm(model), self.Options.model_validate(cell.options)
        if inner is model:
            model.requires_grad_(False)
        decoder, layers = decoder_and_layers(model)
        positions = EditPositions(options.first, options.last, options.tied, hidden_size(model))
        interventions = NeverCastModules()  # a cast to bfloat16 would round the rotation
        for index in range(len(layers)) if options.layers == "all" else options.layers:
            layer = layers[index]
            edits = [self._intervention(layer, hidden_size(model), options) for _ in range(positions.parts)]
            layer.register_forward_hook(functools.partial(_edit, positions, edits))
            interventions.extend(edits)
        inner.add_module("reft", interventions)
        decoder.register_forward_pre_hook(positions.enter)
        on_prompt_mask(model, positions.take)
        return model

    def _intervention(self, layer: nn.Module, hidden: int, options: ReftOptions) -> nn.Module:
        """A fresh intervention in float32, on the layer's device."""
        import torch
        from accelerate import init_empty_weights

        with contextlib.redirect_stdout(io.StringIO()):  # pyvene prints at import
            import pyreft

        device = next(layer.parameters()).device
        # Drawn on the CPU, so that a seed gives the same values on every device; not drawn if only shapes are needed
        # (pyreft's checks of a square rotation need its values).
        empty = device.type == "meta" and options.rank < hidden
        with torch.device("cpu"), init_empty_weights() if empty else contextlib.nullcontext():
            intervention: nn.Module = getattr(pyreft, PYREFT_CLASSES[self.name])(
                embed_dim=hidden,
                low_rank_dimension=options.rank,
                dropout=options.dropout,
                act_fn=options.act_fn,
                dtype=torch.float32,  # pyreft's default is bfloat16
                add_bias=False,  # of NoReFT's W2, which has none in the paper
            )
        return intervention.to(device)

    def save(self, model: nn.Module, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(_values(_interventions(model)), folder / FILE)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """Every value is bit for bit the saved one. The base of a rotation's parametrization is set from it, so a
        further training would go on in other coordinates.

        Raises ValueError if the file holds other parameters than the cell trains.
        """
        import torch
        from safetensors.torch import load_file

        from bench.models.compat.torch_parameters import set_orthogonal_columns

        attached, saved = self.attach(model, cell), load_file(folder / FILE)
        interventions = _interventions(attached)
        shapes = {name: value.shape for name, value in _values(interventions).items()}
        if {name: value.shape for name, value in saved.items()} != shapes:
            raise ValueError(f"{FILE} does not hold what {cell.name} trains")
        with torch.no_grad():
            for name, value in saved.items():
                path, _, parameter = name.rpartition(".")
                if path.endswith("rotate_layer"):
                    set_orthogonal_columns(interventions.get_submodule(path), value)
                else:
                    interventions.get_submodule(path).get_parameter(parameter).copy_(value)
        return attached

    def export_source(self, options: Settings) -> ExportSource:
        return "skeleton"

    def cannot_export(self, options: Settings, folder: Path) -> str:
        activation = self.Options.model_validate(options).act_fn
        if activation in (None, "linear"):
            return ""
        return f"its files have no place for an activation (act_fn: {activation})"

    def export(self, adapter: Path, to: Path, cell: Cell, model: nn.Module | None) -> None:
        import torch
        from safetensors.torch import load_file

        from bench.methods.reft_export import write_for_pyreft
        from bench.models.compat.pyvene import unknown_blocks

        base, options = cast("PreTrainedModel", model), self.Options.model_validate(cell.options)
        _, layers = decoder_and_layers(base)
        if problem := unknown_blocks(base, list(layers)):
            raise UserError(f"{self.export_library} cannot load {cell.method} on this base: {problem}")
        positions = EditPositions(options.first, options.last, options.tied, hidden_size(base))
        to.mkdir()
        dtype = getattr(torch, cell.base.dtype)
        write_for_pyreft(to, self.name, load_file(adapter / FILE), _resolved(options), positions.parts, dtype)

    def export_notes(self, cell: Cell) -> list[str]:
        from bench.methods.reft_export import card_lines, positions_text

        options = self.Options.model_validate(cell.options)
        positions = EditPositions(options.first, options.last, options.tied, 0)
        return card_lines(
            cell.base.id,
            cell.base.dtype,
            positions_text(options.first, options.last),
            len(_resolved(options)) * positions.parts,
            positions.together,
        )


PYREFT_CLASSES = {"loreft": "LoreftIntervention", "direft": "DireftIntervention", "noreft": "NoreftIntervention"}
"""pyreft's name of each method's intervention."""

REFT_METHODS = (
    Reft.named("loreft"),
    Reft.named(
        "direft",
        facts=replace(
            Reft.facts,
            summary="LoReFT without the subtraction: h + R'(W h + b)",
            # The paper's own DiReFT (eq. 3) has no orthogonality; pyreft calls it NodireftIntervention.
            source="pyreft's DireftIntervention: arXiv 2404.03592, appendix E, item 2; settings as LoReFT's",
        ),
    ),
    Reft.named(
        "noreft",
        facts=replace(
            Reft.facts,
            summary="LoReFT without orthogonality: h + W2'(W1 h + b - W2 h)",
            source="pyreft's NoreftIntervention: arXiv 2404.03592, appendix E, item 1; settings as LoReFT's",
            no_weight_decay="it is kept at 0 for the whole family, so that the three are compared alike",
        ),
    ),
)


def decoder_and_layers(model: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    """The decoder of a causal language model and its blocks. Raises UserError if it finds none."""
    from bench.models.blocks import find_blocks
    from bench.models.hooks import causal_lm

    inner = causal_lm(model)
    blocks = find_blocks(inner)
    if blocks is None:
        raise UserError(
            f"ReFT finds no blocks in a {type(inner).__name__}: no list of modules is as long as its configuration's "
            "num_hidden_layers",
            "Leave the ReFT methods out for this base.",
        )
    return blocks.decoder, blocks.layers


def _resolved(options: ReftOptions) -> list[int]:
    """The layers of a cell's settings, which are numbers in every plan."""
    assert options.layers != "all"
    return options.layers


def hidden_size(model: PreTrainedModel) -> int:
    size: int = model.config.get_text_config().hidden_size
    return size


def _interventions(model: nn.Module) -> nn.ModuleList:
    from bench.models.hooks import causal_lm

    return cast("nn.ModuleList", causal_lm(model).get_submodule("reft"))


def prompt_ends(prompt_mask: torch.Tensor, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (B, T) of the first and of the last tokens of each row's prompt.

    As pyreft's `get_intervention_locations`: each at most half of the prompt's n tokens, rounded down. They never
    overlap, and a prompt of one token is not edited.
    """
    number = prompt_mask.cumsum(1) - 1  # index of a prompt token within its prompt
    n = prompt_mask.sum(1, keepdim=True)  # (B, 1)
    half = n // 2
    return prompt_mask & (number < half.clamp(max=first)), prompt_mask & (number >= n - half.clamp(max=last))


class EditPositions:
    """The positions that the current forward pass edits.

    Computed once per pass, when it enters the model, and kept until the next pass: gradient checkpointing may run a
    layer again in the backward pass. Each mask serves one pass.
    """

    def __init__(self, first: int, last: int, tied: bool, width: int) -> None:
        self.first, self.last = first, last
        self.width = width
        """Of the hidden states."""
        self.together = tied or not first or not last
        """The first and the last tokens share an intervention."""
        self.parts = 1 if self.together else 2
        self.fresh = False
        """The mask was given for the pass that is about to run."""
        self.shape: tuple[int, ...] = ()
        self.slots: list[tuple[torch.Tensor, torch.Tensor]] = []
        """By intervention: columns (B, K), and which of them are edited (B, K)."""

    def take(self, prompt_mask: torch.Tensor) -> None:
        """Compute the positions of a pass from its prompt mask (B, T)."""
        first, last = prompt_ends(prompt_mask.bool(), self.first, self.last)
        parts = [(first | last, self.first + self.last)]
        if not self.together:
            parts = [(first, self.first), (last, self.last)]
        self.shape, self.fresh, self.slots = prompt_mask.shape, True, []
        if prompt_mask.shape[1] == 1:  # a step of decoding: a single token is never edited
            return
        for mask, count in parts:
            # The edited columns, padded with others to a fixed number K, so that the host need not wait for the
            # device to count them; all different, because each is written once.
            columns = mask.int().argsort(dim=1, descending=True, stable=True)[:, :count]  # (B, K)
            self.slots.append((columns, mask.gather(1, columns)))

    def enter(self, decoder: nn.Module, args: tuple[object, ...]) -> None:
        """Before the decoder runs. Raises ValueError for a pass without a mask of its own."""
        if not self.fresh:
            raise ValueError("a ReFT model must be told which tokens are the prompt: pass prompt_mask (B, T)")
        self.fresh = False


def _edit(
    positions: EditPositions,
    interventions: Sequence[nn.Module],
    layer: nn.Module,
    args: tuple[object, ...],
    output: torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor],
) -> torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor]:
    """A layer's output with its hidden states (B, T, H) edited; computed in float32, written in their dtype.

    Raises CellProblem for a layer that returns no hidden states (B, T, H), ValueError for other positions.
    """
    import torch
    from torch.nn.utils import parametrize

    from bench.models.dtype import without_autocast

    hidden = output if isinstance(output, torch.Tensor) else output[0]
    if hidden.ndim != 3 or hidden.shape[2] != positions.width:
        raise CellProblem(
            f"ReFT edits hidden states of (rows, tokens, {positions.width}), and {type(layer).__name__} returns "
            f"{tuple(hidden.shape)}",
            "Leave the ReFT methods out for this base.",
        )
    if hidden.shape[:2] != positions.shape:
        raise ValueError(f"prompt_mask {tuple(positions.shape)} does not fit hidden states {tuple(hidden.shape)}")
    # `cached`: pyreft reads a rotation twice, and each read would compute it.
    with without_autocast(hidden.device), parametrize.cached():
        for intervention, (columns, edited) in zip(interventions, positions.slots, strict=False):
            index = columns.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[2])  # (B, K, H)
            old = hidden.gather(1, index)
            new = intervention(old.float()).to(hidden.dtype)
            hidden = hidden.scatter(1, index, torch.where(edited.to(hidden.device)[..., None], new, old))
    if isinstance(output, torch.Tensor):
        return hidden
    return type(output)((hidden, *output[1:]))


def _values(interventions: nn.ModuleList) -> dict[str, torch.Tensor]:
    """The tensors that determine the edits, by name. Of a rotation its r columns (H, r), not the parametrization, which
    holds an (H, H) matrix per layer (2 GB for LLaMA-7B) of which the edits use only those columns."""
    values = {}
    for path, module in interventions.named_modules():
        if path.endswith("rotate_layer"):
            values[f"{path}.weight"] = cast("torch.Tensor", module.weight)
        elif "parametrizations" not in path:
            values |= {f"{path}.{name}": value for name, value in module.named_parameters(recurse=False)}
    return {name: value.detach().cpu().contiguous() for name, value in values.items()}
