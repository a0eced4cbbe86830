"""GaLore against galore_torch used by hand, and its memory against what the ranks say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from helpers.families import tiny_config
from helpers.training import append_to
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, LlamaForCausalLM, set_seed

from bench.costs import optimizer_state_bytes
from bench.data.examples import Example
from bench.errors import Diverged, UserError
from bench.methods.galore import Galore
from bench.progress import ignore_progress
from bench.sweep.cell import BaseIdentity, Cell, CellData
from bench.sweep.sections import TrainingConfig
from bench.training.trainer import train

galore_torch = pytest.importorskip("galore_torch", reason="needs the extra galore")

EXAMPLES = [Example(f"Question: what is {i}?\nAnswer:", f" it is {i * 7}") for i in range(20)]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(24).reshape(2, 12) + 5


def cell_of(model: Any, training: dict[str, Any] | None = None, dtype: str = "float32", **options: Any) -> Cell:
    return Cell(
        base=BaseIdentity(id="tiny", revision="-", dtype=dtype),
        method="galore",
        method_version="1",
        options=Galore().resolve(options, model),
        samples=len(EXAMPLES),
        seed=0,
        data=CellData(train=("x",), format="question", mix="equal", subset_seed=None, append_eos=True, fingerprint="x"),
        training=training or {},
    )


def fresh(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).requires_grad_(True)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    """So many steps, each on tokens of its own."""
    for i in range(count):
        optimizer.zero_grad()
        model(input_ids=IDS + 3 * i, labels=IDS + 3 * i).loss.backward()
        optimizer.step()


def stepped(folder: Path, count: int = 1, training: dict[str, Any] | None = None, **options: Any) -> tuple[Any, Any]:
    """(model, optimizer) after so many steps of ours."""
    model = fresh(folder)
    optimizer = Galore().optimizer(model, cell_of(model, training, **options))
    steps(model, optimizer, count)
    return model, optimizer


def by_hand(
    model: nn.Module, lr: float, rank: int, gap: int, scale: float, decay: float = 0.0
) -> torch.optim.Optimizer:
    """galore_torch as its README has it: groups made from the weights' names."""
    named = list(model.named_parameters())
    low_rank = [p for n, p in named if n.split(".")[-2] in LINEAR]
    norms = [p for n, p in named if "norm" in n]
    others = [p for n, p in named if n.split(".")[-2] not in LINEAR and "norm" not in n]
    groups = [
        {"params": others},
        {"params": norms, "weight_decay": 0.0},
        {"params": low_rank, "rank": rank, "update_proj_gap": gap, "scale": scale, "proj_type": "std"},
    ]
    return galore_torch.GaLoreAdamW(
        groups, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, no_deprecation_warning=True
    )


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_three_steps_are_galore_torchs(decay: float, tiny_model: Path) -> None:
    """fp32, bit for bit, over two projections (steps 1 and 3)."""
    settings = {"lr": 1e-2, "rank": 4, "update_gap": 2, "scale": 0.5}
    ours, _ = stepped(tiny_model, 3, {"weight_decay": decay}, **settings)
    theirs = fresh(tiny_model)
    steps(theirs, by_hand(theirs, 1e-2, 4, 2, 0.5, decay), 3)
    before = fresh(tiny_model)
    for (name, actual), other, old in zip(
        ours.named_parameters(), theirs.parameters(), before.parameters(), strict=True
    ):
        assert torch.equal(actual, other), name
        assert not torch.equal(actual, old), name


def test_every_setting_reaches_the_weights(tiny_model: Path) -> None:
    settings = {"lr": 1e-2, "rank": 4, "update_gap": 2, "scale": 1.0}
    base, _ = stepped(tiny_model, 3, **settings)
    weight = "model.layers.1.mlp.up_proj.weight"
    for change in ({"scale": 2.0}, {"update_gap": 100}, {"rank": 5}, {"lr": 2e-2}):
        other, _ = stepped(tiny_model, 3, **(settings | change))
        assert not torch.equal(base.get_parameter(weight), other.get_parameter(weight)), change
    _, optimizer = stepped(tiny_model, **settings)
    shown = {key: optimizer.param_groups[2][key] for key in ("rank", "update_proj_gap", "scale", "proj_type")}
    assert shown == {"rank": 4, "update_proj_gap": 2, "scale": 1.0, "proj_type": "std"}


def test_only_the_targeted_matrices_are_projected(tiny_model: Path) -> None:
    """An update of rank r: 4 singular values of the change for a targeted matrix, more for others (fp32, 1e-5)."""
    ours, _ = stepped(tiny_model, lr=1e-2, rank=4, target_modules=["q_proj", "down_proj"])
    before = dict(fresh(tiny_model).named_parameters())
    for name, weight in ours.named_parameters():
        if weight.ndim == 2:
            s = torch.linalg.svdvals((weight - before[name]).detach())
            rank = int((s > 1e-5 * s[0]).sum())
            assert (rank == 4) == (name.split(".")[-2] in ("q_proj", "down_proj")), (name, rank)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("targets", ["auto", ["q_proj", "up_proj"], ["0.mlp.up_proj"], ["proj"]])
def test_exactly_the_targeted_weights_are_in_the_projected_group(tied: bool, targets: Any) -> None:
    """Among modules whose names contain each other's; neither the head nor the embedding it may be tied to."""

    class Odd(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            block = self.model.layers[0].mlp
            block.proj, block.up_proj_extra, block.extra_q_proj = (nn.Linear(8, 8) for _ in range(3))
            block.norm = nn.LayerNorm(8)

    model = Odd(LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
                            num_attention_heads=2, tie_word_embeddings=tied))  # fmt: skip
    model.requires_grad_(True)
    optimizer = Galore().optimizer(model, cell_of(model, {"weight_decay": 0.1}, rank=2, target_modules=targets))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays, does_not, projected = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    layer = "model.layers.{}.{}.weight"
    if targets == "auto":
        wanted = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Linear)} - {
            "lm_head.weight"
        }
    elif targets == ["q_proj", "up_proj"]:
        wanted = {layer.format(i, part) for i in (0, 1) for part in ("self_attn.q_proj", "mlp.up_proj")}
    else:
        wanted = {layer.format(0, f"mlp.{targets[0].split('.')[-1]}")}
    assert projected == wanted
    assert does_not == {name for name in names.values() if "norm" in name or name.endswith("bias")}
    assert decays | does_not | projected == set(names.values())
    assert ("lm_head.weight" in decays) != tied and "model.embed_tokens.weight" in decays
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)


def predicted_saving(model: nn.Module, targets: list[str], rank: int) -> tuple[int, int]:
    """Bytes of (AdamW's state, GaLore's) in fp32, step counts apart, from the shapes alone."""
    adamw = galore = 0
    for name, weight in model.named_parameters():
        adamw += 2 * weight.numel()
        if name.split(".")[-2] in targets:
            m, n = weight.shape
            galore += 2 * rank * max(m, n) + rank * min(m, n)
        else:
            galore += 2 * weight.numel()
    return 4 * adamw, 4 * galore


@pytest.mark.parametrize(("targets", "rank"), [("auto", 4), ("auto", 16), (["q_proj", "down_proj"], 1)])
def test_the_optimizer_state_is_what_the_ranks_predict(targets: Any, rank: int, tiny_model: Path) -> None:
    model, ours = stepped(tiny_model, rank=rank, target_modules=targets)
    adamw, galore = predicted_saving(model, LINEAR if targets == "auto" else targets, rank)
    plain_model = fresh(tiny_model)
    plain = torch.optim.AdamW(plain_model.parameters())
    steps(plain_model, plain, 1)
    assert optimizer_state_bytes(ours) == galore
    counts = 4 * len(list(plain_model.parameters()))  # torch counts a parameter's steps in a float, GaLore in an int
    assert optimizer_state_bytes(plain) == adamw + counts
    assert optimizer_state_bytes(plain) - counts - optimizer_state_bytes(ours) == adamw - galore > 0


def test_galore_torchs_own_projector_keeps_every_singular_vector(tiny_model: Path) -> None:
    """Why the projector is ours: a slice of them holds min(m, n)^2 floats where rank * min(m, n) are used."""
    model, ours = stepped(tiny_model, rank=4)
    theirs = by_hand(model, 1e-2, 4, 200, 1.0)
    theirs.step()
    shapes = [weight.shape for name, weight in model.named_parameters() if name.split(".")[-2] in LINEAR]
    assert optimizer_state_bytes(theirs) - optimizer_state_bytes(ours) == 4 * sum(
        min(shape) ** 2 - 4 * min(shape) for shape in shapes
    )


def trained(folder: Path, tiny: Path, settings: dict[str, Any], dtype: str = "float32", **options: Any) -> Any:
    """(model, log) of a training through the harness."""
    tokenizer, method = AutoTokenizer.from_pretrained(tiny), Galore()
    model = AutoModelForCausalLM.from_pretrained(tiny)
    cell = cell_of(model, settings, dtype, **options)
    set_seed(0)
    model = method.attach(model, cell)
    log: list[dict] = []
    config = TrainingConfig(logging_steps=1, **settings)
    train(model, tokenizer, method, cell, config, EXAMPLES, folder, append_to(log), ignore_progress)
    return model, log


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_learns_and_the_running_trainers_state_stays(
    dtype: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer is made inside the training: the accelerator's precision must outlive it, and no folder arise."""
    monkeypatch.chdir(tmp_path)
    optimizers = []
    inner = Galore.optimizer

    def spy(self: Galore, model: nn.Module, cell: Cell) -> Any:
        before = dict(AcceleratorState._shared_state), dict(PartialState._shared_state)
        optimizer = inner(self, model, cell)
        assert (dict(AcceleratorState._shared_state), dict(PartialState._shared_state)) == before
        optimizers.append((optimizer, before[0]["_mixed_precision"]))
        return optimizer

    monkeypatch.setattr(Galore, "optimizer", spy)
    settings = {"epochs": 3, "batch_size": 4, "weight_decay": 0.01}
    model, log = trained(tmp_path / "run", tiny_model, settings, dtype, lr=5e-3, rank=4, scale=1.0, update_gap=5)
    assert log[-1]["loss"] < log[0]["loss"] - 0.1
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not [path.name for path in tmp_path.iterdir() if path.name != "run"]
    ((optimizer, precision),) = optimizers
    assert precision == ("bf16" if dtype == "bfloat16" else "no")
    # Accelerate rebuilds the state from its state_dict: the projectors must come through it.
    assert optimizer_state_bytes(optimizer) == predicted_saving(model, LINEAR, 4)[1]


def test_saved_and_loaded_it_answers_alike(tmp_path: Path, tiny_model: Path) -> None:
    """fp32, bit for bit."""
    model, _ = trained(tmp_path, tiny_model, {"epochs": 1, "batch_size": 4}, lr=1e-2, rank=4)
    folder = tmp_path / "adapter"
    folder.mkdir()
    method, base = Galore(), AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        ours, untuned = model.eval()(input_ids=IDS).logits, base(input_ids=IDS).logits
        assert not torch.allclose(ours, untuned, atol=1e-2)
        method.save(model, folder)
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        loaded = method.load(base, folder, cell_of(base)).eval()
        assert torch.equal(loaded(input_ids=IDS).logits, ours)
        assert torch.equal(method.merge(loaded)(input_ids=IDS).logits, ours)


def test_a_gradient_that_is_not_finite_ends_the_training(tmp_path: Path, tiny_model: Path) -> None:
    settings = {"epochs": 4, "batch_size": 4, "weight_decay": 100, "warmup_ratio": 0}
    with pytest.raises(Diverged, match=r"not finite|at step"):
        trained(tmp_path, tiny_model, settings, lr=1000, rank=4, update_gap=1)
    model, optimizer = stepped(tiny_model, rank=4, update_gap=1)
    model.model.layers[0].self_attn.q_proj.weight.grad[0, 0] = torch.nan
    with pytest.raises(Diverged, match="not finite"):
        optimizer.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 17}, r"galore: rank 17 .* model\.layers\.0\.self_attn\.k_proj \(16 x 32\)\n.* at most 16"),
        ({"rank": 33, "target_modules": ["up_proj"]}, r"rank 33 is .*mlp\.up_proj \(64 x 32\)\n.* at most 32"),
        ({"rank": 0}, "galore: rank"),
        ({"scale": 0}, "galore: scale"),
        ({"update_gap": 0}, "galore: update_gap"),
        ({"target_modules": ["lm_head"]}, "galore: lm_head is the output head"),
        ({"target_modules": ["mlp"]}, r"galore: model\.layers\.0\.mlp is a LlamaMLP"),
        ({"target_modules": ["embed_tokens"]}, "galore: model.embed_tokens is a Embedding"),
        ({"target_modules": ["no_such"]}, "galore: the base model has no module no_such"),
        ({"alpha": 16}, "galore: .*alpha"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str, tiny_model: Path) -> None:
    with pytest.raises(UserError, match=message):
        Galore().resolve(settings, fresh(tiny_model))


def test_the_shorter_side_itself_is_a_possible_rank(tiny_model: Path) -> None:
    assert Galore().resolve({"rank": 16}, fresh(tiny_model))["rank"] == 16


def test_a_base_without_linear_layers_is_refused() -> None:
    """GPT-2's are transformers' Conv1D, which its GaLore passes over."""
    config = GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"c_attn is a Conv1D; only torch\.nn\.Linear"):
        Galore().resolve({"rank": 2}, model)


def test_a_gate_with_one_output_is_no_default_target() -> None:
    """A shared expert's gate: its gradient is a vector, which has no rank to reduce."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config("qwen2_moe"))
    targets = Galore().resolve({"rank": 2}, model)["target_modules"]
    assert "gate_proj" in targets and "shared_expert_gate" not in targets
    with pytest.raises(UserError, match=r"shorter side of .*shared_expert_gate \(1 x 32\)"):
        Galore().resolve({"rank": 2, "target_modules": ["shared_expert_gate"]}, model)


def test_defaults_and_facts(tiny_model: Path) -> None:
    method = Galore()
    options = method.resolve({}, fresh(tiny_model))
    assert options == {
        "lr": 2e-5,
        "rank": 8,
        "scale": 2.0,
        "update_gap": 200,
        "target_modules": sorted(LINEAR),
    }
    assert method.facts.mergeable and method.facts.shared_prefix and options["lr"] == method.facts.lr_center
    assert method.load_kwargs(cell_of(fresh(tiny_model))) == {"dtype": "float32"}
    method.check_machine(options)
