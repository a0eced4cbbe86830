"""What the documents say is what the code does."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.paths import ROOT
from helpers.sweeps import bench
from typer.main import get_command

from bench import load_sweep
from bench.cli import app
from bench.planning.build import make_plan

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def test_the_reference_of_sweep_files_is_up_to_date() -> None:
    made = (ROOT / "docs" / "sweep_file.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "docs" / "generate_sweep_file.py"))
    assert made == script["page"](), "python docs/generate_sweep_file.py"


def test_results_are_read_as_the_page_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = blocks(ROOT / "docs" / "results.md", "python")
    exec(code, {})
    said = capsys.readouterr().out
    assert "lora-r16-n1000-s0" in said and "arc_challenge" in said


def test_the_readme_s_sweep_is_one_and_comes_to_what_it_says(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = next(one for one in blocks(ROOT / "README.md", "yaml") if "name: my_sweep" in one)
    (tmp_path / "my_sweep.yaml").write_text(example)
    sweep = load_sweep(tmp_path / "my_sweep.yaml")
    settings = sum(len(one["rank"]) if "rank" in one else 1 for one in sweep.methods)
    count = settings * len(sweep.samples) * len(sweep.seeds)
    assert f"= {count} trained cells" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [one.partition("#")[0] for one in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in one]
    assert all((page.parent / one).exists() for one in targets), targets


def merged(block: str) -> dict[str, Any]:
    """A block of a page as a whole sweep file; what it leaves out is that of a small sweep of LLaMA-7B, planned without
    its weights."""
    given = {key: one for key, one in yaml.safe_load(block).items() if key != "base_model"}
    base = {"base_model": {"id": "huggyllama/llama-7b", "dtype": "float32"}, "methods": ["lora"], "samples": 16}
    tasks = {"evaluation": {"tasks": ["world_two"], "limit": 4}}
    return {"name": "example", **base, **({} if "evaluation" in given or "data" in given else tasks), **given}


EXAMPLES = [
    pytest.param(block, id=f"{page.stem}-{place}") for page in PAGES for place, block in enumerate(blocks(page, "yaml"))
]


def test_there_are_pages_and_examples() -> None:
    """Else the tests over them would test nothing."""
    assert len(PAGES) > 5 and len(EXAMPLES) > 5 and any(commands(page) for page in PAGES)


@pytest.mark.parametrize("block", EXAMPLES)
def test_settings_are_what_a_sweep_takes(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned, and so every setting resolved; with placeholders for what is on a hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    (code,) = (one for one in blocks(ROOT / "README.md", "python") if "class LastBlocks" in one)
    (tmp_path / "last_blocks.py").write_text(code)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_module.py").write_text(code.replace("LastBlocks", "MyMethod"))
    for name in ("quiz", "quiz_train", "quiz_test"):
        lines = [{"q": f"{name}: which is {n}?", "options": [str(n), str(n + 1)], "a": n % 2} for n in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    raw = pd.DataFrame({"before": [f"Say {n}: " for n in range(20)], "after": [f"{n}" for n in range(20)]})
    raw.to_csv(tmp_path / "raw.csv", index=False)
    chats = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}."}] for n in range(20)]
    pd.DataFrame({"messages": chats}).to_parquet(tmp_path / "chats.parquet")
    settings = merged(block)
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(settings))
    assert len(make_plan(load_sweep("example.yaml"), use_placeholders=True).cells) > 1


def commands(page: Path) -> list[list[str]]:
    """The calls of `bench` in a page's blocks."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "bench" in words:
                found.append(words[words.index("bench") + 1 :])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_are_what_the_program_takes(page: Path) -> None:
    program = get_command(app)
    for name, *words in commands(page):
        command = program.commands[name]
        command.make_context(name, list(words))  # raises for an option or a value that it does not take


@pytest.mark.slow
def test_commands_of_the_readme_run(
    finished: tuple[Path, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that need neither a network, nor a judge, nor a training: on a finished sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sweep.yaml").write_text(finished[0].read_text().replace("name: tiny", "name: my_sweep"))
    for name in ("results", "old"):
        shutil.copytree(finished[1], tmp_path / name / "my_sweep")
    cell = next(tmp_path.glob("results/my_sweep/cells/lora-r4-*")).name
    left_out = {"evaluate", "judge"}
    ran = set()
    for name, *words in commands(ROOT / "README.md"):
        local = any("my_sweep" in word for word in words) or name == "methods"
        if name in left_out or not local or {"--set", "--base"} & set(words):
            continue
        base = ["--base", tiny_model] if name == "export" else []  # a folder, which a cell knows by name
        done = bench(name, *(word.replace("CELL", cell) for word in words), *base)
        assert done.exit_code == 0, (name, words, done.output)
        ran.add(name)
    assert ran == {"plan", "run", "report", "export", "methods"}
