"""The command line `bench`: parses arguments and calls. Heavy libraries are imported inside the commands.

`app.py` has what the commands share; each other file has the commands that its name says.
"""

from bench.cli import sweep_commands, judge_command, results_commands  # isort: skip  # in the order of `bench --help`
from bench.cli.app import app

__all__ = ["app", "judge_command", "results_commands", "sweep_commands"]
