"""No base is half-loaded: weights that do not fill their architecture are refused, in the plan and in loading."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.families import ENCODER_DECODERS, ENCODERS, FAMILIES, FAST_FAMILIES, save_family, tiny_config
from helpers.sweeps import bench, sweep_file
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from bench.errors import UserError
from bench.models import finite_weights
from bench.models.finite_weights import check_finite, is_finite
from bench.models.load import load_config, load_model, load_skeleton
from bench.models.locate import find_base
from bench.models.weights import check_causal, check_headers

WEIGHTS = "model.safetensors"


def without(folder: Path, *names: str) -> None:
    weights = {name: value for name, value in load_file(folder / WEIGHTS).items() if name not in names}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def renamed(folder: Path, prefix: str) -> None:
    weights = {f"{prefix}{name}": value for name, value in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def configured(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def cut_off(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def with_a_shard_missing(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_whole_numbers(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].mul(100).to(torch.int8)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor is missing": (
        lambda folder: without(folder, "model.layers.1.mlp.up_proj.weight"),
        r"model\.layers\.1\.mlp\.up_proj\.weight missing",
    ),
    "the head is missing": (lambda folder: configured(folder, tie_word_embeddings=False), r"lm_head\.weight missing"),
    "all keys have a wrong prefix": (
        lambda folder: renamed(folder, "student."),
        r"and \d+ more missing; student\..* unexpected",
    ),
    "the config has a layer too many": (
        lambda folder: configured(folder, num_hidden_layers=3),
        r"model\.layers\.2\..* and \d+ more missing",
    ),
    "the config has a layer too few": (
        lambda folder: configured(folder, num_hidden_layers=1),
        r"model\.layers\.1\..* and \d+ more unexpected",
    ),
    "another size of the vocabulary": (
        lambda folder: configured(folder, vocab_size=300),
        r"model\.embed_tokens\.weight \[259, 32\] for \[300, 32\].* of another shape",
    ),
    "the file is cut off": (cut_off, r"cannot load .*: Error while deserializing header"),
    "a shard is missing": (with_a_shard_missing, r"cannot load .*: .*model-00002-of-00002"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_base_that_is_not_whole_is_refused(damage: str, tiny_model: Path, tmp_path: Path) -> None:
    """From the headers alone, which the plan reads, and when it is loaded."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(UserError, match=message):
        check_headers("base", folder, load_skeleton(str(folder)))
    with pytest.raises(UserError, match=message):
        load_model(find_base(str(folder)), "float32")


def test_codes_of_a_quantization_without_its_configuration_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """transformers casts them to floats: the model would answer nonsense, and nothing would be missing."""
    shutil.copytree(tiny_model, tmp_path / "base")
    with_whole_numbers(tmp_path / "base")
    with pytest.raises(UserError, match=r"whole numbers: model\.layers\.0\.mlp\.up_proj\.weight \(int8\)"):
        check_headers("base", tmp_path / "base", load_skeleton(str(tmp_path / "base")))


def test_the_file_that_the_configuration_names_is_the_one_that_is_checked(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    configured(folder, transformers_weights="other.safetensors")
    with pytest.raises(UserError, match=r"cannot load base: .*other\.safetensors"):
        check_headers("base", folder, load_skeleton(str(folder)))
    shutil.copy(folder / WEIGHTS, folder / "other.safetensors")
    without(folder, "model.norm.weight")  # of the file that is not loaded
    check_headers("base", folder, load_skeleton(str(folder)))
    load_model(find_base(str(folder)), "float32")


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), torch.float32), (float("inf"), torch.float16), (float("-inf"), torch.bfloat16)]
)
def test_weights_that_are_not_finite_are_one_sentence_of_the_plan(
    value: float, dtype: torch.dtype, tiny_model: Path, tmp_path: Path
) -> None:
    """Each of the base's cells would end as diverged."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    weights["model.layers.0.mlp.up_proj.weight"][3, 2] = value
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    says = r"weights of .* are NaN or infinite: model\.layers\.0\.mlp\.up_proj\.weight"
    done = bench("plan", sweep_file(tmp_path, folder), "--results", tmp_path / "r")
    assert done.exit_code == 2 and re.search(says, " ".join(done.output.split()))
    with pytest.raises(UserError, match=says):
        load_model(find_base(str(folder)), "float32")


def test_large_weights_are_finite() -> None:
    """Their sum overflows."""
    assert is_finite(torch.full((4,), torch.finfo(torch.float32).max))
    assert is_finite(torch.empty(0)) and is_finite(torch.ones(2, dtype=torch.int8))
    assert not is_finite(torch.tensor([1, float("nan")]).to(torch.float8_e5m2))


def test_a_mask_of_infinities_is_no_weight(tiny_model: Path, tmp_path: Path) -> None:
    """Checkpoints of old versions store one beside the weights."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / WEIGHTS) | {"model.causal_mask": torch.full((2, 2), float("-inf"))}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    check_finite("base", folder, load_skeleton(str(folder)))


def test_finite_weights_are_read_once(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    skeleton = load_skeleton(str(folder))
    check_finite("base", folder, skeleton)
    monkeypatch.setattr(finite_weights, "is_finite", pytest.fail)
    check_finite("base", folder, skeleton)


@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow)
        for name in FAMILIES
        if name not in ("emu3", "mllama")  # saved, a text model has a configuration that no causal model is known by
    ],
)
def test_a_whole_base_of_any_family_is_taken(name: str, tmp_path: Path) -> None:
    """Names are translated, experts stacked and tied weights written once: none of it is a missing tensor."""
    folder = save_family(name, tmp_path / name)
    skeleton = load_skeleton(str(folder))
    check_headers(name, folder, skeleton)
    load_model(find_base(str(folder)), "float32", "eager")
    first = next(key for key in load_file(folder / WEIGHTS) if re.search("norm|proj|attention", key))
    without(folder, first)
    with pytest.raises(UserError, match=r"do not fit its config\.json|cannot load"):
        check_headers(name, folder, skeleton)


def test_the_plan_refuses_it_before_anything_is_written(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    without(tmp_path / "base", "model.norm.weight")
    path = sweep_file(tmp_path, tmp_path / "base")
    for command in ("plan", "run"):
        done = bench(command, path, "--results", tmp_path / "r")
        assert done.exit_code == 2 and "model.norm.weight missing" in done.output, done.output
    assert not (tmp_path / "r").exists()


def test_a_base_that_is_not_whole_costs_its_own_cells(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "broken")
    without(tmp_path / "broken", "model.norm.weight")
    bases = f"base_model=[{{id: {tmp_path / 'broken'}, dtype: float32}}, {{id: {tiny_model}, dtype: float32}}]"
    only = ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]", "--set", "evaluation.tasks=[world_two]")
    done = bench(
        "run", sweep_file(tmp_path, tiny_model), "--results", tmp_path, "--set", bases, *only, "--workers", "0"
    )
    assert "model.norm.weight missing" in done.output, done.output
    assert len(list(tmp_path.glob("tiny/cells/*/metrics.json"))) == 2, done.output


@pytest.mark.parametrize("kind", [kind for kind in (*ENCODERS, *ENCODER_DECODERS) if kind != "trocr"])
def test_encoders_and_encoder_decoders_are_refused(kind: str) -> None:
    """TrOCR's is the configuration of its decoder alone, which is causal."""
    config = CONFIG_MAPPING[kind]()
    with pytest.raises(UserError, match=rf"is an encoder.* \(model type {kind}\), not a causal language model"):
        check_causal("base", config)


def test_an_encoder_that_is_made_a_decoder_is_taken() -> None:
    """By what it does: with `is_decoder` a token sees none after it, and without it does."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    text, other = torch.arange(3, 23)[None], torch.arange(3, 23)[None]
    other[0, -1] = 40
    for is_decoder in (True, False):
        config = CONFIG_MAPPING["bert"](is_decoder=is_decoder, vocab_size=64, **sizes)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            causal = torch.allclose(model(text).logits[:, :-1], model(other).logits[:, :-1], atol=1e-6)
        assert causal == is_decoder
        if is_decoder:
            check_causal("base", config)


def test_decoders_are_taken() -> None:
    for name in FAMILIES:
        check_causal(name, tiny_config(name))


def test_an_encoder_in_a_folder_is_refused_by_the_plan(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    AutoModelForCausalLM.from_config(CONFIG_MAPPING["roberta"](vocab_size=64, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is an encoder \(model type roberta\)"):
        load_config(str(tmp_path))
