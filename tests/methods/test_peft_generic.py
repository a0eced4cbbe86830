"""The generic PEFT entry: what it takes, resolves and refuses, and AdaLoRA's budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import save_family
from helpers.methods import SETTINGS
from helpers.sweeps import bench, sweep_file
from helpers.training import cell_of, trained
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from bench import methods
from bench.errors import UserError
from bench.methods.peft_base import no_warnings
from bench.methods.peft_configuration import tuner_classes
from bench.sweep.schema import Sweep


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model)


def test_a_configuration_in_the_sweep_and_one_in_a_file_are_the_same(tmp_path: Path, model: Any) -> None:
    from peft import LoHaConfig

    inline = methods.get("peft").resolve({"peft": {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"]}}, model)
    LoHaConfig(r=4, alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(tmp_path)
    path = str(tmp_path / "adapter_config.json")
    assert methods.get("peft").resolve({"peft": path}, model) == inline
    named = methods.get("loha").resolve({"rank": 4, "target_modules": ["q_proj"]}, model)
    assert named == inline and named["rank"] == named["peft"]["r"] == 4


def test_a_sweep_may_say_peft_alone() -> None:
    sweep = Sweep.model_validate(
        {"name": "x", "base_model": "m", "samples": 1, "methods": [{"peft": {"peft_type": "LOHA"}, "lr": 1e-3}]}
    )
    assert sweep.methods[0]["method"] == "peft"


def test_every_field_is_resolved_as_json_and_gives_back_the_configuration(model: Any) -> None:
    from peft import BOFTConfig

    cell = cell_of("boft", model, rank=8, boft_dropout=0.1)
    assert json.loads(json.dumps(cell.options)) == cell.options
    plain = BOFTConfig(
        boft_block_size=8,
        boft_dropout=0.1,
        target_modules=cell.options["peft"]["target_modules"],
        task_type="CAUSAL_LM",
    )
    assert methods.get("boft").config(cell).to_dict() == plain.to_dict()
    assert {"boft_block_num", "boft_n_butterfly_factor", "bias", "init_weights"} <= cell.options["peft"].keys()


@pytest.mark.parametrize("name", [name for name, method in methods.METHODS.items() if "peft" in method.preset])
def test_a_saved_configuration_of_any_type_is_read_back(name: str, tmp_path: Path, model: Any) -> None:
    """As PEFT writes it once attached, it is the same cell. With null modules it has those that PEFT would choose."""
    method = methods.get(name)
    cell = cell_of(name, model, **SETTINGS.get(name, {}))
    method.config(cell).save_pretrained(tmp_path)
    resolved = methods.get("peft").resolve({"peft": str(tmp_path / "adapter_config.json")}, model)
    keys = {key for key, value in cell.options["peft"].items() if value is not None}
    assert {key: resolved["peft"][key] for key in keys} == {key: cell.options["peft"][key] for key in keys}
    blank = json.loads((tmp_path / "adapter_config.json").read_text())
    if "target_modules" in blank and name != "llama_adapter":
        (tmp_path / "blank.json").write_text(json.dumps({**blank, "target_modules": None}))
        again = methods.get("peft").resolve({"peft": str(tmp_path / "blank.json")}, model)
        mapping = getattr(tuner_classes()[blank["peft_type"]], "target_module_mapping", {})
        expected = sorted(mapping["llama"]) if "llama" in mapping else cell.options["peft"]["target_modules"]
        assert again["peft"]["target_modules"] == expected


def test_the_cells_seed_draws_what_is_random_and_frozen(model: Any) -> None:
    cell = cell_of("vera", model, rank=4)
    assert cell.options["peft"]["projection_prng_key"] is None
    keys = {
        seed: methods.get("vera").config(cell.model_copy(update={"seed": seed})).projection_prng_key for seed in (0, 3)
    }
    assert keys == {0: 0, 3: 3}
    fixed = cell_of("vera", model, rank=4, projection_prng_key=7)
    assert methods.get("vera").config(fixed).projection_prng_key == 7


@pytest.mark.parametrize(
    ("method", "settings", "field", "value"),
    [
        ("loha", {"rank": 16}, "alpha", 16),
        ("loha", {"rank": 16, "alpha": 4}, "alpha", 4),
        ("adalora", {"rank": 8}, "init_r", 12),
        ("adalora", {"rank": 8}, "target_r", 8),
        ("randlora", {"rank": 4}, "randlora_alpha", 80),
        ("c3a", {}, "block_size", 16),
        ("llama_adapter", {"rank": 5, "adapter_layers": 2}, "adapter_layers", 2),
        ("ia3", {}, "feedforward_modules", ["down_proj"]),
        ("ia3", {"target_modules": ["k_proj", "v_proj"]}, "feedforward_modules", []),
        ("adalora", {"tinit": 3, "tfinal": 5}, "tfinal", 5),
        ("loha", {"target_modules": "q_proj"}, "target_modules", ["q_proj"]),
        ("loha", {"target_modules": r".*\.(q|v)_proj"}, "target_modules", r".*\.(q|v)_proj"),
        ("ln_tuning", {}, "target_modules", ["input_layernorm", "norm", "post_attention_layernorm"]),
    ],
)
def test_what_follows_from_rank_and_base(method: str, settings: dict, field: str, value: Any, model: Any) -> None:
    assert methods.get(method).resolve(settings, model)["peft"][field] == value


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("peft", {}, "no peft_type is given"),
        (
            "peft",
            {"peft": {"peft_type": "LORA", "init_lora_weights": "pissa"}},
            "init_lora_weights: 'pissa' is refused",
        ),
        ("pvera", {"sample_at_inference": True}, "is refused: a merged model does not sample"),
        ("cpt", {"rank": 4}, "has no rank"),
        ("peft", {"peft": {"peft_type": "LOHAA"}}, "Did you mean 'LOHA'"),
        ("peft", {"peft": {"peft_type": "XLORA"}}, "XLORA does not run here: it mixes LoRA adapters"),
        ("peft", {"peft": "nowhere/adapter_config.json"}, "cannot read the configuration"),
        ("boft", {"boft_block_sizes": 4}, "Did you mean 'boft_block_size'"),
        ("boft", {"rank": 4, "boft_block_size": 8}, "rank is 4, and boft_block_size is 8"),
        ("boft", {"peft": {"peft_type": "LOHA"}}, "boft is BOFT, not LOHA"),
        ("ia3", {"rank": 4}, "has no rank"),
        ("prompt", {"target_modules": ["q_proj"]}, "has no target_modules"),
        ("loha", {"target_modules": ["nope"]}, "has no module nope"),
        ("loha", {"rank": 0}, "rank.*greater than or equal to 1"),
        ("lokr", {"lr": -1}, "lr.*greater than or equal to 0"),
    ],
)
def test_bad_settings_are_one_clear_message(method: str, settings: dict, message: str, model: Any) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        methods.get(method).resolve(settings, model)


def test_llama_adapter_names_the_architectures_that_it_covers() -> None:
    other = GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=99, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    )
    with pytest.raises(
        UserError, match="llama_adapter works on llama, mistral, gpt2; the base model is of the type gpt_neox"
    ):
        methods.get("llama_adapter").resolve({}, other)


def test_llama_adapter_is_the_identity_at_the_start(model: Any) -> None:
    ids = torch.arange(10)[None] + 5
    before = model(input_ids=ids).logits
    adapted = methods.get("llama_adapter").attach(model, cell_of("llama_adapter", model, rank=4)).eval()
    assert torch.equal(adapted(input_ids=ids).logits, before)


def test_vera_saves_its_projections_once_and_counts_them_not(tmp_path: Path, model: Any) -> None:
    from safetensors.torch import load_file

    adapted = methods.get("vera").attach(model, cell_of("vera", model, rank=16))
    methods.get("vera").save(adapted, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    shared = {name: tuple(value.shape) for name, value in saved.items() if "lambda" not in name}
    assert shared == {"base_model.vera_A": (16, 64), "base_model.vera_B": (64, 16)}
    trained_ones = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained_ones == sum(value.numel() for name, value in saved.items() if "lambda" in name)


def test_adalora_knows_its_steps_and_ends_at_its_budget(tmp_path: Path, tiny_model: Path) -> None:
    model, _ = trained(tmp_path, tiny_model, "adalora", {"epochs": 2, "batch_size": 4}, rank=2, lr=1e-2)
    config = model.peft_config["default"]
    assert config.total_step == 10
    left = sum(sum(ranks) for ranks in config.rank_pattern.values())
    assert left == 2 * 14  # an average of 2 over seven matrices in two layers
    assert max(sum(ranks) for ranks in config.rank_pattern.values()) <= config.init_r == 3


def test_adaloras_penalty_is_what_peft_adds_to_a_loss_of_its_own(model: Any) -> None:
    """fp32, 1e-6."""
    cell = cell_of("adalora", model, rank=4)
    adapted = methods.get("adalora").attach(model, cell)
    ids = torch.arange(10)[None] + 5
    with torch.no_grad():
        complete = adapted(input_ids=ids, labels=ids)
        plain = torch.nn.functional.cross_entropy(complete.logits[0, :-1], ids[0, 1:])
        penalty = methods.get("adalora").penalty(adapted, cell)
    assert float(complete.loss - plain) == pytest.approx(float(penalty), abs=1e-6)
    assert float(penalty) > 0.01 and methods.get("loha").penalty(adapted, cell_of("loha", model)) is None


def test_a_penalty_counts_once_a_step_however_the_batch_is_split(tmp_path: Path, tiny_model: Path) -> None:
    logs = [
        trained(tmp_path, tiny_model, "adalora", {"batch_size": 8, **split}, rank=4, lr=1e-3)[1]
        for split in ({}, {"micro_batch": 2})
    ]
    complete, parts = ([row["grad_norm"] for row in log] for log in logs)
    assert complete == pytest.approx(parts, abs=1e-4)


OF_PEFT: list[dict[str, Any]] = [
    {"peft_type": "LORA", "r": 32, "target_modules": None, "lora_alpha": 64, "exclude_modules": None},
    {"peft_type": "LORA", "r": 32},
    {"peft_type": "LORA", "r": 16, "target_modules": "all-linear"},
    {"peft_type": "LOHA", "r": 32, "target_modules": ["v_proj", "q_proj"], "rank_pattern": {}},
    {"peft_type": "VERA", "r": 256, "target_modules": None},
    {"peft_type": "IA3", "target_modules": None, "feedforward_modules": None},
    {"peft_type": "LN_TUNING", "target_modules": None},
    {"peft_type": "FOURIERFT", "n_frequency": 1000, "target_modules": None},
    {"peft_type": "C3A", "target_modules": None, "block_size": 64, "fan_in_fan_out": False},
    {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 200},
    {"peft_type": "ADAPTION_PROMPT", "adapter_len": 100, "adapter_layers": 2, "target_modules": None},
]
"""Configurations with the keys of PEFT's own experiments (method_comparison at PEFT 0.21.2)."""


@pytest.mark.parametrize("content", OF_PEFT, ids=lambda content: content["peft_type"])
def test_a_configuration_from_a_file_trains_what_peft_trains_with_it(content: dict[str, Any], tmp_path: Path) -> None:
    from peft import get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    base = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**content, "task_type": "CAUSAL_LM", "peft_version": "0.19.0", "auto_mapping": None}))
    known = {key: value for key, value in content.items() if key not in ("peft_type", "fan_in_fan_out")}
    config = PEFT_TYPE_TO_CONFIG_MAPPING[content["peft_type"]](task_type="CAUSAL_LM", **known)
    with no_warnings():
        expected = get_peft_model(LlamaForCausalLM(base), config)
    method = methods.get("peft")
    model = LlamaForCausalLM(base)
    adapted = method.attach(model, cell_of("peft", model, peft=str(file)))
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (adapted, expected)]
    assert counts[0] == counts[1] > 0


def test_a_null_target_is_pefts_choice_at_the_size_of_its_experiment() -> None:
    """LLaMA-3.2-3B at rank 32: 9,175,040 in the results of PEFT's method_comparison."""
    base = LlamaConfig(
        vocab_size=64,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(base)
        cell = cell_of("peft", model, peft={"peft_type": "LORA", "r": 32, "target_modules": None})
        adapted = methods.get("peft").attach(model, cell)
    assert cell.options["peft"]["target_modules"] == ["q_proj", "v_proj"]  # type: ignore[index,call-overload]
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 9_175_040


def test_all_unknown_settings_of_a_file_are_named_at_once(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    given = {"peft_type": "LORA", "r": 4, "obsolete": 1, "older": "x", "gone": None, "empty": {}}
    with pytest.raises(UserError, match="unknown settings of LORA: obsolete, older"):
        methods.get("peft").resolve({"peft": given}, model)
    del given["obsolete"], given["older"]
    assert methods.get("peft").resolve({"peft": given}, model)["rank"] == 4


def test_a_null_target_needs_a_choice_of_peft(tiny_model: Path) -> None:
    from helpers.families import tiny_family

    with pytest.raises(UserError, match="PEFT has no choice of its own for LORA on a model of the type olmo2"):
        methods.get("peft").resolve({"peft": {"peft_type": "LORA", "target_modules": None}}, tiny_family("olmo2"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_pattern": {"nothing": 2}}, "rank_pattern: 'nothing' matches nothing"),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"k_proj": 2}}, "alpha_pattern: 'k_proj' matches nothing"),
        ({"modules_to_save": ["score"]}, "modules_to_save: 'score' matches nothing"),
        ({"exclude_modules": ["nothing"]}, "exclude_modules: 'nothing' matches nothing"),
        ({"layers_to_transform": [1, 99]}, "layers_to_transform: 99 matches nothing: the base has layers 0 to 1"),
    ],
)
def test_what_matches_nothing_in_the_base_is_refused(settings: dict[str, Any], message: str, model: Any) -> None:
    with pytest.raises(UserError, match=message):
        methods.get("peft").resolve({"peft": {"peft_type": "LORA", "r": 4, **settings}}, model)


def test_what_matches_is_accepted(model: Any) -> None:
    given = {
        "rank_pattern": {"q_proj": 2, "layers.0.mlp.up_proj": 3},
        "modules_to_save": ["embed_tokens"],
        "exclude_modules": ["k_proj"],
        "layers_to_transform": [0, 1],
    }
    resolved = methods.get("peft").resolve({"peft": {"peft_type": "LORA", "r": 4, **given}}, model)
    assert {key: resolved["peft"][key] for key in given} == given  # type: ignore[index,call-overload]


def test_what_peft_warns_of_is_in_the_plan(tiny_model: Path, tmp_path: Path) -> None:
    """What it sets right by itself is not: the layout of gpt2's weights."""
    entry = "{method: peft, peft: {peft_type: LORA, r: 2, loftq_config: {loftq_bits: 4}}}"
    done = bench("plan", sweep_file(tmp_path, tiny_model), "--set", f"methods=[lora, {entry}]")
    assert done.exit_code == 0, done.output
    said = [line for line in done.output.splitlines() if "PEFT warns" in line]
    assert len(said) == 1 and "`loftq_config` specified but will be ignored" in said[0], done.output
    done = bench("plan", sweep_file(tmp_path, save_family("gpt2", tmp_path / "gpt2")), "--set", "methods=[lora]")
    assert done.exit_code == 0 and "PEFT warns" not in done.output
