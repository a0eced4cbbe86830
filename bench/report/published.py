"""The papers' numbers, with their sources; drawn over ours only where the whole experiment is the same: base, training
data and recipe, questions and protocol.

The files are facts carried over from the papers named in `SOURCES`. Where sources disagree, both are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from pydantic import JsonValue

from bench.store.records import PlanRecord
from bench.sweep.cell import CellData, Settings

FOLDER = Path(__file__).parent / "published"

RANK_SOURCE = "DoRA, arXiv 2402.09353 v6, Table 15"
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
    "boolq_closed": 3270,
    "piqa": 1838,
    "siqa": 1954,
    "hellaswag": 10_042,
    "winogrande": 1267,
    "arc_easy": 2376,
    "arc_challenge": 1172,
    "openbookqa": 500,
}
"""The eight tasks, with the number of their test questions."""
PROTOCOL = "llm-adapters-v1"
LLAMA_7B = {"huggyllama/llama-7b", "yahma/llama-7b-hf", "decapoda-research/llama-7b-hf"}
"""Copies of the paper's base model on the hub."""
SAMPLES = 170_420
"""Rows of commonsense_170k."""
TRAINING: Settings = {
    "epochs": 3,
    "batch_size": 16,
    "order": "random",
    "max_length": 256,
    "schedule": "linear",
    "warmup_steps": 100,
    "weight_decay": 0,
    "loss": "all",
    "validation": {"examples": 120, "steps": 80},
}
"""The training of the rank figure (DoRA, Table 8, and the script that its authors released)."""
LEARNING_RATES = {"lora": (3e-4,), "dora": (2e-4, 1e-4)}
"""By method of the rank figure."""
TARGETS = ["down_proj", "k_proj", "q_proj", "up_proj", "v_proj"]
MT_BENCH_NOTE = (
    "Not drawn in the figure, because they are scores of another kind: the paper's Tables 13 and 14 show two answers "
    "in one prompt, graded as in the Vicuna blog, and a judge here sees one answer at a time, as in FastChat. "
    "The values of the paper's curve at 1,000, 4,000 and 7,000 samples were never printed, but for these margins."
)


def read_published(name: str) -> pd.DataFrame:
    """One of the files, by its name in `SOURCES`."""
    return pd.read_csv(FOLDER / f"{name}.csv")


def rank_differences(plan: PlanRecord, cells: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """How an experiment differs from that of the rank figure's published curves, each with the paper's value; empty
    where it is the same, and the curves may be drawn over it.

    `cells` are the finished cells of one sample count and the untuned base, `scores` those that averages are made of.
    """
    trained = cells[cells["method"] != "base"]
    differences: dict[str, None] = {}  # each once, in order
    bases, tasks, protocols = set(cells["base"]), set(scores["task"]), set(scores["protocol"])
    if not bases or not bases <= LLAMA_7B:
        differences[f"base model {_listed(bases)} (LLaMA-7B)"] = None
    if tasks != set(COMMONSENSE):
        differences[f"tasks {_listed(tasks)} (the eight commonsense tasks)"] = None
    elif not scores["counted"].all():
        left_out = _listed(set(scores[~scores["counted"]]["task"]))
        differences[f"averages without {left_out} (with all eight tasks; set report.average: all)"] = None
    if protocols != {PROTOCOL}:
        differences[f"protocol {_listed(protocols)} ({PROTOCOL})"] = None
    if differences:
        return [*differences]  # everything else follows from these, or does not matter beside them
    questions = dict(zip(scores["task"], scores["n"], strict=True))
    differences |= {
        f"{questions[task]:,} questions of {task} ({n:,})": None
        for task, n in COMMONSENSE.items()
        if questions[task] != n
    }
    differences |= dict.fromkeys(_data_differences(plan.data))
    for row in trained.itertuples():
        if row.samples != SAMPLES:
            differences[f"{row.samples:,} training samples ({SAMPLES:,})"] = None
        differences |= dict.fromkeys(_training_differences(row.training or {}))
        if row.method in LEARNING_RATES:
            differences |= dict.fromkeys(_option_differences(row.method, row.options))
    return [*differences]


def _data_differences(data: CellData | None) -> list[str]:
    if data is None:
        return ["training data that this older plan does not name (commonsense_170k)"]
    differences = []
    if set(data.train) != set(COMMONSENSE):
        differences.append(f"training data {_listed(data.train)} (commonsense_170k)")
    if data.format != "llm_adapters":
        differences.append(f"format {data.format} (llm_adapters)")
    return differences


def _training_differences(training: Settings) -> list[str]:
    # Cells from before the order could be chosen have no key for it.
    training = {"order": "random", **training}
    return [
        f"training.{key} {_value(training.get(key))} ({_value(value)})"
        for key, value in TRAINING.items()
        if training.get(key) != value
    ]


def _option_differences(method: str, options: Settings) -> list[str]:
    rank = options.get("rank")
    expected: Settings = {"dropout": 0.05, "alpha": 2 * rank if isinstance(rank, int) else None}
    expected["target_modules"] = [*TARGETS]
    neutral = {"rank", "lr", "norm"}
    differences = [
        f"{key} {_value(options.get(key))} of {method} ({_value(value)})"
        for key, value in expected.items()
        if options.get(key) != value
    ]
    differences += [
        f"{key} {_value(value)} of {method} (not set)"
        for key, value in options.items()
        if value is not None and key not in neutral and key not in expected
    ]
    if options.get("lr") not in LEARNING_RATES[method]:
        rates = " or ".join(f"{rate:g}" for rate in LEARNING_RATES[method])
        differences.append(f"learning rate {_value(options.get('lr'))} of {method} ({rates})")
    return differences


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _value(value: JsonValue) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, (int, float)) else "none" if value is None else str(value)


def rank_table() -> pd.DataFrame:
    """Published averages over the eight tasks by method and rank, with reproductions and their sources."""
    paper = read_published("dora_table15_rank").assign(source=RANK_SOURCE)
    others = read_published("dora_reproductions").assign(source=lambda rows: "reproduction: " + rows["source"])
    return pd.concat([paper, others])[["base", "method", "rank", "average", "source"]].sort_values(
        ["method", "rank"], kind="stable", ignore_index=True
    )
