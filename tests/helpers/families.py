"""Tiny random models of every decoder family of the installed transformers: a few layers, small widths, window 16.

`FAMILIES` names the families; `tiny_config` and `tiny_family` make one, `save_family` a folder of it with a tokenizer.
`LEFT_OUT` says of each other model type of `AutoModelForCausalLM` why it is none of them. Layers of each kind that a
family has (windowed and not, attention and recurrent, dense and with experts) are in the tiny model, too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from helpers.sweeps import tiny_tokenizer

LAYERS = 2
"""Of a family whose layers are alike; a family with more kinds of layers has one of each."""

SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 272),  # the tokenizer's 259, and a few more
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 512),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    "head_dim": 8,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "dff", "dim_ff"), 48),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_chunk_size", "window_size"), 16),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(
        ("shared_expert_intermediate_size", "shared_experts_intermediate_size", "shared_intermediate_size"), 24
    ),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "dense_intermediate_size", "intermediate_size_mlp"), 24),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "num_expert_group", "topk_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "hc_lowrank", "gated_norm_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("swa_head_dim", "hidden_size_per_layer_input"), 8),
    **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "laurel_rank": 4, "zero_expert_num": 1},
    **{"mamba_num_heads": 4, "mamba_head_dim": 16, "router_hidden_size": 16, "feed_forward_size": 48},
    **dict.fromkeys(("index_head_dim", "index_topk"), 16),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 16),
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
"""Values of configuration fields by name: a family gets those that its configuration has."""

KEYS_OF_EACH_HEAD = {"num_key_value_heads": 4}
ATTENTION_BETWEEN_RECURRENT = {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3}
INDEXER = {"n_heads": 2, "kv_heads": 1, "head_dim": 8, "budget": 16, "compress_ratio": 4}

FURTHER: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), KEYS_OF_EACH_HEAD),
    **dict.fromkeys(("glm_moe_dsa", "minicpm3", "youtu", "longcat_flash"), KEYS_OF_EACH_HEAD),
    **dict.fromkeys(("bailing_hybrid", "kimi_linear"), KEYS_OF_EACH_HEAD),
    "codegen": {"rotary_dim": 8},
    **dict.fromkeys(("zamba", "zamba2"), ATTENTION_BETWEEN_RECURRENT | {"attention_head_dim": 16}),
    "bamba": {"mamba_n_heads": 4, "attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48},
    },
    "dots1": {"n_shared_experts": 1, "max_window_layers": 1},
    "dots3_note_text": KEYS_OF_EACH_HEAD
    | {"head_dim": 16, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 16}
    | {"swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4},
    "gemma4_text": {"global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"mamba_n_heads": 4, "layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "nemotron_h": {"n_groups": 2},
    "qwen4_exp_text": {f"indexer_{name}": value for name, value in INDEXER.items()},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 16},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (16, 32)},
    "xlstm": {"hidden_size": 128, "ffn_round_up_to_multiple_of": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""What a family needs beyond `SIZES`."""

ENCODERS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta", "xlm-roberta-xl"),
    *("xmod", "xlnet", "cpmant"),
)
ENCODER_DECODERS = (
    *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart"),
    *("prophetnet", "trocr", "whisper"),
)
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(ENCODERS, "a token sees those after it"),
    **dict.fromkeys(ENCODER_DECODERS, "the decoder of an encoder-decoder"),
    **dict.fromkeys(("musicgen", "musicgen_melody", "moshi"), "a model of sound"),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "a draft model: it reads another model's states"),
    "blt": "reads bytes in patches, and the installed transformers makes no cache for it",
    "gemma3n": "its image encoder needs timm; gemma3n_text is here",
    "dots3_note": "a wrapper of dots3_note_text with an audio encoder of fixed sizes",
}
"""Model types of `AutoModelForCausalLM` that are no decoder families here, each with the reason."""


def tiny_config(name: str) -> PretrainedConfig:
    """The configuration of a tiny model of the family."""
    return _tiny(CONFIG_MAPPING[name], FURTHER.get(name, {}))


def tiny_family(name: str, seed: int = 0) -> PreTrainedModel:
    """A tiny model of the family with random weights, in float32."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(tiny_config(name), dtype=torch.float32)
    return model.eval()


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder, with a tiny model of the family and a byte-level tokenizer in it."""
    tiny_family(name, seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _tiny(kind: type[PretrainedConfig], further: dict[str, Any]) -> PretrainedConfig:
    fields = {field.name for field in dataclasses.fields(kind)}
    sizes = {name: value for name, value in SIZES.items() if name in fields} | further
    default = kind()
    for name in kind.sub_configs:
        part = getattr(default, name)
        if part is not None:
            sizes[name] = _tiny(type(part), further.get(name) or FURTHER.get(part.model_type, {})).to_dict()
    kinds = {
        name: list(dict.fromkeys(getattr(default, name)))
        for name in ("layer_types", "mlp_layer_types")
        if name in fields and name not in further and isinstance(getattr(default, name, None), list)
    }
    if kinds:
        layers = max(LAYERS, *map(len, kinds.values()))
        sizes |= {name: (values * layers)[:layers] for name, values in kinds.items()}
        sizes |= {"num_hidden_layers": layers} if "num_hidden_layers" not in further else {}
    return kind(**sizes)


FAMILIES = tuple(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in LEFT_OUT)
"""The families, by the model type of their configurations."""

FAST_FAMILIES = (
    *("llama", "gpt2", "gpt_neox", "bloom", "qwen3", "gemma3", "mistral", "mixtral", "gpt_oss", "deepseek_v3"),
    *("qwen3_next", "llama4_text", "mamba2", "jamba"),
)
"""One of each kind, for fast tests: plain, Conv1D, fused and without rotations, a wrapper of a text model, windowed,
experts as 3-D parameters, latent attention, hybrid, a router that returns a tuple, recurrent."""
