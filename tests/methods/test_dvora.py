"""DVoRA against its plain formula, PEFT's VeRA and DoRA's published parameter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.dvora import ALL, IDS, IN, OUT, adapted, base_of, layers, logits, naive, one_layer, stir
from peft import VeraConfig, get_peft_model
from torch import nn
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from bench.methods.dvora import DvoraLinear

KINDS = [("linear", 4), ("linear", IN), ("linear", 20), ("bias", 4), ("bias", 20), ("conv1d", 4), ("conv1d", 20)]


@pytest.mark.parametrize(("kind", "r"), KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_output_and_gradients_are_those_of_the_plain_formula(kind: str, r: int, training: bool) -> None:
    """Ranks below, at and above the layer's width; twice, so that the second forward finds what the first kept."""
    model, layer = one_layer(kind, r)
    model.train(training)
    trained = [getattr(layer, f"vera_lambda_{name}")["default"] for name in "bdm"]
    for seed in (1, 2):
        x = torch.randn(5, IN, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        pull = torch.randn(5, OUT, generator=torch.Generator().manual_seed(9))
        ours = model(x)
        factor, directed, bias = naive(layer)
        expected = factor * linear(x, directed) + (0 if bias is None else bias)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
        for actual, expected_gradient in zip(
            torch.autograd.grad((ours * pull).sum(), [x, *trained]),
            torch.autograd.grad((expected * pull).sum(), [x, *trained]),
            strict=True,
        ):
            torch.testing.assert_close(actual, expected_gradient, rtol=1e-5, atol=1e-5)
        stir(model, seed)


@pytest.mark.parametrize("kind", ["linear", "bias", "conv1d"])
def test_dropout_is_on_the_base_part_that_the_magnitude_changes_too(kind: str) -> None:
    """As PEFT's DoRA: W x + bias + (f - 1) W x' + f D x', with x' dropped out; not at all in evaluation."""
    model, layer = one_layer(kind, 4, dropout=0.5)
    x = torch.randn(5, IN)
    factor, directed, bias = naive(layer)
    shift = 0 if bias is None else bias
    torch.testing.assert_close(model(x), factor * linear(x, directed) + shift, rtol=1e-5, atol=1e-5)
    model.train()
    torch.manual_seed(3)
    ours = model(x)
    torch.manual_seed(3)
    dropped = nn.functional.dropout(x, 0.5)
    plain = layer.get_base_layer()
    expected = plain(x) + factor * linear(dropped, directed) - (plain(dropped) - shift)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, factor * linear(x, directed) + shift, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_the_base_at_the_start(tiny_model: Path, dtype: torch.dtype) -> None:
    """Bit for bit; the magnitudes are the float32 norms of the base's rows."""
    base = base_of(tiny_model, dtype=dtype).eval()
    before = logits(base)
    model = adapted(base)
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(model.train()), before)
    assert len({layer.out_features for layer in layers(model)}) == 3  # grouped-query attention: 16, 32; and 64
    for layer in layers(model):
        magnitude = layer.vera_lambda_m["default"]
        assert magnitude.dtype == torch.float32
        rows = layer.get_base_layer().weight.double().norm(dim=1)
        torch.testing.assert_close(magnitude.double(), rows, rtol=1e-6, atol=0)


def test_with_the_norm_taken_out_it_is_vera(tiny_model: Path) -> None:
    """Magnitudes set to the norm of W + D make the factor 1: what is left is PEFT's VeRA of the same b and d."""
    model = adapted(base_of(tiny_model), d_initial=0.3, projection_prng_key=5)
    stir(model)
    vera = get_peft_model(base_of(tiny_model), VeraConfig(r=8, target_modules=ALL, projection_prng_key=5)).eval()
    theirs = dict(vera.named_modules())
    for name, layer in model.named_modules():
        if isinstance(layer, DvoraLinear):
            twin = theirs[name]
            assert type(twin).__module__ == "peft.tuners.vera.layer"
            assert torch.equal(twin.vera_A["default"], layer.vera_A["default"])
            assert torch.equal(twin.vera_B["default"], layer.vera_B["default"])
            with torch.no_grad():
                twin.vera_lambda_b["default"].copy_(layer.vera_lambda_b["default"])
                twin.vera_lambda_d["default"].copy_(layer.vera_lambda_d["default"])
                directed = twin.get_base_layer().weight + twin.get_delta_weight("default")
                layer.vera_lambda_m["default"].copy_(directed.norm(dim=1))
    torch.testing.assert_close(logits(model), logits(vera), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(vera), logits(base_of(tiny_model)), atol=1e-2)


def test_start_of_b_and_d_is_veras(tiny_model: Path) -> None:
    model = adapted(base_of(tiny_model), d_initial=0.3)
    for layer in layers(model):
        assert torch.equal(layer.vera_lambda_b["default"], torch.zeros(layer.out_features))
        assert torch.equal(layer.vera_lambda_d["default"], torch.full((8,), 0.3))


@pytest.mark.parametrize("r", [8, 48])  # below and above the hidden size
def test_training_changes_b_d_and_m_alone(tiny_model: Path, r: int) -> None:
    model = adapted(base_of(tiny_model), r=r).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-2] for name in parameters} == {f"vera_lambda_{letter}" for letter in "bdm"}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(4):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == set(parameters)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("r", [8, 48])
def test_merged_answers_as_unmerged_and_unmerging_restores(tiny_model: Path, r: int, safe: bool) -> None:
    base = base_of(tiny_model)
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    untuned = logits(base)
    model = adapted(base, r=r)
    stir(model)
    ours = logits(model)
    assert not torch.allclose(ours, untuned, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits(model), untuned)
    model.merge_adapter(safe_merge=safe)
    torch.testing.assert_close(logits(model), ours, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(logits(model), ours, rtol=1e-5, atol=1e-5)
    for name, tensor in model.get_base_model().state_dict().items():
        if ".base_layer." in name:
            torch.testing.assert_close(tensor, weights[name.replace(".base_layer", "")], rtol=1e-5, atol=1e-6)
    plain = model.merge_and_unload(safe_merge=safe)
    assert type(plain) is LlamaForCausalLM
    assert not layers(plain)
    torch.testing.assert_close(logits(plain), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bias", "conv1d"])
def test_a_merged_layer_keeps_its_bias(kind: str) -> None:
    model, layer = one_layer(kind, 4)
    x = torch.randn(5, IN)
    ours, bias = model(x), layer.get_base_layer().bias.clone()
    model.merge_adapter()
    torch.testing.assert_close(model(x), ours, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer.get_base_layer().bias, bias)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), ours, rtol=1e-5, atol=1e-5)


def test_disabling_a_merged_adapter_gives_the_base(tiny_model: Path) -> None:
    model = adapted(base_of(tiny_model))
    stir(model)
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(base_of(tiny_model)), rtol=1e-5, atol=1e-5)


def test_safe_merge_refuses_what_is_not_finite() -> None:
    model, layer = one_layer("linear", 4)
    before = layer.get_base_layer().weight.clone()
    with torch.no_grad():
        layer.vera_lambda_m["default"][0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(layer.get_base_layer().weight, before)
    assert not layer.merged


def test_a_row_of_zeros_gives_no_nan() -> None:
    torch.manual_seed(0)
    base = nn.Linear(IN, OUT)
    with torch.no_grad():
        base.weight[3] = 0
    x = torch.randn(5, IN)
    before = base(x)
    model = adapted(nn.Sequential(base), 4, target_modules=["0"]).train()
    assert torch.equal(model(x), before)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(3):
        model(x).square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    ours = model(x)
    assert ours.isfinite().all()
    model.merge_adapter()
    torch.testing.assert_close(model(x), ours, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("r", [4, 20])
def test_what_is_kept_follows_the_weights(r: int) -> None:
    """A changed, recast or reloaded weight, and changed b and d, are seen, in evaluation, too."""
    model, layer = one_layer("bias", r)
    x = torch.randn(5, IN)

    def check() -> None:
        factor, directed, bias = naive(layer)
        torch.testing.assert_close(model(x), factor * linear(x, directed) + bias, rtol=1e-5, atol=1e-5)

    check()
    with torch.inference_mode():
        model(x)
    model(x).sum().backward()  # what inference mode left behind is fit for a gradient
    stir(model, 4)
    check()
    with torch.no_grad():
        layer.get_base_layer().weight.mul_(1.5)
    check()
    layer.get_base_layer().weight = nn.Parameter(torch.randn(OUT, IN))
    check()
    layer.get_base_layer().load_state_dict({"weight": torch.randn(OUT, IN), "bias": torch.randn(OUT)})
    check()
    model.double()
    x = x.double()
    check()
    model.float()
    x = x.float()
    check()
    model.train()
    layer.vera_lambda_b["default"].data.mul_(2)  # as some optimizers write: the version counter does not tell
    check()
    model.eval()
    check()


def test_no_matrix_of_the_weights_shape_is_built() -> None:
    class Shapes(TorchDispatchMode):
        seen: set[tuple[int, ...]]

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and function is not torch.ops.aten.t.default:
                self.seen.add(tuple(result.shape))
            return result

    model, _ = one_layer("bias", 4)
    model.train()
    x = torch.randn(5, IN)
    model(x)
    with Shapes() as shapes:
        shapes.seen = set()
        model(x).sum().backward()
    assert (OUT, 4) in shapes.seen
    assert not shapes.seen & {(OUT, IN), (IN, OUT)}


@pytest.mark.parametrize("r", [8, 48])
def test_bfloat16_norm_and_merged_weights_are_near_the_formulas(tiny_model: Path, r: int) -> None:
    """With a D a third of W: the norm is within one rounding to bfloat16 (2^-8), though its products are in it."""
    model = adapted(base_of(tiny_model, dtype=torch.bfloat16), r=r)
    stir(model)
    expected = []
    with torch.no_grad():
        for layer in layers(model):
            weight = layer.get_base_layer().weight.double()
            delta = layer.get_delta_weight("default").double()
            shrink = weight.norm() / delta.norm() / 3
            layer.vera_lambda_b["default"].mul_(shrink)
            directed = weight + shrink * delta
            norm = directed.norm(dim=1)
            torch.testing.assert_close(layer._norm("default").double(), norm, rtol=2**-8, atol=0)
            expected.append((layer.vera_lambda_m["default"] / norm).unsqueeze(1) * directed)
    ours = logits(model)
    model.merge_adapter()
    for layer, merged in zip(layers(model), expected, strict=True):
        # The weight's own rounding (2^-8), and the norm's error from above.
        torch.testing.assert_close(layer.get_base_layer().weight.double(), merged, rtol=2**-7, atol=0)
    torch.testing.assert_close(logits(model), ours, rtol=0, atol=0.02)


def test_four_bit_base(tiny_model: Path) -> None:
    """As with PEFT's VeRA, a bitsandbytes base is adapted in place; the norm is of the dequantized weight."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    linear4bit = bitsandbytes.nn.Linear4bit(64, 32, bias=True, compute_dtype=torch.float32, quant_type="nf4")
    base = nn.Sequential(linear4bit).to("cpu")
    x = torch.randn(5, 64)
    before = base(x)
    model = adapted(base, 8, target_modules=["0"]).train()
    assert torch.equal(model(x), before)
    stir(model)
    (layer,) = layers(model)
    weight = bitsandbytes.functional.dequantize_4bit(linear4bit.weight.data, linear4bit.weight.quant_state).float()
    directed = weight + layer.get_delta_weight("default")
    factor = layer.vera_lambda_m["default"] / directed.norm(dim=1)
    expected = factor * linear(x, directed) + linear4bit.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)  # the base's own kernel, of 4-bit blocks
    model(x).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
