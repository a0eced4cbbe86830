"""Which base model a name stands for, and the errors if it is not available."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.models.locate import pin_base

FIND = "from bench import errors\nfrom bench.models import locate\n"
FIND += "try:\n    locate.find_base('owner/model', {revision!r})\n"
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


def test_a_folders_identity_is_its_content(tiny_model: Path, tmp_path: Path) -> None:
    first = tmp_path / "a" / "model"
    shutil.copytree(tiny_model, first)
    second = tmp_path / "b" / "model"
    shutil.copytree(tiny_model, second)
    assert pin_base(str(first)) == pin_base(str(second))
    third = tmp_path / "c" / "model"
    shutil.copytree(tiny_model, third)
    tokenizer = json.loads((third / "tokenizer.json").read_text())
    (third / "tokenizer.json").write_text(json.dumps(tokenizer | {"truncation": None, "version": "1.1"}))
    assert pin_base(str(third)) != pin_base(str(first))
