"""Servers for the tests of judges, and a guard of the key."""

from __future__ import annotations

import io
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.judge_server import KEY, Server

from bench.planning.build import make_plan
from bench.progress import Progress
from bench.runner.options import RunOptions
from bench.runner.run_sweep import run_sweep
from bench.store.folder import Results
from bench.sweep.load import load_sweep

SWEEP = """
name: talk
base_model: {{id: {model}, dtype: float32}}
data: {{train: world_talk, held_out: 4}}
methods:
  - {{method: lora, rank: 2, lr: 1e-2}}
  - {{method: vera, rank: 4, lr: 1e-2}}
samples: [8, 16]
training: {{batch_size: 4, max_length: 64}}
costs: {{inference: false}}
answers: {{questions: [held_out, world_talk], limit: 4, max_new_tokens: 6}}
"""


@pytest.fixture(scope="session")
def talked(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The results of a sweep of open answers, without a report."""
    folder = tmp_path_factory.mktemp("talked")
    (folder / "talk.yaml").write_text(SWEEP.format(model=tiny_model))
    plan = make_plan(load_sweep(folder / "talk.yaml"))
    run_sweep(plan, Results(folder / "talk"), Progress(), RunOptions(workers=0))
    return folder / "talk"


@pytest.fixture
def results(talked: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(talked, tmp_path / "talk"))


@pytest.fixture
def another() -> Iterator[Callable[[], Server]]:
    """Makes servers."""
    made: list[Server] = []

    def make() -> Server:
        made.append(Server())
        threading.Thread(target=made[-1].serve_forever, args=(0.02,), daemon=True).start()
        return made[-1]

    yield make
    for one in made:
        one.released.set()
        one.shutdown()
        one.server_close()


@pytest.fixture
def server(another: Callable[[], Server]) -> Server:
    return another()


@pytest.fixture
def key_that_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[None]:
    """Whatever a test does, the key is in none of its log lines of any level, of its output or of its files."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(level)
    root.removeHandler(handler)
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in "".join((lines.getvalue(), *capfd.readouterr(), written))
