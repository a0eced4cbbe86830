"""Commands on finished results and on methods: `bench report`, `export`, `pack`, `unpack`, `methods`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import SOME_FAILED, AllowCode, AsJson, ResultsFolders, app, examples, exits_on_user_error
from bench.errors import UserError


@app.command(
    "report",
    epilog=examples(
        "bench report results/quickstart",
        "bench report results/quickstart --watch",
        "bench report before/quickstart results/quickstart --compare",
    ),
)
@exits_on_user_error
def report_command(
    folders: Annotated[
        list[Path], typer.Argument(help="A sweep's results folder; two with --compare.", show_default=False)
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Report what changed from the first folder to the second beyond noise.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Rewrite the report whenever a cell ends, until Ctrl-C; the page reloads.")
    ] = False,
) -> None:
    """Write the report of a results folder from its recorded cells."""
    from bench.report import watch as keep_writing
    from bench.report import write_comparison, write_report
    from bench.store.folder import Results

    if len(folders) != (2 if compare else 1):
        raise UserError(
            f"{len(folders)} folders and {'--compare' if compare else 'no --compare'}",
            "Give one folder, or two with --compare: bench report results/before results/after --compare",
        )
    if compare and watch:
        raise UserError("--watch follows one sweep, and --compare compares two", "Leave one of them out.")
    results = [Results(folder) for folder in folders]
    if watch:
        keep_writing(results[0], lambda page: print(f"report: {page}", flush=True))
    else:
        print(f"report: {write_comparison(*results) if compare else write_report(*results)}")


@app.command(
    "export",
    epilog=examples(
        "bench export results/quickstart/cells/dora-r16-n1000-s0-1a2b3c4d --to dora-r16",
        "bench export results/quickstart/cells/dora-r16-n1000-s0-1a2b3c4d --to dora-r16 --merged",
    ),
)
@exits_on_user_error
def export_command(
    cell: Annotated[Path, typer.Argument(help="A cell's folder in results/<sweep>/cells/.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The folder to write; default: exports/<the cell's name>.")] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Write the whole model with the adapter merged, instead of the adapter.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Path of the base model, for a cell that records only its folder's name.")
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the base model's own Python code, which the cell was run with."),
    ] = False,
    allow_code: AllowCode = None,
    push: Annotated[
        str | None, typer.Option(help="Also upload to this repository of the Hugging Face hub.", metavar="REPO")
    ] = None,
) -> None:
    """Write a trained cell as an adapter that PEFT or pyreft loads, or as a merged model, with a model card."""
    from bench.export import export
    from bench.export import push as upload
    from bench.store.folder import CellFolder

    allowed = tuple(allow_code or ())
    written = export(CellFolder(cell), to or Path("exports") / cell.name, merged, base, trust_remote_code, allowed)
    print(f"exported: {written}")
    if push is not None:
        print(f"pushed: {upload(written, push)}")


@app.command("pack", epilog=examples("bench pack results/quickstart", "bench pack results/first results/second"))
@exits_on_user_error
def pack_command(
    folders: ResultsFolders,
) -> None:
    """Pack the many small files of a results folder's cells into two files, for git or for copying.

    All other commands read packed cells like any others. New cells are written beside the pack; run the command again
    to add them. Adapters, logs and the report stay as they are. Exit code 1: a cell with a corrupt file was not packed.
    """
    from bench.store.folder import Results
    from bench.store.pack import pack

    left = 0
    for folder in folders:
        packed = pack(Results(folder))
        left += len(packed.left)
        print(
            f"{folder}: {packed.added} cells packed; the pack holds {packed.files:,} files of {packed.cells} cells "
            f"({packed.size / 1e6:.1f} MB)"
        )
        for cell, reason in packed.left.items():
            print(f"{cell} stays loose: {reason}", file=sys.stderr)
    if left:
        raise typer.Exit(SOME_FAILED)


@app.command("unpack", epilog=examples("bench unpack results/quickstart"))
@exits_on_user_error
def unpack_command(
    folders: ResultsFolders,
) -> None:
    """Write the files of packed cells back into the cells' folders, and remove the pack."""
    from bench.store.folder import Results
    from bench.store.pack import unpack

    for folder in folders:
        print(f"{folder}: {unpack(Results(folder))} cells unpacked")


@app.command("methods", epilog=examples("bench methods", "bench methods --base huggyllama/llama-7b --rank 16"))
@exits_on_user_error
def methods_command(
    base: Annotated[
        str | None, typer.Option(help="Count each method's trainable parameters on this model; no weights are needed.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="The rank, for methods that have one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods: the meaning of rank, merging, quantization, default learning rates and sources.

    With --base, also the number of parameters that each method trains."""
    from bench.methods.listing import method_rows, print_rows

    if rank is not None and base is None:
        raise UserError("--rank counts parameters, which needs a base", "For example --base huggyllama/llama-7b.")
    rows = method_rows(base, rank)
    if as_json:
        print(json.dumps({"methods": [row.as_json() for row in rows]}, indent=2))
    else:
        print_rows(rows)
