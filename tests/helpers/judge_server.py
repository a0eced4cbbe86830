"""An endpoint on the loopback that does everything wrong that servers do, and a call of `send_all` on it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint
from bench.judging.prompts import Prompt
from bench.judging.reply import Reply
from bench.judging.request_queue import Usage, send_all

KEY = "sk-very-secret-0123456789"
SEEN_BY_ALL = {"model", "messages", "temperature", "max_tokens"}


class Server(ThreadingHTTPServer):
    """Answers by its script as long as there is one, then as usual."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: deque[Callable[[Handler], None]] = deque()
        self.usual: Callable[[Handler], None] = good
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.active = self.most_active = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def asked(self) -> list[str]:
        """The users' messages of all requests."""
        return [body["messages"][-1]["content"] for _, _, body in self.seen]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some of the tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    body: dict[str, Any]

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, self.body))
            self.server.active += 1
            self.server.most_active = max(self.server.active, self.server.most_active)
            answer = self.server.script.popleft() if self.server.script else self.server.usual
        try:
            answer(self)
        finally:
            with self.server.lock:
                self.server.active -= 1

    def answer(self, status: int, content: bytes | dict[str, Any], missing: int = 0, **headers: str) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw) + missing))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def completion(text: Any, finish_reason: str = "stop", usage: bool = True) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    found: dict[str, Any] = {"object": "chat.completion", "model": "judge-2026-01-01"}
    found["choices"] = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    if usage:
        found["usage"] = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return found


def good(handler: Handler) -> None:
    handler.answer(200, completion(f"To {handler.body['messages'][-1]['content']}: [[7]]"))


def says(status: int, content: bytes | dict[str, Any], **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, content, **headers)


def refuses(status: int, message: str = "no", **headers: str) -> Callable[[Handler], None]:
    return says(status, {"error": {"message": message, "type": "x", "code": None}}, **headers)


def half(handler: Handler) -> None:
    handler.answer(200, json.dumps(completion("[[7]]")).encode()[:40], missing=100)


def silent(handler: Handler) -> None:
    handler.server.released.wait(20)


def drops(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def slow(seconds: float, then: Callable[[Handler], None] = good) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        time.sleep(seconds)
        then(handler)

    return answer


class Asked:
    """One call of `send_all`, and all that is seen of it."""

    def __init__(self, server: Server, prompts: int | list[Prompt] = 1, **settings: Any) -> None:
        self.endpoint = Endpoint("judge", **{"base_url": server.url, "concurrency": 1, **settings})
        given = [Prompt("p", "", f"question {n}") for n in range(prompts)] if isinstance(prompts, int) else prompts
        self.replies: dict[int, Reply] = {}
        self.waits: list[float] = []
        self.notes: list[tuple[int, int, str]] = []
        self.threads: set[int] = set()
        self.usage, self.failed, self.error = Usage(), {}, None
        try:
            self.usage, self.failed = send_all(
                self.endpoint, enumerate(given), self.record, lambda *note: self.notes.append(note), self.waits.append
            )
        except UserError as error:
            self.error = error
            assert KEY not in "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        assert KEY not in repr((self.endpoint, self.usage, self.failed, self.replies, self.notes))

    def record(self, key: int, prompt: Prompt, reply: Reply) -> None:
        assert key not in self.replies
        assert reply.text in ("", f"To {prompt.user}: [[7]]") or "\n" in reply.text
        self.threads.add(threading.get_ident())
        self.replies[key] = reply
