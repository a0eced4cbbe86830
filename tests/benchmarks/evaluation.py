"""How fast questions are scored, against lm-eval's HFLM on the same questions, weights and machine in one run.

    python tests/benchmarks/evaluation.py [--data FOLDER] [--repeats 3] [--out FILE] [--batches 64 128]

400 questions of ARC-Easy and OpenBookQA, SmolLM2-135M-Instruct in bfloat16. HFLM has its cache off (it answers
wrongly) and the best of five batch sizes. Every timing is a process of its own, which loads the model, scores a few
questions to warm up, and then scores all of them; ours and theirs take turns. Memory is the process's peak while it
scores, weights and all. Writes results/benchmarks/evaluation.json.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contenders import BASE, child, compared, environment, options, product_speed

RESULT = Path("results/benchmarks/evaluation.json")
BATCHES = (1, 8, 16, 32, 64)
QUESTIONS = 200
"""Of each task."""
RANK = 16


def requests_of(data_dir: str | None) -> list[Any]:
    """The benchmark's requests, as lm-eval makes them of a task."""
    from lm_eval.api.instance import Instance

    from bench.data.prepare import prepare_data
    from bench.sweep.schema import Sweep

    settings = {"name": "benchmark", "base_model": BASE, "methods": ["lora"], "samples": 1}
    settings |= {"data": {"train": ["arc_easy", "openbookqa"], "dir": data_dir}, "evaluation": {"limit": QUESTIONS}}
    data = prepare_data(Sweep.model_validate(settings))
    return [
        Instance("loglikelihood", {}, pair, number, metadata=(task, doc, 1))
        for task in data.questions
        for doc, (_, rendered) in enumerate(data.rendered(task))
        for number, pair in enumerate(zip(rendered.contexts, rendered.continuations, strict=True))
    ]


def dora_cell() -> Any:
    """A DoRA cell with PEFT's own weight norm, as a user of HFLM would load it."""
    from bench import methods
    from bench.models.load import load_skeleton
    from bench.sweep.cell import BaseIdentity, Cell

    skeleton = load_skeleton(BASE, None)
    options = methods.get("dora").resolve({"rank": RANK, "lr": 1e-3, "norm": "peft"}, skeleton)
    base = BaseIdentity(id=BASE, revision="", dtype="bfloat16")
    return Cell(base=base, method="dora", method_version="1", options=options, samples=1, seed=0)


def model_of(weights: str, adapter: Path) -> Any:
    """The base, or a DoRA adapter on it, merged (by the harness: in float32, rounded once) or not."""
    import torch

    from bench import methods
    from bench.models.load import load_model
    from bench.models.locate import find_base

    model = load_model(find_base(BASE, None), "bfloat16", "sdpa").eval()
    if weights == "base":
        return model
    method = methods.get("dora")
    model = method.load(model, adapter, dora_cell()).eval()
    return model if weights == "unmerged" else method.merge(model.float()).eval().to(torch.bfloat16)


def make_adapter(spec: dict[str, Any]) -> None:
    """A DoRA adapter with random weights of a trained one's size: an untrained one would change nothing."""
    import torch

    from bench import methods
    from bench.models.load import load_model
    from bench.models.locate import find_base

    torch.manual_seed(0)
    method = methods.get("dora")
    model = load_model(find_base(BASE, None), "bfloat16", "sdpa")
    model = method.attach(model, dora_cell())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.01)
    folder = Path(spec["adapter"])
    folder.mkdir()
    method.save(model, folder)


def contender(spec: dict[str, Any]) -> dict[str, Any]:
    """Score all requests once, in this process."""
    import torch

    from bench.costs import Meter
    from bench.models.load import load_tokenizer
    from bench.models.locate import find_base

    requests = requests_of(spec["data"])
    model = model_of(spec["weights"], Path(spec["adapter"]))
    tokenizer = load_tokenizer(find_base(BASE, None))
    if "threads" in spec:
        torch.set_num_threads(spec["threads"])
    if spec.get("compile"):
        torch._dynamo.config.cache_size_limit = 64
        model.model.forward = torch.compile(model.model.forward, dynamic=True)
    if spec["harness"] == "hflm":
        from lm_eval.models.huggingface import HFLM

        model.tie_weights = lambda: None
        lm = HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=spec["batch"],
            logits_cache=False,
        )
    else:
        from bench.evaluation.prefix_sharing_lm import LanguageModel

        lm = LanguageModel(model, tokenizer, None, spec.get("share", "any"))
        lm.limit.tokens = spec.get("batch_tokens", lm.limit.tokens)
    begun = time.perf_counter()
    lm.loglikelihood(requests[:32], disable_tqdm=True)
    warm = time.perf_counter() - begun
    if hasattr(lm, "checked"):
        lm.sharing_check = None  # the check of a model's first questions is part of what is timed
    with Meter() as meter:
        answers = lm.loglikelihood(requests, disable_tqdm=True)
    return {
        "seconds": meter.reading.seconds,
        "warm_up_seconds": warm,
        "peak_bytes": meter.reading.peak_bytes,
        "answers": [score for score, _ in answers],
    }


def work(spec: dict[str, Any]) -> dict[str, Any]:
    """Of one scoring of all requests: tokens and products, and the machine's speed at such products."""
    import torch

    from bench.data.encoding import encode_pair
    from bench.evaluation.prefix_tree import Continuation, pack_rows
    from bench.models.device import compute_device
    from bench.models.load import load_config, load_model, load_tokenizer
    from bench.models.locate import find_base

    requests = requests_of(spec["data"])
    tokenizer = load_tokenizer(find_base(BASE, None))
    continuations = [Continuation(*encode_pair(tokenizer, *one.args)) for one in requests]
    trees = pack_rows(continuations, [(one.task_name, one.doc_id) for one in requests], 8192)
    config = load_config(BASE, None)
    model = load_model(find_base(BASE, None), "bfloat16", "sdpa")
    head = config.hidden_size * config.vocab_size
    body = sum(one.numel() for one in model.model.layers.parameters() if one.dim() == 2)
    at_head = sum(len({token for _, path in row.paths for token in path}) for row in trees)
    tokens = sum(map(len, trees))
    return {
        "questions": 2 * QUESTIONS,
        "requests": len(requests),
        "tokens_of_whole_texts": sum(len(one.inputs) for one in continuations),
        "tokens_needed": tokens,
        "tokens_processed": processed(list(map(len, trees)), compute_device().type),
        "tokens_through_the_head": at_head,
        "matrix_product_flops": 2 * (body * tokens + head * at_head),
        "matrix_product_peak_flops_per_second": max(product_speed(1024, config.hidden_size, n) for n in (576, 1536)),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if compute_device().type == "cuda" else "cpu",
    }


def processed(lengths: list[int], device: str) -> int:
    """Tokens of the batches that rows of these lengths, the longest first, are packed into, padding among them."""
    from bench.evaluation.batch_limit import BATCH_TOKENS

    tokens = 0
    while lengths:
        batch = lengths[: max(1, BATCH_TOKENS[device] // lengths[0])]
        tokens += batch[0] * len(batch)
        lengths = lengths[len(batch) :]
    return tokens


class Runs:
    """Contenders in processes of their own."""

    def __init__(self, data: str | None, adapter: Path, batches: Sequence[int]) -> None:
        self.batches = batches
        self.common = {"data": data, "adapter": str(adapter)}

    def __call__(self, harness: str, weights: str, **settings: Any) -> dict[str, Any]:
        spec = {"harness": harness, "weights": weights, **settings, **self.common}
        found = child(__file__, "contender", spec)
        shown = ", ".join(f"{key} {value}" for key, value in settings.items())
        print(f"  {harness} {weights} {shown}: {found['seconds']:.1f} s", flush=True)
        return found

    def best_batch(self, weights: str) -> tuple[int, dict[int, float]]:
        """HFLM's fastest batch size, one run of each."""
        seconds = {batch: self("hflm", weights, batch=batch)["seconds"] for batch in self.batches}
        return min(seconds, key=seconds.__getitem__), seconds


def others_tried(run: Runs) -> Iterator[tuple[str, dict[str, Any]]]:
    """What might have made ours faster, or shows what makes it fast."""
    for tokens in (256, 512, 2048, 4096):
        yield f"{tokens} tokens a batch", run("ours", "base", batch_tokens=tokens)
    yield "one thread", run("ours", "base", threads=1)
    yield "torch.compile, dynamic shapes", run("ours", "base", compile=True)
    yield "no shared prefixes", run("ours", "base", share="none")


def main() -> None:
    parser = options(__doc__, {"contender": contender, "work": work, "adapter": make_adapter}, RESULT)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="HFLM's, of which the best counts")
    parser.add_argument("--no-trials", action="store_true", help="leave out what else was tried for ours")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        child(__file__, "adapter", {"adapter": str(adapter)})
        run, machine = Runs(given.data, adapter, given.batches), child(__file__, "work", {"data": given.data})
        batch, by_batch = run.best_batch("base")
        slow, by_batch_unmerged = run.best_batch("unmerged")
        comparisons = []
        for name, ours, theirs, size, note in (
            ("base_vs_hflm_best", "base", "base", batch, "equal work"),
            ("dora_merged_vs_hflm_merged", "merged", "merged", batch, "equal work"),
            ("dora_merged_vs_hflm_unmerged", "merged", "unmerged", slow, "defaults compared: ours merges first"),
        ):
            mine, others = [], []
            for _ in range(given.repeats):
                mine.append(run("ours", ours))
                others.append(run("hflm", theirs, batch=size))
            apart = [abs(a - b) for a, b in zip(mine[0]["answers"], others[0]["answers"], strict=True)]
            more = {"mean_difference_of_a_loglikelihood": round(statistics.mean(apart), 4)}
            comparisons.append(compared(name, mine, others, **more, hflm_batch=size, note=note))
        tried = [
            {"what": what, "seconds": round(found["seconds"], 2), "warm_up_s": round(found["warm_up_seconds"], 2)}
            for what, found in (() if given.no_trials else others_tried(run))
        ]
    flops = machine["matrix_product_flops"] / comparisons[0]["ours_s"]
    machine["share_of_peak"] = round(flops / machine["matrix_product_peak_flops_per_second"], 3)
    content = {
        "comparisons": comparisons,
        "hflm_seconds_by_batch": {"base": by_batch, "dora_unmerged": by_batch_unmerged},
        "tried": tried,
        "work": machine,
        "environment": environment(),
    }
    from bench.store.files import write_json

    write_json(given.out, content)
    print(f"written: {given.out}; {machine['share_of_peak']:.0%} of the machine's matrix-product speed")


if __name__ == "__main__":
    main()
