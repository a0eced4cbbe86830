"""The command line: parses and calls, nothing else. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import bench
from bench.errors import UserError

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Compare parameter-efficient fine-tuning methods on one base model.\n\n"
    "A sweep file names a base model, methods with their ranks, sample counts and seeds; "
    "[bold]bench run[/bold] trains and scores each combination and writes a report.",
    epilog="Examples:  bench plan configs/quickstart.yaml  |  bench run configs/quickstart.yaml  |  "
    "bench report results/quickstart",
)

Config = Annotated[Path, typer.Argument(help="A sweep file (YAML).", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, e.g. --set training.epochs=2 (repeatable).", metavar="KEY=VALUE"),
]
Into = Annotated[Path, typer.Option("--results", help="Folder of results; the sweep gets its own inside.")]

DONE, SOME_FAILED, MEND, STOPPED = 0, 1, 2, 130


def _mendable(command: Callable[..., Any]) -> Callable[..., Any]:
    """A user's error is printed without a traceback and exits with code 2; Ctrl-C with 130."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(MEND) from None
        except KeyboardInterrupt:
            print("\nstopped; what was whole is kept, and the same command goes on", file=sys.stderr)
            raise typer.Exit(STOPPED) from None

    return wrapped


def _version(asked: bool) -> None:
    if asked:
        print(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example:  bench plan configs/quickstart.yaml --set 'seeds=[0,1,2]'")
@_mendable
def plan(
    config: Config,
    set: Set = None,
    results: Into = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the cells of a sweep and their state; check every one; start nothing."""
    from bench.plan import make_plan, state
    from bench.store import Results
    from bench.sweep import load_sweep

    planned = make_plan(load_sweep(config, tuple(set or ())))
    folder = Results(results / planned.sweep.name)
    sizes = {one.cell.base: one.total for one in planned.cells if one.cell.method == "base"}
    cells = [
        {
            "id": one.cell.id,
            "name": one.cell.name,
            "state": state(one, folder),
            "base": one.cell.base.id,
            "method": one.cell.method,
            "rank": one.cell.rank,
            "samples": one.cell.samples,
            "seed": one.cell.seed,
            "trainable": one.trainable,
            "percent_of_base": round(100 * one.trainable / sizes[one.cell.base], 4),
            "lr": one.cell.options.get("lr"),
        }
        for one in planned.cells
    ]
    if as_json:
        print(json.dumps({"cells": cells}, indent=2))
        return
    rows = [["cell", "id", "state", "trainable", "% of base", "lr"]]
    for cell in cells:
        trainable = f"{cell['trainable']:,}" if cell["trainable"] else "-"
        share = f"{cell['percent_of_base']:.3f}" if cell["trainable"] else "-"
        lr = f"{cell['lr']:g}" if cell["lr"] else "-"
        rows.append([cell["name"], cell["id"], cell["state"], trainable, share, lr])
    # Plain lines: a table of rich's takes half a millisecond a row, and a sweep has thousands.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    print(f"{planned.sweep.name}: {len(cells):,} cells", "", *lines, "", sep="\n")
    for base, choice in planned.dtypes.items():
        print(f"{base}: computes in {choice.value} ({choice.reason})")
    data = planned.data
    for name, pool in data.pools.items():
        overlap = data.overlap[name]
        print(
            f"{name}: {len(pool):,} training rows ({overlap.removed} removed that stand in a test or development "
            f"set), {len(data.development[name])} for development"
        )
    questions = ", ".join(f"{task} {len(rows)}" for task, rows in data.questions.items())
    print(f"questions: {questions}")


@app.command(epilog="Example:  bench run configs/quickstart.yaml --set training.epochs=2")
@_mendable
def run(
    config: Config,
    set: Set = None,
    results: Into = Path("results"),
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
) -> None:
    """Run what is missing of a sweep, then write its report. The same command goes on after a stop.

    Exit code 0: all done; 1: some cells failed (the report says which and why); 2: something must be mended.
    """
    from bench.plan import make_plan
    from bench.report import write_report
    from bench.runner import run_sweep
    from bench.runner.progress import Progress
    from bench.store import Results
    from bench.sweep import load_sweep

    planned = make_plan(load_sweep(config, tuple(set or ())))
    folder = Results(results / planned.sweep.name)
    with Progress() as progress:
        for base, choice in planned.dtypes.items():
            progress.line(f"{base}: computes in {choice.value} ({choice.reason})")
        outcome = run_sweep(planned, folder, progress, retry_failed)
    print(f"report: {write_report(folder)}")
    if outcome.failed:
        print(
            f"{outcome.failed} of {outcome.done + outcome.failed} cells failed; the report says why",
            file=sys.stderr,
        )
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example:  bench evaluate results/quickstart --tasks world_three,lm_eval:hellaswag")
@_mendable
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A sweep's results folder.", show_default=False)],
    tasks: Annotated[str, typer.Option(help="Tasks to add, with commas between; default: those of the sweep.")] = "",
    protocol: Annotated[str, typer.Option(help="Protocols to add, with commas between.")] = "",
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on without the cells that did not keep their adapters.")
    ] = False,
    set: Set = None,
) -> None:
    """Score the trained cells of a results folder on more tasks, or by more protocols, without training.

    The sweep.yaml in the folder is brought up to date, and so is the report. Exit codes as those of `bench run`.
    """
    from bench.report import write_report
    from bench.runner import run_sweep
    from bench.runner.evaluate import extended
    from bench.runner.progress import Progress
    from bench.store import Results

    results = Results(folder)
    planned = extended(results, _listed(tasks), _listed(protocol), tuple(set or ()), skip_lost)
    with Progress() as progress:
        outcome = run_sweep(planned, results, progress, train=False)
    print(f"report: {write_report(results)}")
    if outcome.failed:
        print(f"{outcome.failed} of {outcome.done + outcome.failed} cells lack scores", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command(epilog="Example:  bench report results/quickstart")
@_mendable
def report(
    folder: Annotated[Path, typer.Argument(help="A sweep's results folder.", show_default=False)],
) -> None:
    """Write the report of a results folder anew, from its recorded cells."""
    from bench.report import write_report
    from bench.store import Results

    print(f"report: {write_report(Results(folder))}")


@app.command(epilog="Example:  bench methods --base huggyllama/llama-7b --rank 16")
@_mendable
def methods(
    base: Annotated[
        str | None, typer.Option(help="Count each method's parameters on this base model; no weights are needed.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="At this rank, where a method has one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods: what rank means, what merges or is quantized, default learning rates, sources.

    With --base, also how many parameters each trains."""
    from bench.methods.registry import listing

    if rank is not None and base is None:
        raise UserError("--rank counts parameters, which needs a base", "For example --base huggyllama/llama-7b.")
    rows = listing(base, rank)
    if as_json:
        print(json.dumps({"methods": rows}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Whole lines where no terminal sets a width.
    console = Console() if sys.stdout.isatty() else Console(width=220)
    counted = ["rank", "trainable", "% of base"] if base else []
    wide = console.width >= 140
    heads = [
        "method",
        "what it trains",
        "rank is",
        "merges",
        "quantized",
        "lr",
        *counted,
        *(["source"] if wide else []),
    ]
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        cells = [row["rank_here"], row["trainable"], row["percent_of_base"]] if base else []
        shown = ["-" if one is None else f"{one:,}" if isinstance(one, int) else f"{one:.4f}" for one in cells]
        if row.get("problem"):
            shown[1] = row["problem"]
        table.add_row(
            row["method"],
            row["summary"],
            row["rank"] or "-",
            "yes" if row["merges"] else "no",
            "yes" if row["quantized"] else "no",
            f"{row['lr']:g}" if row["lr"] else "-",
            *shown,
            row["source"],
        )
    console.print(table)


if __name__ == "__main__":
    app()
