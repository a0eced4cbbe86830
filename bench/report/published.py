"""The papers' numbers, with their sources; drawn over ours only where base, tasks and protocol are the same.

The files are facts carried over from the papers named in `SOURCES`. Where sources disagree, both are kept.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from bench.store.records import PlanRecord

FOLDER = Path(__file__).parent / "published"

RANK_SOURCE = "DoRA, arXiv 2402.09353 v6, Table 15"
SCORE_SOURCE = "DoRA, Table 5"
SOURCES = {
    "dora_table15_rank": f"{RANK_SOURCE} (the numbers behind Figure 5): LLaMA-7B, commonsense_170k, single runs",
    "dora_table1_commonsense": "DoRA, arXiv 2402.09353 v6, Table 1; its LLaMA-7B/13B baselines are quoted from "
    "LLM-Adapters, arXiv 2304.01933",
    "loreft_table1_commonsense": "LoReFT, arXiv 2404.03592 v3, Table 1 (mean of 3 seeds); loreft_3_epochs is Table 14",
    "dora_reproductions": "averages that others reported in public threads when repeating the figure",
    "dora_mt_bench": "DoRA, Table 5: MT-Bench, GPT-4 judge (version not stated), 10k cleaned-Alpaca samples",
    "dora_mt_bench_margins": "DoRA, section 5.4: the only sample-count values that its text states for Figure 4",
}
DISAGREEMENTS = (
    "The authors' repository (NVlabs/DoRA README) reports LoRA r=32 as 76.3 where Table 15 says 74.7, and another "
    "DoRA r=64; the LoReFT paper quotes DoRA r=32 as 78.1. All of the paper's commonsense numbers are single runs."
)
COMMONSENSE = {
    "boolq_closed",
    "piqa",
    "siqa",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
}
PROTOCOL = "llm-adapters-v1"
LLAMA_7B = {"huggyllama/llama-7b", "yahma/llama-7b-hf", "decapoda-research/llama-7b-hf"}
"""Copies of the paper's base model on the hub."""


def read_published(name: str) -> pd.DataFrame:
    """One of the files, by its name in `SOURCES`."""
    return pd.read_csv(FOLDER / f"{name}.csv")


def comparable(bases: set[str], tasks: set[str], protocols: set[str]) -> bool:
    """Whether the rank figure's published curves may be drawn over results of these."""
    return bool(bases) and bases <= LLAMA_7B and tasks == COMMONSENSE and protocols == {PROTOCOL}


MT_BENCH_FINGERPRINT = "9ce50ff00905cc52"
"""Fingerprint of MT-Bench's 80 questions (`open_questions_fingerprint`), as FastChat's question.jsonl has them."""
PAPER_BASES = {"LLaMA-7B": LLAMA_7B, "LLaMA2-7B": {"meta-llama/Llama-2-7b-hf", "NousResearch/Llama-2-7b-hf"}}
"""By the name that the MT-Bench numbers have for it."""


def paper_base(bases: set[str]) -> str | None:
    """The paper's name of the base model of a sweep; None where it is another."""
    return next((name for name, copies in PAPER_BASES.items() if bases and bases <= copies), None)


def comparable_scores(bases: set[str], plan: PlanRecord, questions: str, kind: str, judge: str) -> bool:
    """Whether the paper's MT-Bench scores may be drawn over these: its base, the hub's cleaned Alpaca, all of MT-Bench,
    and GPT-4 as the judge (not one of its successors)."""
    record = plan.open_questions.get(questions)
    return (
        paper_base(bases) is not None
        and plan.instructions == ["alpaca, the hub's"]
        and record is not None
        and record.fingerprint == MT_BENCH_FINGERPRINT
        and kind == "openai"
        and re.fullmatch(r"gpt-4(-\d{4})?", judge) is not None
    )


def rank_table() -> pd.DataFrame:
    """Published averages over the eight tasks by method and rank, with reproductions and their sources."""
    paper = read_published("dora_table15_rank").assign(source=RANK_SOURCE)
    others = read_published("dora_reproductions").assign(source=lambda rows: "reproduction: " + rows["source"])
    return pd.concat([paper, others])[["base", "method", "rank", "average", "source"]].sort_values(
        ["method", "rank"], kind="stable", ignore_index=True
    )
