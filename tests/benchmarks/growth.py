"""How the cost of a training grows: tokens/s against rank, against length, and as samples add up.

    python tests/benchmarks/growth.py [--data FOLDER]

SmolLM2-135M-Instruct in what the device computes in natively. Every point but the samples is a process of its own and
begins with a step that is not counted. Rank: LoRA and DoRA, 96 examples of ARC and OpenBookQA. Length: LoRA r=8 on
rows that are all of one length, 4,096 tokens a step, eight of each row supervised. Samples: one training of LoRA r=8
on 8,000 examples of four tasks, its tokens/s after so many of them. Writes results/benchmarks/growth.json, growth.md
and growth.png.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from contenders import BASE, child, environment, options

RESULTS = Path("results/benchmarks")
RANKS = (4, 8, 16, 32, 64)
LENGTHS = (32, 64, 128, 256, 512, 1024)
TOKENS_A_STEP = 4096
SAMPLES = (500, 1000, 2000, 4000, 8000)
TASKS = ["arc_easy", "arc_challenge", "openbookqa", "boolq_closed"]


def measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Train once: a method at a rank, on so many examples, of their own lengths or all of one."""
    from bench import methods
    from bench.data.encoding import encode_all
    from bench.models.load import load_model, load_tokenizer
    from bench.models.locate import find_base
    from bench.planning.build import make_plan
    from bench.progress import ignore_progress
    from bench.store.records import TrainingLogRow
    from bench.sweep.schema import Sweep
    from bench.training.samplers import LengthGroupedSampler
    from bench.training.trainer import train

    tasks = spec.get("tasks", TASKS[:3])
    settings = {"name": "growth", "base_model": {"id": BASE, "dtype": "auto"}, "samples": spec["samples"]}
    settings["methods"] = [{"method": spec["method"], "rank": spec["rank"], "dropout": 0.0, "lr": 5e-4}]
    settings["data"] = {"train": tasks, "dir": spec["data"], "mix": "proportional"}
    settings["training"] = {"batch_size": spec["batch"], "max_length": 1024, "logging_steps": 1}
    settings["evaluation"] = {"limit": 1, "tasks": tasks[:1]}
    plan = make_plan(Sweep.model_validate(settings))
    planned = next(one for one in plan.cells if one.cell.data is not None)
    cell, config = planned.cell, planned.training
    method, base = methods.get(cell.method), find_base(BASE, None)
    tokenizer = load_tokenizer(base)
    examples = plan.data.subset(spec["samples"], 0)
    if spec.get("length"):
        examples = of_one_length(tokenizer, examples, spec["length"], spec["samples"])
    rows = encode_all(tokenizer, examples, config.max_length, append_eos=True)
    model = method.attach(load_model(base, cell.base.dtype, "sdpa"), cell)
    log: list[TrainingLogRow] = []
    with tempfile.TemporaryDirectory() as folder:
        where = (Path(folder), log.append, ignore_progress)
        result = train(model, tokenizer, method, cell, config, examples, *where)
    lengths = [len(row.ids) for row in rows]
    order = list(LengthGroupedSampler(lengths, spec["batch"], cell.seed))
    seen, tokens = [], 0
    for step, line in enumerate(log):
        tokens += sum(lengths[i] for i in order[step * spec["batch"] : (step + 1) * spec["batch"]])
        seen.append({"samples": (step + 1) * spec["batch"], "tokens": tokens, "seconds": line.seconds})
    return {
        "tokens_per_second": round(result.tokens_per_second, 1),
        "peak_mb": round(result.cost.peak_bytes / 1e6) if result.cost.peak_bytes is not None else None,
        "longest": max(lengths),
        "seen": seen,
    }


def of_one_length(tokenizer: Any, examples: list[Any], length: int, count: int) -> list[Any]:
    """Examples of exactly so many tokens, the closing one included: the texts of others end to end, of which the last
    eight tokens are the answer. (Cut tokens may join anew when the text is tokenized again, so what differs is left
    out.)"""
    from bench.data.encoding import encode
    from bench.data.examples import Example

    text = " ".join(one.prompt + one.answer for one in examples)
    ids = tokenizer.encode(text, add_special_tokens=False)
    ids = ids * (1 + 2 * count * length // len(ids))
    made, at = [], 0
    while len(made) < count:
        part = ids[at : at + length - 1]
        at += length // 2 + 1
        one = Example(tokenizer.decode(part[:-8]), tokenizer.decode(part[-8:]))
        if len(encode(tokenizer, one, 2 * length, append_eos=True).ids) == length:
            made.append(one)
    return made


def draw(rows: list[dict[str, Any]]) -> None:
    """Three panels, tokens/s against each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from bench.store.files import writing

    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    axes = {"rank": "rank", "length": "tokens of a row", "samples": "samples so far"}
    for panel, (axis, label) in zip(panels, axes.items(), strict=True):
        mine = [row for row in rows if row["axis"] == axis]
        for name, color, marker in (("lora", "#0072B2", "o"), ("dora", "#D55E00", "s")):
            points = [(row["value"], row["tokens_per_second"]) for row in mine if row["method"] == name]
            if points:
                panel.plot(*zip(*points, strict=True), marker=marker, color=color, label=name)
        panel.set_xscale("log", base=2)
        values = sorted({row["value"] for row in mine})
        panel.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        panel.minorticks_off()
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylim(0, 1.08 * max(row["tokens_per_second"] for row in rows))
    panels[0].set_ylabel("training tokens/s")
    panels[0].legend(frameon=False, loc="lower left")
    with writing(RESULTS / "growth.png") as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    pyplot.close(figure)


def main() -> None:
    given = options(__doc__, {"point": measured}).parse_args()
    rows: list[dict[str, Any]] = []

    def point(axis: str, value: int, method: str, tokens_per_second: float, peak_mb: int | None) -> None:
        rows.append({"axis": axis, "value": value, "method": method, "tokens_per_second": tokens_per_second})
        rows[-1]["peak_mb"] = peak_mb
        print(f"{axis} {value} {method}: {tokens_per_second:,.0f} tokens/s, peak {peak_mb} MB", flush=True)

    def run(**spec: Any) -> dict[str, Any]:
        return child(__file__, "point", {"data": given.data, "rank": 8, "method": "lora", "batch": 16, **spec})

    for method in ("lora", "dora"):
        for rank in RANKS:
            found = run(method=method, rank=rank, samples=96)
            point("rank", rank, method, found["tokens_per_second"], found["peak_mb"])
    for length in LENGTHS:
        batch = TOKENS_A_STEP // length
        found = run(samples=4 * batch, batch=batch, length=length)
        assert found["longest"] == length
        point("length", length, "lora", found["tokens_per_second"], found["peak_mb"])
    found = run(samples=max(SAMPLES), tasks=TASKS)
    first = found["seen"][0]
    for count in SAMPLES:
        at = next(row for row in found["seen"] if row["samples"] >= count)
        rate = (at["tokens"] - first["tokens"]) / (at["seconds"] - first["seconds"])
        point("samples", count, "lora", round(rate, 1), found["peak_mb"])

    from bench.store.files import write_json, write_text

    write_json(RESULTS / "growth.json", {"points": rows, "environment": environment()})
    table = "| against | value | method | tokens/s | peak MB |\n|---|---|---|---|---|\n"
    for row in rows:
        cells = (row["axis"], f"{row['value']:,}", row["method"], f"{row['tokens_per_second']:,.0f}", row["peak_mb"])
        table += f"| {' | '.join(map(str, cells))} |\n"
    write_text(RESULTS / "growth.md", "# How the cost of a training grows\n\n" + table)
    draw(rows)
    print(f"written: {RESULTS}/growth.json, growth.md, growth.png")


if __name__ == "__main__":
    main()
