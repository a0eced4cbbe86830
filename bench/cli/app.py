"""The command line's application, and what its commands share: exit codes, option types, the form of help pages.

Exit codes: 0 done, 1 some cells or judgments failed, 2 an error that the user must fix, 130 stopped by Ctrl-C
or a signal.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

import bench
from bench.environment import as_interrupt, handle_stop_signals, quiet_process
from bench.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

SOME_FAILED, NEEDS_FIX, STOPPED = 1, 2, 130
"""Exit codes."""


def examples(*commands: str) -> str:
    """The end of a help page: one command a line."""
    return "\n\n".join(["Examples:", *commands])


app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Compare parameter-efficient fine-tuning methods on one base model.\n\n"
    "A sweep file names a base model, methods with their ranks, numbers of training samples, and seeds. "
    "[bold]bench run[/bold] trains and scores every combination (a cell) and writes a report.",
    epilog=examples(
        "bench plan configs/quickstart.yaml", "bench run configs/quickstart.yaml", "bench report results/quickstart"
    ),
)

SweepFile = Annotated[Path, typer.Argument(help="The sweep file (YAML).", show_default=False)]
ResultsFolder = Annotated[Path, typer.Argument(help="The results folder of a sweep.", show_default=False)]
ResultsFolders = Annotated[list[Path], typer.Argument(help="Results folders of sweeps.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting: --set training.epochs=2 (repeatable).", metavar="KEY=VALUE"),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        help="Let code run that a results folder or a task file names: the method package.module:Class, the base model "
        "with code of its own, or the task "
        "lm_eval:FILE.yaml with functions (repeatable). Without it, the command says what would run, and stops.",
        metavar="NAME",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Worker processes; default: one per device. 0 runs cells in this process, for debugging."),
]
StrictPlan = Annotated[
    bool, typer.Option("--strict", help="End with an error if a base or a setting cannot run; default: run the others.")
]
Into = Annotated[Path, typer.Option("--results", help="Folder for results; each sweep gets a subfolder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def exits_on_user_error(command: Callable[P, R]) -> Callable[P, R]:
    """A user's error is printed without a traceback and exits with code 2; Ctrl-C, SIGTERM and SIGHUP exit with 130."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(NEEDS_FIX) from None
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may have been closed
                print("\nstopped; finished work is kept, run the same command to resume", file=sys.stderr)
            raise typer.Exit(STOPPED) from None

    return wrapped


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _print_version(requested: bool) -> None:
    if requested:
        print(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    quiet_process()
    if threading.current_thread() is threading.main_thread():
        handle_stop_signals(as_interrupt)
