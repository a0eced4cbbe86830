"""FLOPs of a cell's mathematics, and how fast this device multiplies matrices.

torch's own counter counts the matrix products of a pass through a model without weights, the method attached. What the
pass costs for each token, row, pair of tokens and token at the output head follows from their sizes exactly. What does
not grow with the text (DoRA's norm, or a product of adapter weights) is left out, and so are padding, norms,
activations, and what an implementation computes twice.
"""

from __future__ import annotations

import functools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.methods.learning_rate_grid import without_learning_rate
from bench.methods.parameter_count import count_parameters, layers_alike, of_depth, picks_layers
from bench.methods.registry import get
from bench.models.code_cache import keep_text, read_kept
from bench.models.compat.transformers_masks import masks_without_values
from bench.models.device import compute_device, synchronize
from bench.models.hooks import HeadAt, drop_prompt_mask, output_head
from bench.models.load import build_model, runs_remote_code
from bench.models.shared_rows import row_sharing

aten = torch.ops.aten

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from bench.sweep.cell import Cell

ROWS, LENGTH, AT_HEAD = 2003, 10007, 4001
"""Primes that divide no size of a model; larger ones would make tensors of more bytes than an int64 counts."""
MOST_WEIGHTS = 400_000_000
"""Weights of a model that is made with random values, for the few methods that read values."""

Formulas = dict[object, Callable[..., int]]
"""FLOPs of an operation by the shapes of its arguments."""


@dataclass(frozen=True)
class PassFlops:
    """FLOPs of a pass, by what they are proportional to."""

    token: float = 0.0
    row: float = 0.0
    """Of virtual tokens, and of edits at some tokens of a row only."""
    at_head: float = 0.0
    """Of each token that goes through the output head."""
    pair: float = 0.0
    """Of each pair of a token and a token that it attends to, itself included."""

    def total(self, tokens: int, rows: int, at_head: int, pairs: float) -> float:
        """FLOPs for so many tokens in so many rows, `at_head` of them at the output head; `pairs` as `attended_pairs`
        counts them."""
        return self.token * tokens + self.row * rows + self.at_head * at_head + self.pair * pairs


Pass = Literal["forward", "training"]
"""Without dropout and gradients; or forward and backward, with the gradients of the trained weights."""

_counted: dict[str, PassFlops] = {}
"""What was counted or read in this process."""
_texts: WeakKeyDictionary[PreTrainedModel, str] = WeakKeyDictionary()
"""The configurations of bases as JSON: a plan asks for each of its cells."""


def count_flops(cell: Cell | None, skeleton: PreTrainedModel, kind: Pass) -> PassFlops:
    """What a pass of the cell's model costs, or of its base without a method (None). `skeleton` is the base without
    weights.

    Counted once for each method and settings, whatever the learning rate, and kept in the cache folder. The state of
    torch's random generator is the same afterwards.
    """
    settings = None if cell is None else [cell.method, cell.method_version, without_learning_rate(cell.options)]
    if skeleton not in _texts:
        _texts[skeleton] = skeleton.config.to_json_string(use_diff=False)
    key = json.dumps([settings, kind], sort_keys=True) + _texts[skeleton]
    if key not in _counted:
        own_code = runs_remote_code(skeleton) or (cell is not None and ":" in cell.method)
        kept = None if own_code else read_kept("flops", key)
        _counted[key] = PassFlops(**json.loads(kept)) if kept else _count_anew(cell, skeleton, kind)
        if not own_code and not kept:
            keep_text("flops", key, json.dumps(asdict(_counted[key])))
    return _counted[key]


def _count_anew(cell: Cell | None, skeleton: PreTrainedModel, kind: Pass) -> PassFlops:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, which warn again when the method is attached
        torch.manual_seed(0)
        return _count(cell, skeleton, kind)


def _count(cell: Cell | None, skeleton: PreTrainedModel, kind: Pass) -> PassFlops:
    # A setting that picks layers, and a user's own method, may treat each layer differently.
    same = cell is None or (":" not in cell.method and not picks_layers(cell.options))
    trusted = runs_remote_code(skeleton)
    shallow = same and layers_alike(skeleton, trusted)

    def count(device: str) -> PassFlops:
        if not shallow:
            return _count_on(device, cell, skeleton.config, kind, trusted)
        layers = skeleton.config.get_text_config().num_hidden_layers
        first, second = (
            astuple(_count_on(device, cell, of_depth(skeleton.config, min(depth, layers)), kind, trusted))
            for depth in (1, 2)
        )
        return PassFlops(*(a + (b - a) * (layers - 1) for a, b in zip(first, second, strict=True)))

    # A method may read values, and the meta device has none; its library then raises anything.
    with suppress(Exception):
        return count("meta")
    if _weights(of_depth(skeleton.config, 2) if shallow else skeleton.config, trusted) <= MOST_WEIGHTS:
        with suppress(Exception):
            return count("cpu")
    return _by_weights(cell, skeleton, kind)


def _count_on(device: str, cell: Cell | None, config: PretrainedConfig, kind: Pass, trusted: bool) -> PassFlops:
    """What a pass of a model of this configuration costs, made on the device with random weights."""
    with torch.device(device):
        # Attention that writes out its mask, and experts whose products do not depend on the routing.
        base = build_model(config, trusted, attn_implementation="eager", experts_implementation="batched_mm")
        model = base.requires_grad_(False) if cell is None else get(cell.method).attach(base, cell)
    drop_prompt_mask(model)
    model.train(kind == "training")
    plain = row_sharing(config).rows
    if device == "meta" and plain:
        counter = _ProductCounter()
        _run_pass(model, LENGTH, ROWS, AT_HEAD, kind, counter.mapping)
        if not counter.irregular:
            return counter.flops
    return _fit(model, 32 if plain else _unit(config), kind)


def _run_pass(
    model: nn.Module, length: int, rows: int, at_head: int, kind: Pass, formulas: Formulas | None = None
) -> int:
    """FLOPs of one pass over rows of equal length, with `at_head` tokens at the output head."""
    device = next(model.parameters()).device
    inputs = {
        "input_ids": torch.zeros(rows, length, dtype=torch.long, device=device),
        "attention_mask": torch.ones(rows, length, dtype=torch.long, device=device),
        "prompt_mask": torch.ones(rows, length, dtype=torch.bool, device=device),
    }
    places = torch.zeros(2, at_head, dtype=torch.long, device=device)
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with masks_without_values(), counter, torch.set_grad_enabled(kind == "training"):
        with HeadAt(model, places, length):
            logits: torch.Tensor = model(**inputs, use_cache=False).logits
        if logits.requires_grad:
            logits.float().sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


class _ProductCounter:
    """Sorts the products of one pass on the meta device, where sizes cost nothing: rows, length and tokens at the head
    are large primes, and the sizes of a product are multiples of those that it grows with. Not for a recurrence, which
    may take a step for each token."""

    def __init__(self) -> None:
        self.flops = PassFlops()
        self.irregular = False
        """Some product grows with the rows, and not in proportion to their length: there are virtual tokens, or edits
        at some tokens."""
        self.mapping: Formulas = {
            aten.mm: self._add_product,
            aten.bmm: self._add_product,
            aten.addmm: lambda bias, a, b, **kwargs: self._add_product(a, b),
            aten.baddbmm: lambda bias, a, b, **kwargs: self._add_product(a, b),
        }

    def _add_product(self, a: torch.Size, b: torch.Size, **kwargs: object) -> int:
        sizes = (*a, b[-1])  # (batch,) rows, inner size, columns
        flops = 2 * math.prod(sizes)
        rows, length, at_head = (sum(size % prime == 0 for size in sizes) for prime in (ROWS, LENGTH, AT_HEAD))
        share = flops / (ROWS**rows * LENGTH**length * AT_HEAD**at_head)
        if at_head:
            self.flops = replace(self.flops, at_head=self.flops.at_head + share)
        elif length == 2:
            self.flops = replace(self.flops, pair=self.flops.pair + share)
        elif length == 1:
            self.flops = replace(self.flops, token=self.flops.token + share)
        # Attention to virtual tokens, too, has one size that is neither the length nor independent of it.
        attention = len(a) == 3 and a[0] % ROWS == 0 and a[0] % LENGTH > 0
        regular = length == 2 if attention else (rows > 0) == (length > 0) and length < 2
        self.irregular = self.irregular or not regular or (at_head > 0 and length > 0)
        return flops


def _unit(config: PretrainedConfig) -> int:
    """Tokens of a whole chunk, in which a recurrence may be computed: of 64 unless the configuration says otherwise."""
    text = config.get_text_config()
    chunks = [getattr(text, name, None) or 0 for name in ("chunk_size", "mamba_chunk_size")]
    return math.lcm(64, *(chunk for chunk in chunks if chunk))


def _fit(model: nn.Module, unit: int, kind: Pass) -> PassFlops:
    """What a pass costs, from the totals of five.

    A pass costs constant + rows * (row + token * length + pair * length^2) + at_head * tokens at the head: all of the
    attention matrix is computed, the masked half too. The constant is what is computed from weights alone.
    """
    _run_pass(model, unit, 1, 1, kind)  # what a method computes from weights once
    single, double, triple = (_run_pass(model, length * unit, 1, 1, kind) for length in (1, 2, 3))
    pair = (triple - 2 * double + single) / (2 * unit**2)
    token = (double - single - pair * 3 * unit**2) / unit
    row = _run_pass(model, unit, 2, 1, kind) - single - token * unit - pair * unit**2
    return PassFlops(token, row, float(_run_pass(model, unit, 1, 2, kind) - single), pair)


def _weights(config: PretrainedConfig, trusted: bool) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in build_model(config, trusted).parameters())


def _by_weights(cell: Cell | None, skeleton: PreTrainedModel, kind: Pass) -> PassFlops:
    """What a pass costs by the numbers of weights, where none can be counted: each weight of the base meets each token,
    and each trained weight gets a gradient from it."""
    if cell is None:
        head = output_head(skeleton).weight
        tables = {id(module.weight) for module in skeleton.modules() if isinstance(module, nn.Embedding)} | {id(head)}
        body = sum(weight.numel() for weight in skeleton.parameters() if id(weight) not in tables)
        return PassFlops(token=2 * body, at_head=2 * head.numel())
    base = count_flops(None, skeleton, "forward")
    if kind == "forward":
        return base
    trainable, _ = count_parameters(cell, skeleton.config, alike=layers_alike(skeleton, runs_remote_code(skeleton)))
    return PassFlops(2 * base.token + 2 * trainable, 0.0, 2 * base.at_head, 3 * base.pair)


def attended_pairs(lengths: Iterable[int]) -> float:
    """Pairs of tokens (a token and one that it attends to, itself included) in rows of these lengths, under a causal
    mask."""
    return sum(length * (length + 1) / 2 for length in lengths)


@functools.cache
def matmul_speed(dtype: str) -> float:
    """FLOP/s of a square matrix product in this dtype on the device: the best of ten, or of as many as fit into one
    second (a product in an emulated dtype takes seconds). Measured once per process."""
    device = compute_device()
    size = 1024 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    b = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    best, first = float("inf"), time.perf_counter()
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - first > 1:
            break
    return 2 * size**3 / best
