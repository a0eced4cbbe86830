"""How fast a cell is trained, against the stock Trainer with PEFT on the same examples, weights and machine in one run.

    python tests/benchmarks/training.py [--data FOLDER] [--repeats 3] [--out FILE] [--in-process]

320 examples of ARC and OpenBookQA in equal shares, one epoch, SmolLM2-135M-Instruct, batch 16, rank 8, in what the
harness computes in on this device (bfloat16 where it multiplies it natively, else float32: it is recorded).
Every timing is a process of its own, which trains two steps on other examples to warm up, and then all of them; ours
and theirs take turns. The stock Trainer pads each batch to its longest row and computes the loss where ours does
(labels of the prompt are -100). The bare loop does the same mathematics as ours with nothing around it: the same
batches, the head at supervised positions, autocast, AdamW, clipping and schedule. In float32 the losses of ours are
compared with those of the stock Trainer on the very same batches. Writes results/benchmarks/training.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import BASE, child, compared, environment, options, product_speed

RESULT = Path("results/benchmarks/training.json")
EXAMPLES, BATCH, RANK, RATE = 320, 16, 8, 5e-4


def cell_and_examples(spec: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
    """The planned cell of a contender, its training settings, and its examples."""
    from bench.planning.build import make_plan
    from bench.sweep.schema import Sweep

    entry = {"method": spec["method"], "lr": 1e-4 if spec["method"] == "full" else RATE}
    if spec["method"] != "full":
        entry |= {"rank": RANK, "dropout": 0.0, **spec.get("settings", {})}
    base = {"id": BASE, "dtype": spec.get("dtype", "auto")}
    settings = {"name": "benchmark", "base_model": base, "methods": [entry], "samples": EXAMPLES}
    settings["data"] = {"train": ["arc_easy", "arc_challenge", "openbookqa"], "dir": spec["data"]}
    settings["training"] = {"batch_size": BATCH, **spec.get("training", {})}
    settings["evaluation"] = {"limit": 1}
    plan = make_plan(Sweep.model_validate(settings))
    planned = next(one for one in plan.cells if one.cell.data is not None)
    return planned.cell, planned.training, plan.data.subset(EXAMPLES + 2 * BATCH, 0)


def contender(spec: dict[str, Any]) -> dict[str, Any]:
    """Train once, in this process, after two steps on other examples."""
    import torch
    from transformers import set_seed

    from bench import methods
    from bench.costs import Meter
    from bench.models.load import load_model, load_tokenizer
    from bench.models.locate import find_base

    cell, config, examples = cell_and_examples(spec)
    method, base = methods.get(cell.method), find_base(BASE, None)
    tokenizer = load_tokenizer(base)
    train = {"ours": ours, "trainer": stock, "grouped": stock, "same batches": stock, "bare": bare}[spec["how"]]
    seconds, losses = 0.0, []
    for chosen in (examples[EXAMPLES:], examples[:EXAMPLES]):
        set_seed(0)
        model = method.attach(load_model(base, cell.base.dtype, method_kwargs=method.load_kwargs(cell)), cell)
        with Meter() as meter:
            seconds, losses = train(model, tokenizer, method, cell, config, chosen, spec)
    return {
        "seconds": seconds,
        "losses": losses,
        "peak_bytes": meter.reading.peak_bytes,
        "torch": torch.__version__,
    }


def ours(model: Any, tokenizer: Any, method: Any, cell: Any, config: Any, examples: list[Any], spec: Any) -> Any:
    from bench.progress import ignore_progress
    from bench.store.records import TrainingLogRow
    from bench.training.trainer import train

    rows: list[TrainingLogRow] = []
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        train(model, tokenizer, method, cell, config, examples, Path(folder), rows.append, ignore_progress)
        return time.perf_counter() - begun, [row.loss for row in rows]


def stock(model: Any, tokenizer: Any, method: Any, cell: Any, config: Any, examples: list[Any], spec: Any) -> Any:
    """transformers' Trainer and its own collator, as a user of PEFT writes it; of `same batches`, in our order."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from bench.data.encoding import encode
    from bench.models.device import compute_device
    from bench.training.samplers import LengthGroupedSampler

    rows = []
    for one in examples:
        row = encode(tokenizer, one, config.max_length, append_eos=True)
        labels = [-100] * row.prompt_length + row.ids[row.prompt_length :]
        rows.append({"input_ids": row.ids, "attention_mask": [1] * len(row.ids), "labels": labels})
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=cell.options["lr"],
            warmup_steps=config.warmup_ratio,
            weight_decay=0.0,
            bf16=cell.base.dtype == "bfloat16",
            use_cpu=compute_device().type == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            train_sampling_strategy="group_by_length" if spec["how"] == "grouped" else "random",
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        )
        if spec["how"] == "same batches":
            order = LengthGroupedSampler([len(row["input_ids"]) for row in rows], BATCH, cell.seed)
            trainer._get_train_sampler = lambda *_: order
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    return seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row]


def bare(model: Any, tokenizer: Any, method: Any, cell: Any, config: Any, examples: list[Any], spec: Any) -> Any:
    """The same mathematics as ours, with nothing around it."""
    import math

    import torch
    from torch.nn.functional import cross_entropy
    from transformers import get_linear_schedule_with_warmup

    from bench.data.collator import Collator
    from bench.data.encoding import encode
    from bench.models.device import compute_device
    from bench.models.dtype import computing_in
    from bench.models.hooks import HeadAt, drop_prompt_mask
    from bench.training.samplers import LengthGroupedSampler

    device = compute_device()
    rows = [encode(tokenizer, one, config.max_length, append_eos=True) for one in examples]
    order = list(LengthGroupedSampler([len(row.ids) for row in rows], BATCH, cell.seed))
    collate, steps = Collator(tokenizer.pad_token_id, config.loss), math.ceil(len(rows) / BATCH)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = method.optimizer(model, cell) or torch.optim.AdamW(trained, lr=cell.options["lr"], weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(steps * config.warmup_ratio), steps)
    drop_prompt_mask(model)
    model.train()
    losses = []
    begun = time.perf_counter()
    for at in range(0, len(rows), BATCH):
        made = collate([rows[i] for i in order[at : at + BATCH]])
        batch = {key: one.to(device) for key, one in made.items() if isinstance(one, torch.Tensor)}
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "prompt_mask")}
        head = HeadAt(model, batch["supervised"], inputs["input_ids"].shape[1])
        with head, computing_in(cell.base.dtype, device):
            logits = model(**inputs, use_cache=False).logits
        loss = cross_entropy(logits.float(), batch["targets"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return time.perf_counter() - begun, losses


PARTS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::_scaled_dot_product",),
    "copies and casts": ("aten::copy_", "aten::_to_copy", "aten::cat", "aten::empty", "aten::fill_", "aten::zero"),
    "optimizer and clipping": ("aten::_fused_adam", "Optimizer", "aten::linalg_vector_norm", "aten::_foreach"),
    "norms, activations, additions": ("aten::mul", "aten::add", "aten::silu", "aten::pow", "aten::sum", "aten::mean"),
    "loss": ("aten::_log_softmax", "aten::nll_loss"),
}
"""Operators of torch by what they are for; what is in none is called the rest."""


def where_time_goes(spec: dict[str, Any]) -> dict[str, float]:
    """Shares of the processor's time in a training by ours of four batches, by kind of operator, from torch's profiler
    (which slows small operators down)."""
    from torch.profiler import ProfilerActivity, profile

    from bench import methods
    from bench.models.load import load_model, load_tokenizer
    from bench.models.locate import find_base

    cell, config, examples = cell_and_examples({**spec, "method": "lora"})
    method, base = methods.get(cell.method), find_base(BASE, None)
    tokenizer = load_tokenizer(base)
    model = method.attach(load_model(base, cell.base.dtype, "sdpa"), cell)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        ours(model, tokenizer, method, cell, config, examples[: 4 * BATCH], spec)
    spent = dict.fromkeys((*PARTS, "the rest"), 0.0)
    for event in profiled.key_averages():
        part = next((part for part, names in PARTS.items() if event.key.startswith(names)), "the rest")
        spent[part] += event.self_cpu_time_total
    return {part: round(time / sum(spent.values()), 3) for part, time in spent.items()}


def work(spec: dict[str, Any]) -> dict[str, Any]:
    """Of one training: tokens and matrix products, and the machine's speed at such products."""
    from bench.costs import attended_pairs, count_flops
    from bench.data.encoding import encode
    from bench.models.load import load_config, load_skeleton, load_tokenizer
    from bench.models.locate import find_base
    from bench.training.samplers import LengthGroupedSampler

    cell, config, examples = cell_and_examples({**spec, "method": "lora"})
    base = find_base(BASE, None)
    tokenizer = load_tokenizer(base)
    rows = [encode(tokenizer, one, config.max_length, append_eos=True) for one in examples[:EXAMPLES]]
    order = list(LengthGroupedSampler([len(row.ids) for row in rows], BATCH, cell.seed))
    batches = [[len(rows[i].ids) for i in order[at : at + BATCH]] for at in range(0, len(rows), BATCH)]
    config = load_config(BASE, None)
    tokens = sum(len(row.ids) for row in rows)
    supervised = sum(len(row.ids) - row.prompt_length for row in rows)
    flops = count_flops(cell, load_skeleton(BASE, None), "training")
    return {
        "examples": EXAMPLES,
        "tokens": tokens,
        "tokens_with_padding": sum(max(one) * len(one) for one in batches),
        "supervised_tokens": supervised,
        "lora_flops": flops.total(tokens, len(rows), supervised, attended_pairs(len(row.ids) for row in rows)),
        "dtype": cell.base.dtype,
        "matrix_product_peak_flops_per_second": max(
            product_speed(1024, config.hidden_size, n, cell.base.dtype) for n in (576, 1536)
        ),
    }


def main() -> None:
    roles = {"contender": contender, "work": work, "profile": where_time_goes}
    given = options(__doc__, roles, RESULT).parse_args()

    def run(how: str, method: str, **more: Any) -> dict[str, Any]:
        found = child(__file__, "contender", {"how": how, "method": method, "data": given.data, **more})
        print(f"  {how} {method}: {found['seconds']:.1f} s, last loss {found['losses'][-1]:.2f}", flush=True)
        return found

    machine = child(__file__, "work", {"data": given.data})
    comparisons = []
    peft_norm = {"settings": {"norm": "peft"}}
    for method, rivals in (
        ("lora", {"trainer": "lora_vs_trainer", "grouped": "lora_vs_trainer_grouped", "bare": "lora_vs_bare_loop"}),
        ("dora", {"trainer": "dora_vs_trainer"}),
        ("full", {"trainer": "full_vs_trainer"}),
    ):
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(given.repeats):
            for how in ("ours", *rivals):
                stock_dora = how != "ours" and method == "dora"
                runs.setdefault(how, []).append(run(how, method, **(peft_norm if stock_dora else {})))
        comparisons += [compared(name, runs["ours"], runs[how]) for how, name in rivals.items()]
    flops = machine["lora_flops"] / comparisons[0]["ours_s"]
    machine["share_of_peak"] = round(flops / machine["matrix_product_peak_flops_per_second"], 3)
    machine["where_time_goes"] = child(__file__, "profile", {"data": given.data})
    exact = [run(how, "lora", dtype="float32", training={"logging_steps": 1}) for how in ("ours", "same batches")]
    apart = max(abs(a - b) for a, b in zip(exact[0]["losses"], exact[1]["losses"], strict=True))
    agreement = {"steps": len(exact[0]["losses"]), "dtype": "float32", "largest_difference_of_a_loss": apart}
    print(f"losses on identical batches in float32: {agreement['steps']} steps, at most {apart:.1e} apart")
    from bench.store.files import write_json

    content = {"comparisons": comparisons, "losses_on_identical_batches": agreement, "work": machine}
    write_json(given.out, {**content, "environment": environment()})
    print(f"written: {given.out}; {machine['share_of_peak']:.0%} of the machine's matrix-product speed")
    for part, share in sorted(machine["where_time_goes"].items(), key=lambda one: -one[1]):
        print(f"  {share:.0%} {part}")


if __name__ == "__main__":
    main()
