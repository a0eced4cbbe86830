"""A quantized GGUF file becomes a plain folder of floats."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from bench.models.compat.transformers_models import check_saved, forget_quantization

HIDDEN, HEADS, VOCABULARY = 64, 2, 32


def write_gguf(path: Path) -> None:
    """A one-layer llama with random weights, its matrices in Q8_0."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    generator = np.random.default_rng(0)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}.weight": (HIDDEN, HIDDEN) for name in square}
    shapes |= {"token_embd.weight": (VOCABULARY, HIDDEN), "output.weight": (VOCABULARY, HIDDEN)}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape, dtype=np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_dequantized_model_is_saved_as_plain_floats(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    assert isinstance(model.config, LlamaConfig)
    forget_quantization(model)
    model.save_pretrained(tmp_path / "plain")
    check_saved(tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", use_safetensors=True)
    assert getattr(plain, "hf_quantizer", None) is None
    for (name, mine), (_, saved) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert mine.dtype == saved.dtype == torch.float32
        torch.testing.assert_close(saved, mine, rtol=0, atol=0, msg=name)
