"""What must hold of every method's training loop: it never waits for the device between two logged steps, and
gradient checkpointing and compiling change nothing but memory and time.

Each is trained for a few steps on the tiny llama (fp32, dropout as it is by default).
"""

from __future__ import annotations

import functools
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import SETTINGS, TRAINED, slow_beyond_families
from helpers.sweeps import bench, sweep_file
from helpers.training import trained
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaMLP

from bench import methods
from bench.methods.peft_registry import peft_facts

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")  # FRoD


WAITS = {
    "adalora": "allots its ranks after each step by the importance of all of them",
    "boft": "PEFT solves a linear system for its rotations, and torch looks whether it could",
    "psoft": "the same",
    "frod": "its matrices are sparse, whose entries torch counts on the host",
    "waveft": "PEFT filters its coefficients by a mask at each forward pass",
}
"""Who waits for the device at steps that are not logged, and why. GaLore does, too, when it renews its projection: at
its first step and every 200 from there."""


ATEN = torch.ops.aten


VALUES = {
    *(ATEN._local_scalar_dense, ATEN.is_nonzero, ATEN.equal, ATEN.nonzero, ATEN.masked_select, ATEN.argwhere),
    *(ATEN._unique2, ATEN.unique_dim, ATEN.unique_consecutive, ATEN.repeat_interleave, ATEN.bincount),
    *(ATEN._linalg_check_errors, ATEN._linalg_svd, ATEN._linalg_eigh, ATEN.linalg_lstsq, ATEN.linalg_matrix_exp),
}
"""Operations that a GPU must have done before the host can go on: it needs a value, or the shape of the result."""


INDEXING = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_, ATEN._unsafe_index}


TO_HOST = {"tolist", "cpu", "numpy", "__array__"}


class Waits:
    """While entered, collects what would wait for a GPU if tensors were there: the operation and where it was called.

    Tensors that were made without a device while it watches (`torch.rand(1)`) live on the host, whatever is done to
    them until they are moved. So do the step counters of torch's optimizers.
    """

    def __init__(self) -> None:
        self.synchronisations: list[str] = []
        self.on_host = False

    def __enter__(self) -> Waits:
        self.modes = [_Calls(self), _Operations(self)]
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(None, None, None)

    def note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
        files = [Path(frame.filename).as_posix() for frame in frames]
        if not self.on_host and not any("/torch/optim/" in file for file in files):
            at = next(i for i in reversed(range(len(files))) if "/torch/" not in files[i])
            self.synchronisations.append(f"{what} at {files[at]}:{frames[at].lineno} {frames[at].line}")


class _Calls(TorchFunctionMode):
    """Looks at torch's functions as Python calls them: these know who is on the host."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        tensors = [item for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)]
        moves = name in ("to", "cuda") or kwargs.get("device") is not None
        before, self.waits.on_host = self.waits.on_host, all(hasattr(item, "made_on_host") for item in tensors)
        try:
            if name in TO_HOST or (name == "to" and "cpu" in args[1:]):
                self.waits.note(name)
            result = function(*args, **kwargs)
            if self.waits.on_host and not moves and isinstance(result, torch.Tensor):
                result.made_on_host = True
        finally:
            self.waits.on_host = before
        return result


class _Operations(TorchDispatchMode):
    """Looks at what these come to, in C++ and in the backward pass."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = operation.overloadpacket
        by_mask = packet in INDEXING and any(
            isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8) for item in args[1]
        )
        if packet in VALUES or by_mask:
            self.waits.note(str(packet))
        return operation(*args, **(kwargs or {}))


class Run:
    """A method trained for three steps, of which the second is watched (in the checkpointed runs, which repeat in the
    backward pass what is seen in the forward, it is not)."""

    def __init__(self, name: str, folder: Path, tiny: Path, **settings: Any) -> None:
        self.waits, self.calls = Waits(), 0

        def watch(step: int, steps: int, note: str) -> None:
            """From the end of the first step, in which the device is waited for once, to the last, which is logged."""
            if step == 1 and not settings.get("gradient_checkpointing"):
                self.waits.__enter__()
            if step == steps - 1 and not settings.get("gradient_checkpointing"):
                self.waits.__exit__()

        def count(module: nn.Module, args: tuple) -> None:
            # Inside of a layer, before it is through: once all is there that it needs, the second time ends.
            self.calls += isinstance(module, LlamaMLP)

        handle = nn.modules.module.register_module_forward_pre_hook(count)
        given = {"epochs": 0.6, "batch_size": 4, "logging_steps": 1000, **settings}
        try:
            model, self.log = trained(folder, tiny, name, given, watch, **{"lr": 1e-2, **SETTINGS.get(name, {})})
        finally:
            handle.remove()
        self.parameters = {key: item.detach() for key, item in model.named_parameters() if item.requires_grad}
        self.checkpoints = any(getattr(item, "gradient_checkpointing", False) for item in model.modules())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    return functools.cache(lambda name: Run(name, tmp_path_factory.mktemp("run"), tiny_model))


@pytest.mark.parametrize("name", slow_beyond_families(TRAINED))
def test_nothing_waits_for_the_device_between_two_logged_steps(name: str, runs: Any) -> None:
    synchronisations = runs(name).waits.synchronisations
    assert bool(synchronisations) == (name in WAITS), "\n".join(synchronisations)
    assert all("/peft/" in item for item in synchronisations if "loss.backward" not in item), "\n".join(
        synchronisations
    )


@pytest.mark.parametrize("waiting", [lambda x: x[x > 0], lambda x: float(x[0]), lambda x: x.tolist(), torch.nonzero])
def test_what_would_wait_is_seen(waiting: Any) -> None:
    on_device = torch.arange(3.0)
    with Waits() as waits:
        waiting(on_device)
    assert len(waits.synchronisations) == 1
    with Waits() as waits:
        waiting(torch.arange(3.0))  # on the host
    assert not waits.synchronisations


@pytest.mark.parametrize(
    "name", slow_beyond_families(name for name in TRAINED if not methods.METHODS[name].facts.no_checkpointing)
)
def test_gradient_checkpointing_is_the_same_training(name: str, runs: Any, tmp_path: Path, tiny_model: Path) -> None:
    """Losses and trained parameters (1e-5), each layer computed twice a step, and off when it is over."""
    plain, again = runs(name), Run(name, tmp_path, tiny_model, gradient_checkpointing=True)
    assert again.log[0]["loss"] == pytest.approx(plain.log[0]["loss"], abs=1e-5)
    for key, value in plain.parameters.items():
        assert torch.allclose(again.parameters[key], value, atol=1e-5), key
    own = 3 if name == "shadow" else 0  # the network beside the base is not the base's: it is computed once
    assert plain.calls == 2 * 3 + own and again.calls == 2 * 2 * 3 + own
    assert not again.checkpoints


def test_generation_after_checkpointing_has_its_cache(tmp_path: Path, tiny_model: Path) -> None:
    """Also in training mode, in which checkpointing would drop it."""
    settings = {"epochs": 0.2, "batch_size": 4, "gradient_checkpointing": True}
    model = trained(tmp_path, tiny_model, "lora", settings)[0].train()
    tokens = AutoTokenizer.from_pretrained(tiny_model)("Question: what is 3?", return_tensors="pt")["input_ids"]
    cache = model(input_ids=tokens, use_cache=True).past_key_values
    assert cache.get_seq_length() == tokens.shape[1]


def test_where_layers_are_filled_through_the_cache_checkpointing_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    refused = {name for name in TRAINED if methods.METHODS[name].facts.no_checkpointing}
    assert refused == {"prefix", "cartridge"}
    assert peft_facts("TYPE_OF_A_LATER_PEFT").no_checkpointing
    for entry in ("prefix", "{method: peft, peft: {peft_type: CARTRIDGE}}"):
        sets = ("--set", f"methods=[lora, {entry}]", "--set", "training.gradient_checkpointing=true")
        done = bench("plan", sweep_file(tmp_path, tiny_model), *sets)
        message = " ".join(done.output.split())
        assert "does not support training.gradient_checkpointing" in message and "by the cache" in message
        assert done.exit_code == 0 and bench("plan", tmp_path / "tiny.yaml", *sets, "--strict").exit_code == 2
        assert "does not support" not in bench("plan", tmp_path / "tiny.yaml", *sets[:2], "--strict").output


@pytest.mark.parametrize("name", ["prefix", "cartridge"])
def test_why_it_is_refused(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """If this comes to pass, the fact can go."""
    with pytest.raises(RuntimeError, match="must match the size"):
        Run(name, tmp_path, tiny_model, gradient_checkpointing=True)


def test_methods_that_cannot_share_a_row_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    for name in ("prompt", "loreft", "loreft+lora"):
        done = bench("plan", path, "--set", f"methods=[{name}]", "--set", "training.packed=true")
        assert done.exit_code == 2 and f"method {name} does not support training.packed" in done.stderr, done.output
