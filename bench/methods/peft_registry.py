"""The registry's facts on each PEFT type: what its rank is, how it is scored, and where its defaults come from.

Only facts; nothing here imports PEFT. A type that is not in the table (of a later PEFT, say) still runs, with PEFT's
defaults and the most cautious assumptions: no rank, scored without shared prefixes and unmerged.

Learning rates are starting points: from the papers if they state one for language models, else from the method's
parametrization. They are not tuned. `bench` records the rate that is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bench.methods.peft_sized_defaults import block_that_divides, ia3_modules, most_layers, vector_that_divides

if TYPE_CHECKING:
    from pydantic import JsonValue
    from transformers import PreTrainedModel

    from bench.methods.method import SharedPrefix
    from bench.sweep.cell import Settings

SizedDefaults = Callable[["PreTrainedModel", "Settings"], "Settings"]
"""Settings that depend on the base's sizes, from the model on the meta device and the settings chosen so far."""

VIRTUAL_TOKENS = "it works through virtual tokens, which are no weights"
VIRTUAL_TOKENS_IN_ROWS = "its virtual tokens stand before a row, and not before each example in it"
THROUGH_CACHE = "its keys and values come by the cache, which a layer that is computed again would fill a second time"
ATTENTION_IN_EACH_LAYER = (
    "it needs attention in each layer, with keys and values of one size and a number of heads that PEFT finds"
)
OBJECTS = "PEFT keeps the importance of its ranks beside the model, where no checkpoint finds it"
ALLOTS = "what it takes away as it trains stays away: the weights of an earlier step are not all there is to it"


@dataclass(frozen=True)
class PeftFacts:
    """One PEFT type."""

    name: str
    """Its name in sweep files."""
    summary: str
    source: str
    lr: float
    rank_field: str | None = "r"
    """The field of its configuration that `rank` sets; None for a type without a rank."""
    rank: str = "rank"
    """What that field means."""
    targets: Literal["linear", "own", "none"] = "linear"
    """Default target modules: every linear layer but the head, PEFT's choice for the architecture, or none to name."""
    shared_prefix: SharedPrefix = "any"
    pads_left: bool = True
    cannot_merge: str = ""
    no_checkpointing: str = ""
    no_packing: str = ""
    no_validation: str = ""
    no_checkpoint: str = ""
    requires: str = ""
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    """Those that differ from PEFT's."""
    sized_defaults: SizedDefaults | None = None
    rank_ratios: Mapping[str, float] = field(default_factory=dict)
    """Fields that are this many times the rank unless they are set: the ratio of PEFT's defaults, so that a sweep
    over ranks does not change the scale with the rank."""
    architectures: tuple[str, ...] = ()
    """The only model types that it supports; empty if it supports all."""
    needs_task_ids: bool = False
    """Its forward takes the task of each row: all rows are of task 0 here."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Settings under which these facts would be wrong, each with the reason; null, false and PEFT's default are
    accepted."""
    quantizable: bool = False
    """The base may be loaded quantized (`quantization`)."""
    unsupported: str = ""
    """Why it does not run in this harness; empty if it does."""

    def following(self, rank: float) -> dict[str, int]:
        """The fields that follow from this rank."""
        return {name: math.ceil(ratio * rank) for name, ratio in self.rank_ratios.items()}


def _prompt(
    name: str,
    summary: str,
    source: str,
    lr: float,
    *,
    has_length: bool = True,
    pads_left: bool = False,
    no_checkpointing: str = "",
    requires: str = "",
    needs_task_ids: bool = False,
) -> PeftFacts:
    """The family that puts virtual tokens before the text. Not `has_length`: their number is not a setting."""
    return PeftFacts(
        name,
        summary,
        source,
        lr,
        rank_field="num_virtual_tokens" if has_length else None,
        rank="virtual tokens",
        targets="none",
        shared_prefix="none",
        pads_left=pads_left,
        cannot_merge=VIRTUAL_TOKENS,
        no_checkpointing=no_checkpointing,
        no_packing=VIRTUAL_TOKENS_IN_ROWS,
        requires=requires,
        defaults={"num_virtual_tokens": 20} if has_length else {},
        needs_task_ids=needs_task_ids,
    )


PEFT_TYPES: dict[str, PeftFacts] = {
    "LORA": PeftFacts(
        "lora",
        "low-rank update of each weight",
        "arXiv 2106.09685",
        3e-4,
        rank_ratios={"lora_alpha": 2},
        refused={
            "init_lora_weights": "some change the base's weights, which would not be found again on loading; method: "
            "lora has `init`",
            "alora_invocation_tokens": "it depends on the text and cannot be merged",
            "layer_replication": "it makes another base",
        },
    ),
    "VERA": PeftFacts(
        "vera",
        "trained scalings of one random pair of projections",
        "arXiv 2310.11454; rate of DoRA, arXiv 2402.09353, Table 11",
        4e-3,
        rank="columns of the shared projections",
        defaults={"r": 256},
        quantizable=True,
    ),
    "DVORA": PeftFacts(
        "dvora",
        "VeRA as the directional update, trained magnitude",
        "arXiv 2402.09353, section 5.4 and Table 11 (its code was never published: this is ours)",
        4e-3,
        rank="columns of the shared projections",
        defaults={"r": 256},
        quantizable=True,
    ),
    "PVERA": PeftFacts(
        "pvera",
        "VeRA with sampled scalings",
        "arXiv 2512.07703",
        4e-3,
        rank="columns of the shared projections",
        refused={"sample_at_inference": "a merged model does not sample"},
    ),
    "ADAPTION_PROMPT": PeftFacts(
        "llama_adapter",
        "gated attention to learned prompts in each layer",
        "arXiv 2303.16199 (length 10; 30 of 32 layers; rate 9e-3)",
        9e-3,
        rank_field="adapter_len",
        rank="adapter length",
        targets="none",
        cannot_merge="it adds an input-dependent term to attention, which is no weight",
        defaults={"adapter_len": 10},
        sized_defaults=most_layers,
        architectures=("llama", "mistral", "gpt2"),
    ),
    "PREFIX_TUNING": _prompt(
        "prefix",
        "learned keys and values before each layer's",
        "arXiv 2101.00190",
        1e-2,
        pads_left=True,
        no_checkpointing=THROUGH_CACHE,
        requires=ATTENTION_IN_EACH_LAYER,
    ),
    "PROMPT_TUNING": _prompt("prompt", "learned embeddings before the text", "arXiv 2104.08691", 3e-2),
    "P_TUNING": _prompt("p_tuning", "embeddings before the text, from a small network", "arXiv 2103.10385", 1e-3),
    "MULTITASK_PROMPT_TUNING": _prompt(
        "multitask_prompt",
        "a shared prompt times a low-rank one of the task",
        "arXiv 2303.02861",
        3e-2,
        needs_task_ids=True,
    ),
    "CPT": _prompt(
        "cpt",
        "context-aware prompt: trained offsets to given tokens",
        "arXiv 2410.17222",
        1e-3,
        has_length=False,
    ),
    "CARTRIDGE": _prompt(
        "cartridge",
        "a trained key-value cache",
        "arXiv 2506.06266",
        1e-2,
        pads_left=True,
        no_checkpointing=THROUGH_CACHE,
        requires=ATTENTION_IN_EACH_LAYER,
    ),
    "IA3": PeftFacts(
        "ia3",
        "trained scalings of keys, values and feed-forward activations",
        "arXiv 2205.05638 (rate 3e-3)",
        3e-3,
        rank_field=None,
        targets="own",
        sized_defaults=ia3_modules,
    ),
    "ADALORA": PeftFacts(
        "adalora",
        "low-rank update whose rank is allotted among the weights",
        "arXiv 2303.10512",
        1e-3,
        rank_field="target_r",
        rank="average rank that is left in the end",
        rank_ratios={"init_r": 1.5, "lora_alpha": 2},
        no_validation=ALLOTS,
        no_checkpoint=OBJECTS,
    ),
    "BOFT": PeftFacts(
        "boft",
        "butterfly-factorized rotation",
        "arXiv 2311.06243",
        1e-3,
        rank_field="boft_block_size",
        rank="block size",
    ),
    "OFT": PeftFacts(
        "oft", "block-diagonal rotation", "arXiv 2306.07280", 1e-3, rank_field="oft_block_size", rank="block size"
    ),
    "FOURIERFT": PeftFacts(
        "fourierft",
        "a few Fourier coefficients of each update",
        "arXiv 2405.03003 (1,000 coefficients)",
        3e-2,
        rank_field="n_frequency",
        rank="coefficients per matrix",
    ),
    "WAVEFT": PeftFacts(
        "waveft",
        "a few wavelet coefficients of each update",
        "PEFT's documentation of WaveFT",
        1e-2,
        rank_field="n_frequency",
        rank="coefficients per matrix",
    ),
    "HRA": PeftFacts("hra", "a chain of Householder reflections", "arXiv 2405.17484", 1e-3, rank="reflections"),
    "LOHA": PeftFacts(
        "loha", "Hadamard product of two low-rank updates", "arXiv 2108.06098", 1e-3, rank_ratios={"alpha": 1}
    ),
    "LOKR": PeftFacts(
        "lokr", "Kronecker product of small matrices", "arXiv 2309.14859", 1e-3, rank_ratios={"alpha": 1}
    ),
    "RANDLORA": PeftFacts(
        "randlora",
        "full-rank sum of random bases, scaled",
        "arXiv 2502.00987",
        1e-3,
        rank="rank of each random basis (a smaller one trains more)",
        rank_ratios={"randlora_alpha": 20},
        # Its random bases follow from a key; PEFT would save them anew for every layer (2 GB for a model of 135M).
        defaults={"save_projection": False},
    ),
    "MISS": PeftFacts("miss", "one shared low-rank shard of each weight", "arXiv 2409.15371", 1e-3),
    "LN_TUNING": PeftFacts(
        "ln_tuning", "the normalisation layers' weights", "arXiv 2312.11420", 1e-3, rank_field=None, targets="own"
    ),
    "ADAMSS": PeftFacts(
        "adamss",
        "subspaces of each weight",
        "PEFT's documentation of AdaMSS",
        1e-2,
        no_validation=ALLOTS,
        no_checkpoint=OBJECTS,
    ),
    "BEFT": PeftFacts(
        "beft",
        "a bias on the value projections",
        "arXiv 2509.15974",
        1e-2,
        rank_field=None,
        targets="own",
        cannot_merge="the base's layers have no bias to take it",
    ),
    "C3A": PeftFacts(
        "c3a",
        "block-circular convolution",
        "arXiv 2407.19342 (rate of order 1e-1)",
        1e-1,
        rank_field="block_size",
        rank="block size (a smaller one trains more)",
        sized_defaults=block_that_divides,
    ),
    "DEFT": PeftFacts("deft", "projection and injection in a low-rank subspace", "PEFT's documentation of DEFT", 1e-3),
    "DELORA": PeftFacts(
        "delora", "low-rank update with its strength apart", "arXiv 2503.18225 (10 to 100 times LoRA's rate)", 3e-3
    ),
    "FROD": PeftFacts(
        "frod",
        "sparse rotation of shared projections",
        "doi 10.1609/aaai.v40i31.39813",
        4e-3,
        rank_field=None,
        defaults={"progressbar": False},
    ),
    "GLORA": PeftFacts("glora", "generalized LoRA on weights and activations", "arXiv 2306.07967", 3e-4),
    "GRALORA": PeftFacts(
        "gralora", "a LoRA for each block of a weight", "arXiv 2505.20355", 3e-4, rank_ratios={"alpha": 2}
    ),
    "HIRA": PeftFacts("hira", "Hadamard product of the weight and a low-rank matrix", "OpenReview TwJrTz9cRS", 3e-3),
    "LILY": PeftFacts(
        "lily",
        "low-rank updates that share their B across layers",
        "arXiv 2407.09946",
        1e-3,
        cannot_merge="a router mixes its shared matrices for each input",
        shared_prefix="none",
        unsupported="its router averages over all tokens of a batch, so a score would depend on its neighbours and "
        "on what comes after it",
    ),
    "OSF": PeftFacts(
        "osf",
        "the small singular directions of each weight",
        "arXiv 2504.07097",
        5e-5,
        rank_field="effective_rank",
        rank="singular directions kept frozen (a smaller number trains more)",
    ),
    "PEANUT": PeftFacts("peanut", "a small network of each weight", "arXiv 2410.01870", 1e-3),
    "POLY": PeftFacts(
        "poly",
        "a mixture of LoRAs by task",
        "arXiv 2202.13914",
        1e-3,
        needs_task_ids=True,
        shared_prefix="none",
        cannot_merge="PEFT mixes its skills at each forward and has no merge for it",
    ),
    "PSOFT": PeftFacts(
        "psoft", "rotation in the principal subspace", "OpenReview FSHrinMArK", 1e-3, rank_ratios={"psoft_alpha": 1}
    ),
    "ROAD": PeftFacts("road", "rotations of pairs of outputs", "arXiv 2409.00119 (rate 1e-3)", 1e-3, rank_field=None),
    "SHADOW": PeftFacts(
        "shadow",
        "a small network beside the base",
        "arXiv 2604.19254; its auxiliary loss is left out: the loss here is the answer's",
        1e-3,
        targets="own",
        shared_prefix="none",
        cannot_merge="it adds an input-dependent term to each layer",
        defaults={"auxiliary_loss_weight": 0.0},
    ),
    "SHIRA": PeftFacts(
        "shira",
        "a sparse part of each weight",
        "arXiv 2406.13175",
        1e-3,
        rank="sets the count of trained weights to LoRA's",
    ),
    "SUPERTUNING": PeftFacts(
        "supertuning", "the largest entries of each weight", "arXiv 2607.09287", 1e-4, rank_field=None
    ),
    "TINYLORA": PeftFacts(
        "tinylora",
        "a vector of a few numbers through frozen projections",
        "arXiv 2602.04118",
        1e-2,
        rank_field="u",
        rank="length of the trained vector",
    ),
    "TRAINABLE_TOKENS": PeftFacts(
        "trainable_tokens",
        "the embeddings of chosen tokens",
        "PEFT's documentation of trainable tokens",
        1e-3,
        rank_field=None,
        targets="own",
    ),
    "UNILORA": PeftFacts("unilora", "one trained vector projected into every LoRA", "arXiv 2506.00799", 1e-2),
    "VBLORA": PeftFacts(
        "vblora",
        "LoRAs mixed from one bank of vectors",
        "arXiv 2405.15179",
        1e-2,
        sized_defaults=vector_that_divides,
    ),
    "XLORA": PeftFacts(
        "xlora",
        "a router over trained LoRAs",
        "arXiv 2402.07148",
        1e-3,
        rank_field=None,
        targets="none",
        shared_prefix="none",
        cannot_merge="it routes by input",
        unsupported="it mixes LoRA adapters that have been trained before, and a cell starts from the base alone",
    ),
}


def peft_facts(peft_type: str) -> PeftFacts:
    """The facts of a PEFT type; the most cautious ones for a type that is not in the table."""
    return PEFT_TYPES.get(peft_type) or PeftFacts(
        peft_type.lower(),
        "a PEFT type that the registry does not know",
        "PEFT's documentation",
        1e-3,
        rank_field=None,
        targets="own",
        shared_prefix="none",
        pads_left=False,
        cannot_merge="the registry does not know whether it can be",
        no_checkpointing="the registry does not know whether it can bear it",
        no_packing="the registry does not know whether it can bear it",
        no_validation="the registry does not know whether it can bear it",
    )
