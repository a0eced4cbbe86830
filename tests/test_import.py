"""What `import bench` does to the program that imports it: nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bench.environment import PROCESS_VARIABLES

STATE = """
import io, json, logging, os

def state():
    loggers = {name: getattr(log, "level", 0) for name, log in logging.root.manager.loggerDict.items()}
    levels = {name: level for name, level in loggers.items() if level}
    return {"environment": dict(os.environ), "root": logging.root.level, "levels": levels}

def shown_by_tqdm():
    import tqdm
    shown = io.StringIO()
    list(tqdm.tqdm(range(3), file=shown))
    return shown.getvalue()

before = state()
"""


def run(code: str) -> dict[str, object]:
    """What a fresh process prints as JSON, started without the variables that the tests' own process may have."""
    environment = {name: value for name, value in os.environ.items() if name not in PROCESS_VARIABLES}
    done = subprocess.run([sys.executable, "-c", STATE + code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_importing_bench_changes_neither_the_environment_nor_logging_nor_tqdm() -> None:
    code = """
import bench, bench.api
after = state()
print(json.dumps({"before": before, "after": after, "tqdm": shown_by_tqdm()}))
"""
    found = run(code)
    assert found["before"] == found["after"]
    assert "3/3" in str(found["tqdm"])


def test_a_process_of_our_own_is_quiet_and_the_users_settings_win() -> None:
    code = """
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from typer.testing import CliRunner
from bench.cli import app
assert CliRunner().invoke(app, ["plan", "no such file"]).exit_code == 2
print(json.dumps({"environment": dict(os.environ), "tqdm": shown_by_tqdm()}))
"""
    found = run(code)
    environment = found["environment"]
    assert isinstance(environment, dict) and set(PROCESS_VARIABLES) <= set(environment)
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert found["tqdm"] == ""


def test_reading_results_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'datasets', 'tqdm'} & set(sys.modules)"
    code = f"import sys, bench.analysis.contrasts; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
