"""How fast nine cells (three learning rates, three seeds of each) are trained in one pass, against one by one.

    python tests/benchmarks/together.py [--repeats 3] [--out FILE] [--in-process]

The model is a random llama of six narrow layers, so small that a step waits for the launch of its operations and not
for their work, as SmolLM2 does on a large GPU. Both ways take the same steps with the same examples, in float32,
without dropout, through the same loop; ours (together) and theirs (alone, by `train_member`) take turns, each timing in
a process of its own after a short training to warm up. Launches are counted by torch's profiler in one step, the making
of its batches included: kernels on a GPU, else operators that compute something (views and allocations left out).
Writes results/benchmarks/together.json.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import child, compared, environment, options

sys.path.insert(0, str(Path(__file__).parents[1]))  # whose helpers make the members

RESULT = Path("results/benchmarks/together.json")
MEMBERS = 9
LAYERS, HIDDEN, RANK = 6, 64, 8
STEPS_PER_EPOCH, EPOCHS = 4, 5

NO_WORK = frozenset(
    f"aten::{name}"
    for name in (
        *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "resize_", "lift_fresh", "set_"),
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "expand", "as_strided", "as_strided_"),
        *("slice", "select", "unsqueeze", "squeeze", "permute", "detach", "detach_", "alias", "unbind", "split"),
        *("chunk", "narrow", "movedim", "unflatten", "flatten", "view_as", "expand_as", "resolve_conj", "resolve_neg"),
        *("item", "_local_scalar_dense", "is_nonzero", "result_type", "_has_compatible_shallow_copy_type", "to"),
    )
)
"""Operators that launch nothing on a GPU."""
LISTS = "aten::_foreach_"
"""Operators over a list of tensors count once: a GPU has kernels for lists, a CPU takes one tensor after another."""


def make_model(folder: Path) -> Path:
    """A folder with the random llama and a tokenizer of bytes."""
    import torch
    from helpers.sweeps import tiny_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def contender(spec: dict[str, Any]) -> dict[str, Any]:
    """Train the members in this process, together or one by one, after a short training to warm up."""
    import torch

    from bench.costs import Meter
    from bench.models.device import compute_device, synchronize

    torch.set_num_threads(1)  # operators of this size gain nothing from more
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        train(members(model, spec, epochs=1), spec["how"])
        trained = members(model, spec, epochs=EPOCHS)
        synchronize(compute_device())
        with Meter() as meter:
            begun = time.perf_counter()
            tokens, losses = train(trained, spec["how"])
            synchronize(compute_device())
            seconds = time.perf_counter() - begun
        return {
            "seconds": seconds,
            "tokens": tokens,
            "losses": losses,
            "launches": launches(model, spec) if spec["count"] else None,
            "peak_bytes": meter.reading.peak_bytes,
        }


def members(model: Path, spec: dict[str, Any], epochs: float) -> list[Any]:
    from helpers.groups import BATCH, members_of
    from helpers.groups import examples_of as draw

    from bench.models.device import compute_device

    members = members_of(
        model,
        spec["method"],
        {"rank": RANK},
        members=MEMBERS,
        examples=lambda seed: draw(seed, STEPS_PER_EPOCH * BATCH),
        epochs=epochs,
    )
    for peer in members:
        peer.member.model.to(compute_device())
    return members


def train(members: list[Any], how: str) -> tuple[int, list[float]]:
    """The tokens of all members, and their last losses."""
    from helpers.groups import train_alone, train_together

    from bench.training.events import Logged, StepDone

    events = (train_together if how == "together" else train_alone)(members, logging_steps=1000)
    tokens = sum(event.tokens for log in events for event in log if isinstance(event, StepDone))
    return tokens, [event.loss for log in events for event in log if isinstance(event, Logged)]


def launches(model: Path, spec: dict[str, Any]) -> float:
    """Of one step after the first, per member."""
    counts = [launched(members(model, spec, epochs=steps / STEPS_PER_EPOCH), spec["how"]) for steps in (1, 2)]
    return round((counts[1] - counts[0]) / MEMBERS, 1)


def launched(members: list[Any], how: str) -> int:
    """In a whole training: kernels on a GPU, else operators."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from bench.models.device import compute_device

    on_gpu = compute_device().type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        train(members, how)
    if on_gpu:
        return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiled.events())
    return sum(is_launch(event) for event in profiled.events())


def is_launch(event: Any) -> bool:
    """Whether an operator does the work of the operators above it, or is one over a list."""

    def works(event: Any) -> bool:
        return event.name.startswith("aten::") and event.name not in NO_WORK

    if event.name.startswith(LISTS):
        return True
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith(LISTS):
            return False
        parent = parent.cpu_parent
    return works(event) and not any(works(part) for part in event.cpu_children)


def rate(results: list[dict[str, Any]]) -> int:
    """Tokens per second, the median of the repeats."""
    return round(statistics.median(result["tokens"] / result["seconds"] for result in results))


def main() -> None:
    given = options(__doc__, {"contender": contender}, RESULT).parse_args()
    comparisons = []
    for method in ("lora", "dora"):
        runs: dict[str, list[dict[str, Any]]] = {"together": [], "alone": []}
        for repeat in range(given.repeats):
            for how, results in runs.items():
                results.append(child(__file__, "contender", {"how": how, "method": method, "count": repeat == 0}))
                print(f"  {how} {method}: {results[-1]['seconds']:.1f} s", flush=True)
        together, alone = runs["together"][0], runs["alone"][0]
        apart = max(abs(a - b) for a, b in zip(together["losses"], alone["losses"], strict=True))
        comparisons.append(
            compared(
                f"{method}_together_vs_alone",
                runs["together"],
                runs["alone"],
                members=MEMBERS,
                tokens=together["tokens"],
                tokens_per_second={how: rate(results) for how, results in runs.items()},
                launches_per_step_and_member={how: results[0]["launches"] for how, results in runs.items()},
                largest_difference_of_a_loss=apart,
            )
        )
    from bench.store.files import write_json

    model = {"layers": LAYERS, "hidden": HIDDEN, "rank": RANK, "steps": STEPS_PER_EPOCH * EPOCHS, "dtype": "float32"}
    write_json(given.out, {"comparisons": comparisons, "model": model, "environment": environment()})
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
