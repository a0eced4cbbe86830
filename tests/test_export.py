"""Exported cells answer as the harness scored them, in the hands of PEFT, pyreft and transformers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import save_family
from helpers.sweeps import bench
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import methods
from bench.errors import UserError
from bench.export import export
from bench.methods.reft import REFT_METHODS
from bench.models.hooks import PromptMaskInGeneration
from bench.models.load import load_model
from bench.models.locate import find_base
from bench.store.folder import CellFolder
from bench.store.records import CellRecord
from bench.sweep.cell import BaseIdentity, Cell, CellData

TEXTS = ["Question: what is 3?\nAnswer: it is 21", "Anna put the"]


def logits(model: torch.nn.Module, tokenizer: AutoTokenizer) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]


@pytest.mark.parametrize("name", ["lora-r4", "dora-r4"])
def test_an_adapter_is_pefts(name: str, finished: tuple[Path, Path], tiny_model: Path, tmp_path: Path) -> None:
    cell = next(finished[1].glob(f"cells/{name}-*"))
    done = bench("export", cell, "--to", tmp_path / "out")
    assert done.exit_code == 0, done.output
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "out")
    record = CellFolder(cell).cell()
    base = load_model(find_base(str(tiny_model), None), dtype="float32", attn_implementation="sdpa")
    ours = methods.get(record.method).load(base, cell / "adapter", record)
    for a, b in zip(logits(theirs, tokenizer), logits(ours, tokenizer), strict=True):
        assert (a - b).abs().max() < 1e-5
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: tiny-llama" in card and "library_name: peft" in card and f"`{record.id}`" in card
    metrics = json.loads((cell / "metrics.json").read_text())
    for one in metrics["evaluations"].values():
        assert (
            f"| {one['task']} | loglikelihood-v1 | {one['primary']} | {100 * one['score']:.1f} | {one['n']} |" in card
        )
    assert not [path for path in (tmp_path / "out").rglob("*") if str(tiny_model.parent) in path.read_text("latin-1")]


@pytest.mark.parametrize("name", ["dora-r4", "full"])
def test_a_merged_model_is_transformers(
    name: str, finished: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    cell = next(finished[1].glob(f"cells/{name}-*"))
    done = bench("export", cell, "--to", tmp_path / "out", "--merged", "--base", tiny_model)
    assert done.exit_code == 0, done.output
    record = CellFolder(cell).cell()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = load_model(find_base(str(tiny_model), None), dtype="float32", attn_implementation="sdpa")
    ours = methods.get(record.method).load(base, cell / "adapter", record)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for a, b in zip(logits(merged, tokenizer), logits(ours, tokenizer), strict=True):
        assert (a - b).abs().max() < 1e-4


def kept_cell(
    work: Path, base: str, name: str, settings: dict[str, Any], dtype: str = "float32"
) -> tuple[CellFolder, torch.nn.Module]:
    """The folder of a cell whose adapter is kept, and its model in float32; moved away from its initial values."""
    method, folder = methods.get(name), CellFolder(work / "cells" / "kept")
    model = load_model(find_base(base, None), "float32", "eager")
    cell = Cell(
        base=BaseIdentity(id=base, revision="-", dtype=dtype),
        method=name,
        method_version=method.version,
        options=method.resolve(settings, model),
        samples=1,
        seed=0,
        data=CellData(train=("t",), format="question", mix="equal", append_eos=True, fingerprint="0"),
        training={},
    )
    torch.manual_seed(1)
    trained = method.attach(model, cell)
    with torch.no_grad():
        for key, value in trained.named_parameters():
            if value.requires_grad and not key.endswith("weight.original"):  # a rotation stays one
                value.add_(0.05 * torch.randn_like(value))
    folder.write_cell(cell)
    folder.write_record(CellRecord())
    folder.save_adapter(lambda part: method.save(trained, part))
    return folder, trained.eval()


@pytest.mark.parametrize("settings", [{"init": "pissa"}, {"init": "olora"}, {"init": "pissa_niter_4", "rslora": True}])
def test_an_adapter_that_changed_the_base_is_exported_as_plain_lora(
    settings: dict, tiny_model: Path, tmp_path: Path
) -> None:
    """By PEFT's own conversion: PEFT reads it on the unchanged base, with the outputs that were scored."""
    given = {"rank": 4, "lr": 1e-3, "dropout": 0.0, **settings}
    folder, trained = kept_cell(tmp_path, str(tiny_model), "lora", given)
    export(folder, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    untuned = logits(plain, tokenizer)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "out")
    config = theirs.peft_config["default"]
    assert config.r == 8 and config.init_lora_weights is True
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors")
    }
    for a, b, before in zip(logits(theirs, tokenizer), logits(trained, tokenizer), untuned, strict=True):
        assert (a - b).abs().max() < 1e-4 < 1e-2 < (a - before).abs().max()


def logits_in_pyreft(folder: Path, model: Any, tokens: torch.Tensor, prompt: int, options: dict[str, Any]) -> Any:
    """Logits (T, V) of an exported folder in pyreft's own hands, for a row whose first tokens are the prompt."""
    import pyreft

    reft = pyreft.ReftModel.load(str(folder), model)
    places = pyreft.get_intervention_locations(
        last_position=prompt,
        first_n=options["first"],
        last_n=options["last"],
        num_interventions=len(reft.interventions),
        share_weights=options["tied"],
    )
    edited = [[[place for place in of_layer if place >= 0]] for of_layer in places]
    with torch.no_grad():
        return reft({"input_ids": tokens}, unit_locations={"sources->base": (None, edited)})[1].logits[0]


POSITIONS: list[dict[str, Any]] = [
    {},
    {"first": 3, "last": 5, "tied": False},
    {"first": 0, "last": 4, "tied": False, "layers": [1]},
    {"first": 2, "last": 0, "layers": [1]},
    {"rank": 32, "dropout": 0.1},
]


@pytest.mark.parametrize("settings", POSITIONS, ids=["defaults", "untied", "last", "first", "full rank"])
@pytest.mark.parametrize("name", [method.name for method in REFT_METHODS])
def test_pyreft_loads_an_exported_edit_with_the_same_logits(
    name: str, settings: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """In float32 within 1e-5; prompts that are longer and shorter than the positions."""
    folder, ours = kept_cell(tmp_path, str(tiny_model), name, {"rank": 4, **settings})
    export(folder, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json"} < names and all(
        name.endswith(".bin") for name in names - {"README.md", "config.json"}
    )
    for file in (tmp_path / "out").glob("*.bin"):
        assert {value.dtype for value in torch.load(file, weights_only=True).values()} == {torch.float32}
        assert file.stat().st_size < 16_000
    tokens = torch.arange(3, 33)[None]
    for prompt in (4, 9, 26):
        mask = (torch.arange(30) < prompt)[None]
        plain = AutoModelForCausalLM.from_pretrained(tiny_model)
        with torch.no_grad():
            expected, untuned = ours(input_ids=tokens, prompt_mask=mask).logits[0], plain(tokens).logits[0]
        theirs = logits_in_pyreft(tmp_path / "out", plain, tokens, prompt, folder.cell().options)
        assert (theirs - expected).abs().max() < 1e-5 < 1e-2 < (theirs - untuned).abs().max()


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "gpt_neox", "mistral", "qwen2"])
def test_pyreft_loads_an_exported_edit_on_each_base_that_it_knows(family: str, tmp_path: Path) -> None:
    base = save_family(family, tmp_path / "base")
    folder, ours = kept_cell(tmp_path, str(base), "loreft", {"rank": 4, "first": 3, "last": 2})
    export(folder, tmp_path / "out")
    tokens = torch.arange(3, 23)[None]
    plain = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval()
    theirs = logits_in_pyreft(tmp_path / "out", plain, tokens, 12, folder.cell().options)
    with torch.no_grad():
        expected = ours(input_ids=tokens, prompt_mask=(torch.arange(20) < 12)[None]).logits[0]
    assert (theirs - expected).abs().max() < 1e-5


@pytest.mark.parametrize("settings", [{}, {"first": 3, "last": 5, "tied": False}], ids=["tied", "untied"])
def test_the_code_of_an_exported_edit_s_card_gives_its_answer(
    settings: dict[str, Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ours = kept_cell(tmp_path, str(tiny_model), "direft", {"rank": 4, **settings})
    export(folder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: pyreft" in card and "The `.bin` files are pickles" in card
    monkeypatch.chdir(tmp_path / "out")
    used: dict[str, Any] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], used)
    inputs = used["prompt"]
    with PromptMaskInGeneration(ours, inputs["attention_mask"].bool()):
        answer = ours.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert torch.equal(used["tokens"], answer)
    assert not torch.equal(answer, used["model"].generate(**inputs, max_new_tokens=16, do_sample=False))


def test_an_exported_edit_has_the_dtype_of_its_base(tiny_model: Path, tmp_path: Path) -> None:
    """pyreft multiplies hidden states as they are; it computes in bfloat16, bench in float32."""
    folder, ours = kept_cell(tmp_path, str(tiny_model), "loreft", {"rank": 4}, dtype="bfloat16")
    export(folder, tmp_path / "out")
    assert "pyreft computes the edits in bfloat16" in (tmp_path / "out" / "README.md").read_text()
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    tokens = torch.arange(3, 33)[None]
    theirs = logits_in_pyreft(tmp_path / "out", plain, tokens, 20, folder.cell().options)
    with torch.no_grad():
        expected = ours(input_ids=tokens, prompt_mask=(torch.arange(30) < 20)[None]).logits[0]
    assert (theirs - expected).abs().max() < 0.05  # of test_reft's bfloat16 test


@pytest.mark.parametrize(
    "name, family, settings, problem",
    [
        ("loreft", "llama", {"act_fn": "relu"}, r"no place for an activation \(act_fn: relu\)"),
        ("loreft", "phi", {}, "has no PhiForCausalLM among its base models"),
        ("loreft+lora", "llama", {}, "no library loads loreft and lora together"),
    ],
)
def test_an_edit_that_pyreft_cannot_load_is_refused(
    name: str, family: str, settings: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    folder, _ = kept_cell(tmp_path, str(save_family(family, tmp_path / "base")), name, settings)
    with pytest.raises(UserError, match=problem):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_without_sdpa_attention_is_exported_merged(tmp_path: Path) -> None:
    base = save_family("gemma2", tmp_path / "base")
    folder, ours = kept_cell(tmp_path, str(base), "lora", {"rank": 4})
    export(folder, tmp_path / "out", merged=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    tokens = torch.arange(3, 23)[None]
    with torch.no_grad():
        assert (merged(tokens).logits - ours(tokens).logits).abs().max() < 1e-4


def test_what_cannot_be_exported_says_so(finished: tuple[Path, Path], tmp_path: Path) -> None:
    cells = finished[1] / "cells"
    for arguments, problem in (
        ((next(cells.glob("base-*")),), "untuned base model"),
        ((next(cells.glob("full-*")),), "PEFT cannot load"),
        ((cells / "none",), "is not a cell"),
        ((next(cells.glob("lora-r2-*")), "--to", tmp_path), "exists already"),
    ):
        done = bench("export", *arguments)
        assert done.exit_code == 2 and problem in done.output, done.output
