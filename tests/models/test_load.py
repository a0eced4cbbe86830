"""Loading a base model: configuration, skeleton, tokenizer, dtype, and no progress bars meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.sweeps import bench, sweep_file
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from bench.errors import UserError
from bench.models.device import compute_device
from bench.models.dtype import resolve_dtype
from bench.models.load import (
    ARCHITECTURES,
    check_generation_config,
    check_special_tokens,
    load_model,
    load_skeleton,
    load_tokenizer,
)
from bench.models.locate import find_base
from bench.models.progress_bars import no_progress_bars


def test_a_folder_without_a_tokenizer_or_a_known_architecture(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UserError, match="has no tokenizer that can be loaded"):
        load_tokenizer(find_base(str(tmp_path / "m")))
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no causal language model"):
        load_skeleton(str(tmp_path / "m"))


def configured(tiny_model: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": "2"}, "'num_hidden_layers' expected int|expected int, got str"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        ({"layer_types": ["weird", "weird"]}, "entries must be in"),
        ({"tie_word_embeddings": None}, "expected bool, got NoneType"),
        ({"dtype": "weird"}, "has no attribute 'weird'"),
        ({"pad_token_id": 5000}, "Padding_idx must be within num_embeddings"),
        ({"vocab_size": -1}, "Padding_idx must be within num_embeddings"),
        ({"hidden_act": "weird"}, "weird"),
    ],
)
def test_an_impossible_configuration_is_refused_in_a_sentence(
    changes: dict[str, object], reason: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = configured(tiny_model, tmp_path / "m", **changes)
    with pytest.raises(UserError, match=rf"no causal language model that transformers knows: \w+: .*({reason})"):
        load_skeleton(str(folder))


def test_a_configuration_that_is_no_json_is_refused_in_a_sentence(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(UserError, match="not a valid JSON file"):
        load_skeleton(str(tmp_path / "m"))


@pytest.mark.parametrize(
    "changes",
    [
        {"return_dict": False},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"gradient_checkpointing": True},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "flash_attention_2"},
    ],
)
def test_how_a_model_is_run_is_not_taken_from_its_configuration(
    changes: dict[str, object], tiny_model: Path, tmp_path: Path
) -> None:
    """The skeleton of the plan, the loaded model and a copy saved of it run as those of a plain configuration do."""
    folder = configured(tiny_model, tmp_path / "m", **changes)
    load_skeleton(str(folder)).config.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text()).get("return_dict", True)
    model = load_model(find_base(str(folder)), "float32").eval()
    plain = load_model(find_base(str(tiny_model)), "float32").eval()
    assert not model.is_gradient_checkpointing and model.config._attn_implementation == "sdpa"
    ids = torch.arange(3, 20)[None].to(model.device)
    with torch.no_grad():
        output, expected = model(ids), plain(ids)
    assert torch.equal(output.logits, expected.logits)
    assert output.attentions is None and output.hidden_states is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shipped_architectures_need_no_network(name: str) -> None:
    sizes = {"smollm2-135m-instruct": 134_515_008, "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320}
    sizes |= {"llama2-7b": 6_738_415_616, "llama3-8b": 8_030_261_248}
    model = load_skeleton(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == sizes[ARCHITECTURES[name]]


def test_the_methods_keywords_win_and_a_seed_fixes_the_random_state(tiny_model: Path) -> None:
    base = find_base(str(tiny_model))
    states = []
    for kwargs in ({}, {"dtype": "bfloat16"}):
        model = load_model(base, "float32", method_kwargs=kwargs, seed=5)
        states.append(torch.get_rng_state())
        assert model.dtype == (torch.bfloat16 if kwargs else torch.float32)
        assert model.device.type == compute_device().type
    torch.manual_seed(5)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)


def test_a_folder_that_holds_no_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_text("nothing")
    with pytest.raises(UserError, match=r"(?s)cannot load m: .*The folder must hold"):
        load_model(find_base(str(tmp_path / "m")), "float32")


def test_dtype_is_chosen_with_a_reason() -> None:
    choice = resolve_dtype("auto")
    assert choice.value in {"float32", "bfloat16"} and choice.reason
    assert resolve_dtype("float32").value == "float32"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="float16 needs a CUDA device"):
            resolve_dtype("float16")


def test_bars_are_off_for_the_duration_only() -> None:
    logging.enable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()


def test_bars_that_the_user_has_switched_off_stay_off() -> None:
    logging.disable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert not logging.is_progress_bar_enabled()
    logging.enable_progress_bar()


def padded(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})


def ended(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})


@pytest.mark.parametrize(("add", "token"), [(padded, "pad_token '[PAD]'"), (ended, "eos_token '<|im_end|>'")])
def test_special_tokens_beyond_the_embedding_are_refused_by_the_plan(
    add: Callable[[PreTrainedTokenizerBase], None], token: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Added to the tokenizer, and not to the model: a lookup beyond the embedding ends a cell, and on a GPU all later
    ones of its process."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    add(tokenizer)
    tokenizer.save_pretrained(folder)
    done = bench("plan", sweep_file(tmp_path, folder), "--results", tmp_path / "r")
    assert done.exit_code == 2
    assert f"has {token} with the id 259, and the model has embeddings of 259 tokens" in " ".join(done.output.split())


def test_other_tokens_beyond_the_embedding_are_no_reason_to_refuse_a_base(tiny_model: Path) -> None:
    """gemma-3-1b has a token for images in its tokenizer, and no embedding of it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<image>"])
    check_special_tokens("base", tokenizer, load_skeleton(str(tiny_model)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"eos_token_id": "</s>"}', "is '</s>', which is no id of a token"),
        ('{"eos_token_id": [2, "x"]}', "is 'x', which is no id of a token"),
        ('{"eos_token_id": true}', "is True, which is no id"),
        ('{"eos_token_id": 2', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_end_of_text_tokens_that_are_no_ids_are_refused_by_the_plan(
    content: str, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Each answer of a trained cell would end in a traceback."""
    shutil.copytree(tiny_model, tmp_path / "base")
    path = tmp_path / "base" / "generation_config.json"
    path.write_text(content)
    done = bench("plan", sweep_file(tmp_path, tmp_path / "base"), "--results", tmp_path / "r")
    assert done.exit_code == 2 and says in " ".join(done.output.split()), done.output


def test_ids_of_end_of_text_tokens_are_taken(tmp_path: Path) -> None:
    for content in ("{}", '{"eos_token_id": null}', '{"eos_token_id": 2}', '{"eos_token_id": [2, 3]}'):
        (tmp_path / "generation_config.json").write_text(content)
        check_generation_config("base", tmp_path)


def test_a_folder_without_a_tokenizer_costs_its_own_cells_in_the_plan(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base", ignore=shutil.ignore_patterns("tokenizer*"))
    done = bench("plan", sweep_file(tmp_path, tmp_path / "base"), "--results", tmp_path / "r")
    assert done.exit_code == 2 and "has no tokenizer that can be loaded" in done.output, done.output


def test_a_folder_with_an_adapter_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """transformers loads the adapter with the model, whose logits are then other ones: of which no plan would know."""
    shutil.copytree(tiny_model, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "base")
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert any("lora_" in name for name, _ in adapted.named_parameters())
    for find in (load_skeleton, find_base):
        with pytest.raises(UserError, match=r"base holds a PEFT adapter \(adapter_config\.json\)"):
            find(str(tmp_path / "base"))
