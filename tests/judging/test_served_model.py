"""A judge of one's own: `transformers serve` with a tiny model on the CPU, asked as any other endpoint.

It takes some ten seconds until the server answers: it imports torch and transformers once more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.sweeps import make_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.import_utils import is_serve_available

from bench.data.open_questions import OpenQuestion, Turn
from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint
from bench.judging.prompts import Prompt, comparison_prompt, rating_prompt
from bench.judging.reply import Reply
from bench.judging.request_queue import send_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_serve_available(), reason="`transformers serve` needs the packages of the extra `serving`"
    ),
]

TEMPLATE = "{% for one in messages %}<{{ one.role }}>{{ one.content }}\n{% endfor %}<assistant>"
QUESTION = OpenQuestion(1, "writing", (Turn("Who wrote it?"), Turn("And when?")))
PROMPTS = [
    rating_prompt(QUESTION, 1, ["She did."]),
    rating_prompt(QUESTION, 2, ["She did.", "In May."]),
    comparison_prompt(QUESTION, 1, ["She did."], ["He did."]),
]
MAX_TOKENS = 12
START_SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_model(tmp_path_factory.mktemp("served") / "tiny-judge")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    """Of a server that has the model and nothing else; it ends with all that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    log = model.parent / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not healthy(port):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def greedy(model: Path, prompt: Prompt) -> tuple[str, int, int]:
    """What the model says to a prompt, and the tokens of both, without a server."""
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    text = f"<system>{prompt.system}\n<user>{prompt.user}\n<assistant>"
    given = tokenizer(text, return_tensors="pt")
    made = loaded.generate(**given, max_new_tokens=MAX_TOKENS, do_sample=False)[0, given["input_ids"].shape[1] :]
    return tokenizer.decode(made, skip_special_tokens=True), given["input_ids"].shape[1], len(made)


def test_its_replies_are_the_models_own(url: str, model: Path) -> None:
    replies: dict[int, Reply] = {}
    endpoint = Endpoint(
        str(model), url, "NO_SUCH_KEY", max_tokens=MAX_TOKENS, concurrency=2, price_in=1.0, price_out=2.0, seed=5
    )
    usage, failed = send_all(endpoint, enumerate(PROMPTS), lambda key, prompt, reply: replies.update({key: reply}))
    assert not failed and sorted(replies) == [0, 1, 2]
    for number, prompt in enumerate(PROMPTS):
        text, taken, made = greedy(model, prompt)
        reply = replies[number]
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == (text, taken, made)
        assert reply.finish_reason == ("length" if made == MAX_TOKENS else "stop")
        assert reply.model == f"{model}@main"
    assert (usage.requests, usage.retried, usage.failed) == (3, 0, 0)
    assert usage.prompt_tokens == sum(reply.prompt_tokens or 0 for reply in replies.values())
    assert usage.dollars == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)


def test_what_it_refuses(url: str, model: Path) -> None:
    def record(key: str, prompt: Prompt, reply: Reply) -> None:
        raise AssertionError("it has no such model")

    _, failed = send_all(Endpoint("another", url, "NO_SUCH_KEY"), [("one", PROMPTS[0])], record)
    assert failed == {"one": f"HTTP 400: Server is pinned to '{model}'; requested 'another'."}
    with pytest.raises(UserError, match="usually ends in /v1"):
        send_all(Endpoint(str(model), url.removesuffix("/v1"), "NO_SUCH_KEY"), [("one", PROMPTS[0])], record)
    # A field more than are sent would be refused.
    body = {"model": str(model), "messages": [{"role": "user", "content": "Hello"}], "best_of": 2}
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError, match="422") as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
