"""Code that a stranger's results folder or task file names: it runs if the user allows it by name, and only then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.sweeps import bench, sweep_file
from helpers.tables import copied

import bench as package
from bench.errors import UserError
from bench.evaluation.lm_eval_tasks import load_lm_eval_task
from bench.evaluation.task_file import read_task_file
from bench.planning.build import make_plan
from bench.sweep.named_code import check_class

MODULE = "code_of_a_stranger"
METHOD = f"{MODULE}:Theirs"
TASK = {
    "task": "of_a_stranger",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{ask}}",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}],
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the stranger's code writes: its module is where Python and lm-eval find it."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "it_ran"
    code = f"open({str(path)!r}, 'w').close()\n\ndef process_docs(docs):\n    return docs\n\nTheirs = None\n"
    (tmp_path / f"{MODULE}.py").write_text(code)
    (tmp_path / "rows.jsonl").write_text('{"ask": "Is 2 even?"}\n{"ask": "Is 4 even?"}\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop(MODULE, None)


def task_file(folder: Path, name: str = "theirs.yaml", function: str | None = None, **change: object) -> Path:
    """A task file of lm-eval; with a `function`, one that lm-eval imports."""
    path = folder / name
    data = {"dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}}
    content = yaml.safe_dump({**TASK, **data, **change})
    path.write_text(content + (f"process_docs: !function {function}\n" if function else ""))
    return path


@pytest.fixture
def strangers(finished: tuple[Path, Path], tmp_path: Path, marker: Path) -> Path:
    """A results folder whose files name the stranger's class as a method, and a task file with a function."""
    folder = copied(finished, tmp_path)
    for path in (folder / "plan.json", folder / "sweep.yaml", *folder.glob("cells/lora-*/cell.json")):
        for old in ('"method": "lora"', "method: lora\n"):
            path.write_text(path.read_text().replace(old, old.replace("lora", METHOD)))
    task = task_file(tmp_path, function=f"{MODULE}.process_docs")
    sweep = yaml.safe_load((folder / "sweep.yaml").read_text())
    sweep["evaluation"]["tasks"].append(f"lm_eval:{task}")
    assert METHOD in str(sweep)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return folder


def test_reports_judges_and_tables_run_no_code_of_a_results_folder(strangers: Path, marker: Path) -> None:
    assert bench("report", strangers).exit_code == 0
    assert bench("judge", strangers).exit_code in (0, 2)  # it may have nothing to judge
    assert len(package.load_results(strangers).cells) == 6
    assert bench("pack", strangers).exit_code == 0
    assert not marker.exists() and MODULE not in sys.modules


def test_what_would_run_code_of_a_results_folder_says_so_and_stops(strangers: Path, marker: Path) -> None:
    cell = next(strangers.glob("cells/lora-*"))
    for arguments in (
        ("evaluate", strangers),
        ("plan", strangers / "sweep.yaml", "--results", strangers.parent),
        ("run", strangers / "sweep.yaml", "--results", strangers.parent),
        ("export", cell, "--to", strangers.parent / "out"),
    ):
        done = bench(*arguments)
        assert done.exit_code == 2, done.output
        assert f"{METHOD} (imports {MODULE})" in done.output and f"--allow-code {METHOD}" in done.output
    with pytest.raises(UserError, match="this would run code"):
        package.load_sweep(strangers / "sweep.yaml")
    # Allowing one thing allows no other.
    done = bench("evaluate", strangers, "--allow-code", METHOD)
    assert done.exit_code == 2 and f"{MODULE}.process_docs, from {strangers.parent}" in done.output, done.output
    assert not marker.exists() and MODULE not in sys.modules


def test_a_results_folder_alone_permits_no_code_of_a_base_model(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    sweep = yaml.safe_load((folder / "sweep.yaml").read_text())
    sweep["base_model"][0]["trust_remote_code"] = True
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    done = bench("evaluate", folder)
    assert done.exit_code == 2 and "the base model's own Python code" in done.output, done.output


def test_allowed_code_runs(strangers: Path, marker: Path) -> None:
    cell = next(strangers.glob("cells/lora-*"))
    done = bench("export", cell, "--to", strangers.parent / "out", "--allow-code", METHOD)
    assert done.exit_code == 2 and "is no bench.methods.Method" in done.output  # imported, and found to be none
    assert marker.exists()


def test_a_function_of_a_task_file_runs_only_if_its_file_is_allowed(
    tmp_path: Path, tiny_model: Path, marker: Path
) -> None:
    """Also for the user's own sweep file: task files are what people pass on."""
    path = sweep_file(tmp_path, tiny_model)
    task_file(tmp_path, "below.yaml", function=f"{MODULE}.process_docs")
    task = tmp_path / "above.yaml"
    task.write_text("include: below.yaml\ntask: above\n")
    override = f"evaluation.tasks=['lm_eval:{task}']"
    done = bench("plan", path, "--set", override)
    assert done.exit_code == 2 and f"--allow-code lm_eval:{task}" in done.output, done.output
    assert not marker.exists()
    plan = make_plan(package.load_sweep(path, (override,)), allow_code=[f"lm_eval:{task}"])
    assert marker.exists() and {one.task for one in plan.cells[0].evaluations} == {f"lm_eval:{task}"}


def test_the_code_of_a_task_file_is_found_without_running_it(tmp_path: Path, marker: Path) -> None:
    plain = task_file(tmp_path)
    assert read_task_file(plain).code == ()
    metric = task_file(tmp_path, metric_list=[{"metric": "acc"}, {"metric": "./theirs"}])
    assert read_task_file(metric).code == ("metric ./theirs of the evaluate library",)
    hidden = task_file(tmp_path, metric_list=[{"metric": "exact_match", "hf_evaluate": True}])
    assert read_task_file(hidden).code == ("metric exact_match of the evaluate library",)
    nested = tmp_path / "nested.yaml"
    nested.write_text(
        f"include: [{task_file(tmp_path, 'replaced.yaml', function='a.b')}]\n"
        "task: nested\nprocess_docs: none\nfewshot_config: {samples: !function c.d}\nfilter_list: [!function e.f]\n"
    )
    names = [one.split(",")[0] for one in read_task_file(nested).code]
    assert sorted(names) == ["a.b", "c.d", "e.f"]  # lm-eval imports a.b although the file replaces it
    for text in (
        "task: !!python/object/apply:os.system [true]",
        "include: theirs.yaml\n- 1",
        "[1]",
        "include: own.yaml",
    ):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(UserError, match=r"own\.yaml"):
            read_task_file(tmp_path / "own.yaml")
    assert not marker.exists()


def test_templates_of_a_task_file_reach_no_code(tmp_path: Path, marker: Path) -> None:
    template = (
        f"{{{{ ask.__class__.__mro__[1].__subclasses__() and cycler.__init__.__globals__.os.mknod('{marker}') }}}}"
    )
    for key in ("doc_to_text", "description"):
        task = task_file(tmp_path, **{key: template})
        with pytest.raises(UserError, match="lm-eval cannot load"):
            load_lm_eval_task(f"lm_eval:{task}", 0, None)
        load_lm_eval_task.cache_clear()
    assert not marker.exists()
    harmless = task_file(tmp_path, doc_to_text="{{ ask.strip() | regex_replace('e+', 'E') }}")
    task = load_lm_eval_task(f"lm_eval:{harmless}", 0, None).task
    assert task.doc_to_text(task.eval_docs[0]) == "Is 2 EvEn?"


@pytest.mark.parametrize("group", [{"group": "some", "task": ["piqa", {"task": "mine"}]}, {"task": ["piqa", "mine"]}])
def test_a_file_of_a_group_names_its_tasks(tmp_path: Path, group: dict) -> None:
    path = tmp_path / "group.yaml"
    path.write_text(yaml.safe_dump(group))
    with pytest.raises(UserError, match=r"is a group of tasks\n.*lm_eval:piqa,lm_eval:mine"):
        load_lm_eval_task(f"lm_eval:{path}", 0, None)


def test_names_of_the_packages_methods_are_no_code() -> None:
    for name in ("lora", "loreft+dora", "peft"):
        check_class(name, ())
    with pytest.raises(UserError, match="imports mine"):
        check_class("loreft+mine:Mine", ())
