"""The command line's pages of help, and what each exit code stands for."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.sweeps import bench
from typer.main import get_command

from bench.cli import app
from bench.errors import UserError

PROGRAM = get_command(app)
COMMANDS = PROGRAM.commands


def test_the_commands_are_these() -> None:
    names = ["plan", "run", "evaluate", "judge", "report", "export", "pack", "unpack", "methods"]
    assert list(COMMANDS) == names


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_page_of_help_ends_with_examples_that_parse(name: str) -> None:
    page = COMMANDS[name] if name else PROGRAM
    head, *examples = (page.epilog or "").split("\n\n")
    assert head == "Examples:" and examples
    for example in examples:
        program, command, *words = shlex.split(example)
        assert program == "bench" and command == (name or command)
        COMMANDS[command].make_context(command, words)  # raises for an option or a value that it does not take
    assert bench(*([name] if name else []), "--help").exit_code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    options = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "option"]
    assert [option.name for option in options if not option.help] == []
    assert COMMANDS[name].help


def test_a_page_of_help_imports_no_heavy_library() -> None:
    code = (
        "import json, sys\nfrom typer.testing import CliRunner\nfrom bench.cli import app\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0\n"
        "heavy = ('torch', 'transformers', 'peft', 'datasets', 'lm_eval', 'pandas', 'numpy', 'scipy', 'openai')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("plan", "none.yaml"), "none.yaml"),
        (("plan", "none.yaml", "--calibrate", "--tflops", "312"), "--calibrate measures this device"),
        (("run", "none.yaml", "--workers", "0", "--until", "noon"), "noon"),
        (("run", "none.yaml", "--workers", "0", "--notify", "nowhere"), "nowhere"),
        (("judge", "none", "--judge", "gpt"), "unknown judge 'gpt'"),
        (("judge", "none", "--pairwise", "some"), "'some'"),
        (("report", "none"), "none is no results folder"),
        (("report", "first", "second"), "2 folders and no --compare"),
        (("report", "first", "second", "--compare", "--watch"), "--watch follows one sweep"),
        (("export", "none"), "none is not a cell's folder"),
        (("methods", "--rank", "8"), "--rank counts parameters"),
    ],
)
def test_a_users_error_exits_with_2_and_says_how_to_fix_it(
    words: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = bench(*words)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ") and problem in done.stderr and "\n  " in done.stderr


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.report.write_report", interrupt)
    done = bench("report", tmp_path)
    assert done.exit_code == 130 and "run the same command to resume" in done.stderr


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("bench.report.write_report", fail)
    done = bench("report", tmp_path)
    assert isinstance(done.exception, RuntimeError) and not isinstance(done.exception, UserError)
