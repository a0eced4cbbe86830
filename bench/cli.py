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
from bench.environment import quiet_process
from bench.errors import UserError, unknown

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
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that run cells; default: one per device. 0: this process, to debug."),
]
Into = Annotated[Path, typer.Option("--results", help="Folder of results; the sweep gets its own inside.")]

DONE, SOME_FAILED, NEEDS_FIX, STOPPED = 0, 1, 2, 130


def _exits_on_user_error(command: Callable[..., Any]) -> Callable[..., Any]:
    """A user's error is printed without a traceback and exits with code 2; Ctrl-C with 130."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(NEEDS_FIX) from None
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
    quiet_process()


@app.command(
    epilog="Examples:  bench plan configs/quickstart.yaml --set 'seeds=[0,1,2]'  |  bench plan FILE --calibrate"
)
@_exits_on_user_error
def plan(
    config: Config,
    set: Set = None,
    results: Into = Path("results"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Run a few steps of every setting first, and estimate from these.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Reckon for another device, by its data sheet's speed at half precision (A100: 312; H100: 989).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the cells of a sweep, their state and what they will take; check every one; start nothing.

    Where the data of a hub cannot be had, the plan is made with placeholders of their number and length, and says so.
    """
    from dataclasses import asdict

    from bench.errors import OutOfReach
    from bench.planning.build import make_plan
    from bench.planning.display import format_plan, list_plan
    from bench.store.folder import Results
    from bench.sweep.load import load_sweep

    if calibrate and tflops is not None:
        raise UserError("--calibrate measures this device, and --tflops is of another", "Give one of them.")
    sweep = load_sweep(config, tuple(set or ()))
    try:
        planned = make_plan(sweep, elsewhere=tflops is not None)
    except OutOfReach as error:
        if calibrate:
            raise
        print(f"{error.problem}; planned with placeholders", file=sys.stderr)
        planned = make_plan(sweep, use_placeholders=True, elsewhere=tflops is not None)
    folder = Results(results / planned.sweep.name)
    if calibrate:
        from bench.progress import Progress
        from bench.runner.calibrate import calibrate as run_calibration

        with Progress() as progress:
            run_calibration(planned, folder, progress)
    listing = list_plan(planned, folder, tflops)
    if as_json:
        print(json.dumps(asdict(listing), indent=2))
    else:
        print(*format_plan(planned, listing), sep="\n")


@app.command(
    epilog="Examples:  bench run configs/quickstart.yaml --set training.epochs=2  |  "
    "bench run FILE --until 07:00  |  bench run FILE --only 'dora-r16*' --retry-failed"
)
@_exits_on_user_error
def run(
    config: Config,
    set: Set = None,
    results: Into = Path("results"),
    workers: Workers = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run on a Ray cluster: auto (the one here), local (a new one) or host:port.", metavar="ADDRESS"
        ),
    ] = None,
    cpus_per_cell: Annotated[float, typer.Option(min=0, help="CPUs of the cluster that one cell takes.")] = 1.0,
    gpus_per_cell: Annotated[float, typer.Option(min=0, help="GPUs of it (0.5: two cells share one).")] = 0.0,
    max_hours: Annotated[float | None, typer.Option(min=0, help="How long the run may take.")] = None,
    until: Annotated[str | None, typer.Option(help="When it must have ended, e.g. 07:00.", metavar="HH:MM")] = None,
    only: Annotated[str | None, typer.Option(help="Only the cells whose names fit, e.g. 'dora-r16*'.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first cell that fails.")] = False,
    notify: Annotated[
        str | None, typer.Option(help="POST JSON there when a cell fails and when the run has ended.", metavar="URL")
    ] = None,
) -> None:
    """Run what is missing of a sweep, and keep its report up to date. The same command goes on after a stop.

    Exit code 0: all done; 1: some cells failed (the report says which and why); 2: configuration or environment error.
    """
    from dataclasses import replace

    from bench.runner.forkserver import start_forkserver

    if workers != 0 and ray is None:
        start_forkserver()  # while the plan is made
    from bench.api import run_plan
    from bench.planning.build import make_plan
    from bench.runner.options import RunOptions, seconds_left
    from bench.runner.webhook import check_url
    from bench.store.folder import Results
    from bench.sweep.load import load_sweep

    if notify is not None:
        check_url(notify)
    options = RunOptions(
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        only=only,
        workers=workers,
        ray=ray,
        cpus_per_cell=cpus_per_cell,
        gpus_per_cell=gpus_per_cell,
        notify=notify,
    )
    seconds_left(max_hours, until)  # what is no time is said before the plan is made
    planned = make_plan(load_sweep(config, tuple(set or ())))
    options = replace(options, seconds=seconds_left(max_hours, until))
    folder = Results(results / planned.sweep.name)
    outcome = run_plan(planned, folder, options)
    print(f"report: {folder.report / 'report.html'}")
    if outcome.left:
        print(f"{outcome.left} of {len(planned.cells)} cells are left; the same command goes on", file=sys.stderr)
    if outcome.failed:
        print(f"{outcome.failed} of {len(planned.cells)} cells failed; the report says why", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example:  bench evaluate results/quickstart --tasks world_three,lm_eval:hellaswag")
@_exits_on_user_error
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A sweep's results folder.", show_default=False)],
    tasks: Annotated[str, typer.Option(help="Tasks to add, with commas between; default: those of the sweep.")] = "",
    protocol: Annotated[str, typer.Option(help="Protocols to add, with commas between.")] = "",
    answers: Annotated[
        str, typer.Option(help="Sets of open questions to answer, with commas between, e.g. mt_bench.")
    ] = "",
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on without the cells that did not keep their adapters.")
    ] = False,
    workers: Workers = None,
    set: Set = None,
) -> None:
    """Score the trained cells of a results folder on more tasks, or by more protocols, without training.

    The sweep.yaml in the folder is brought up to date, and so is the report. Exit codes as those of `bench run`.
    """
    from bench.progress import Progress
    from bench.report import write_report
    from bench.runner.add_evaluations import add_evaluations
    from bench.runner.options import RunOptions
    from bench.runner.run_sweep import run_sweep
    from bench.store.folder import Results

    results = Results(folder)
    planned = add_evaluations(results, _listed(tasks), _listed(protocol), _listed(answers), tuple(set or ()), skip_lost)
    with Progress() as progress:
        options = RunOptions(train=False, workers=workers)
        outcome = run_sweep(planned, results, progress, options, refresh=lambda: write_report(results))
    print(f"report: {write_report(results)}")
    if lacking := outcome.failed + outcome.left:
        print(f"{lacking} of {outcome.done + lacking} cells lack scores", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command(
    epilog="Examples:  bench judge results/chat --judge openai --model gpt-4o --check  |  "
    "bench judge results/chat --judge openai --model my-judge --base-url http://localhost:8000/v1 --pairwise baseline"
)
@_exits_on_user_error
def judge(
    folder: Annotated[Path, typer.Argument(help="A sweep's results folder.", show_default=False)],
    judge: Annotated[
        str, typer.Option(help="reference (offline likeness to reference answers) or openai (any such endpoint).")
    ] = "reference",
    model: Annotated[str | None, typer.Option(help="The judging model, as its server names it.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="The endpoint's address; default: OpenAI's.", metavar="URL")
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the key; it is stored nowhere. Default: OPENAI_API_KEY for OpenAI's "
            "own endpoint, and no key for any other.",
            metavar="NAME",
        ),
    ] = None,
    sets: Annotated[str, typer.Option(help="Sets of questions, with commas between; default: all.")] = "",
    cells: Annotated[str, typer.Option(help="Only the cells whose names fit, e.g. 'dora-*-n4000-*'.")] = "*",
    repeats: Annotated[int, typer.Option(min=1, help="Judgments of each answer.")] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Also see whether the judge tells gold answers from others, and its noise.")
    ] = False,
    pairwise: Annotated[
        str, typer.Option(help="Also compare two at a time: none, baseline (each with the baseline) or all.")
    ] = "none",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a judgment at most.")] = 2048,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")] = 120.0,
    price_in: Annotated[float | None, typer.Option(min=0, help="Dollars for a million tokens of prompts.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Dollars for a million tokens of judgments.")] = None,
    spending_limit: Annotated[
        float | None, typer.Option(min=0, help="Dollars that this command may spend (needs both prices).")
    ] = None,
) -> None:
    """Have the open answers of a results folder judged, without the models; the same command goes on after a stop.

    What is judged already is not judged again, and every judgment is kept with its raw text as it comes. Another judge
    or another model of one adds its scores beside the others'. Exit code 1: some judgments could not be had.
    """
    from dataclasses import replace

    from bench.judging.endpoint import Endpoint
    from bench.judging.judge_folder import JudgingOptions, judge_folder
    from bench.judging.judges import EndpointJudge, SimilarityJudge
    from bench.progress import Progress
    from bench.report import write_report
    from bench.store.folder import Results

    if judge not in ("reference", "openai"):
        raise unknown("judge", judge, ("reference", "openai"))
    if pairwise not in ("none", "baseline", "all"):
        raise unknown("--pairwise", pairwise, ("none", "baseline", "all"))
    if judge == "openai" and model is None:
        raise UserError("--judge openai needs the name of a model", "For example --model gpt-4o.")
    if spending_limit is not None and None in (price_in, price_out):
        raise UserError("--spending-limit needs both prices", "Give --price-in and --price-out, dollars a million.")
    endpoint = Endpoint(
        model=model or "",
        base_url=base_url,
        key_variable=key_variable,
        max_tokens=max_tokens,
        concurrency=concurrency,
        timeout=timeout,
        price_in=price_in,
        price_out=price_out,
        spending_limit=spending_limit,
    )
    if key_variable is None and endpoint.is_openai:  # another server is sent no key that was not named for it
        endpoint = replace(endpoint, key_variable="OPENAI_API_KEY")
    results = Results(folder)
    options = JudgingOptions(cells=cells, sets=_listed(sets), repeats=repeats, check=check, pairs=pairwise)
    with Progress() as progress:
        found = judge_folder(
            results, EndpointJudge(endpoint) if judge == "openai" else SimilarityJudge(), options, progress
        )
    print(*found.lines(), sep="\n")
    print(f"report: {write_report(results)}")
    if found.failed:
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog="Examples:  bench report results/quickstart  |  bench report results/quickstart --watch  |  "
    "bench report before/quickstart results/quickstart --compare"
)
@_exits_on_user_error
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A sweep's results folder; two with --compare.", show_default=False)
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Say what changed from the first folder to the second beyond noise.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write it again whenever a cell ends, until Ctrl-C; the page reloads itself."),
    ] = False,
) -> None:
    """Write the report of a results folder anew, from its recorded cells."""
    from bench.report import watch as keep_writing
    from bench.report import write_comparison, write_report
    from bench.store.folder import Results

    if len(folders) != (2 if compare else 1):
        raise UserError(
            f"{len(folders)} folders and {'--compare' if compare else 'no --compare'}",
            "Give one folder, or two with --compare: bench report results/before results/after --compare",
        )
    if compare and watch:
        raise UserError("--watch follows one sweep, --compare sets two side by side", "Leave one of them out")
    found = [Results(folder) for folder in folders]
    if watch:
        keep_writing(found[0], lambda page: print(f"report: {page}", flush=True))
    else:
        print(f"report: {write_comparison(*found) if compare else write_report(*found)}")


@app.command(epilog="Example:  bench export results/quickstart/cells/dora-r16-n1000-s0-1a2b3c4d --to dora-r16 --merged")
@_exits_on_user_error
def export(
    cell: Annotated[Path, typer.Argument(help="A cell's folder in results/<sweep>/cells/.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The folder to write; default: exports/<the cell's name>.")] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="The whole model with the adapter folded in, instead of the adapter.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Where the base model is, if the cell knows it by a folder's name alone.")
    ] = None,
    push: Annotated[str | None, typer.Option(help="Upload to this hub repository as well.", metavar="REPO")] = None,
) -> None:
    """Write a trained cell as an adapter that PEFT loads, or as a merged model, with a model card."""
    from bench.export import export as write
    from bench.export import push as upload
    from bench.store.folder import CellFolder

    written = write(CellFolder(cell), to or Path("exports") / cell.name, merged, base)
    print(f"exported: {written}")
    if push is not None:
        print(f"pushed: {upload(written, push)}")


@app.command(epilog="Examples:  bench pack results/quickstart  |  bench pack results/one results/other")
@_exits_on_user_error
def pack(
    folders: Annotated[list[Path], typer.Argument(help="Sweeps' results folders.", show_default=False)],
) -> None:
    """Turn the many small files of a results folder's cells into two, for git or for moving them.

    All other commands read packed and loose cells alike, and new cells are written beside the pack. Pack again to add
    them. Adapters, logs and the report stay as they are. A cell with a corrupt file stays loose: exit code 1.
    """
    from bench.store.folder import Results
    from bench.store.pack import pack as write_pack

    left = 0
    for folder in folders:
        packed = write_pack(Results(folder))
        left += len(packed.left)
        print(
            f"{folder}: {packed.added} cells packed; the pack holds {packed.files:,} files of {packed.cells} cells "
            f"({packed.size / 1e6:.1f} MB)"
        )
        for cell, reason in packed.left.items():
            print(f"{cell} stays loose: {reason}", file=sys.stderr)
    if left:
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example:  bench unpack results/quickstart")
@_exits_on_user_error
def unpack(
    folders: Annotated[list[Path], typer.Argument(help="Sweeps' results folders.", show_default=False)],
) -> None:
    """Write the files of packed cells again, each into its cell's folder, and remove the pack."""
    from bench.store.folder import Results
    from bench.store.pack import unpack as write_files

    for folder in folders:
        print(f"{folder}: {write_files(Results(folder))} cells unpacked")


@app.command(epilog="Example:  bench methods --base huggyllama/llama-7b --rank 16")
@_exits_on_user_error
def methods(
    base: Annotated[
        str | None, typer.Option(help="Count each method's parameters on this base model; no weights are needed.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="At this rank, where a method has one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods: what rank means, what merges or is quantized, default learning rates, sources.

    With --base, also how many parameters each trains."""
    from bench.methods.listing import method_rows, print_rows

    if rank is not None and base is None:
        raise UserError("--rank counts parameters, which needs a base", "For example --base huggyllama/llama-7b.")
    rows = method_rows(base, rank)
    if as_json:
        print(json.dumps({"methods": [row.as_json() for row in rows]}, indent=2))
    else:
        print_rows(rows)


if __name__ == "__main__":
    app()
