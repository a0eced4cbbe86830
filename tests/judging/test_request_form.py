"""Endpoints that refuse a parameter by its name are asked once more without it; those that refuse a prompt cost one
judgment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.judge_server import Asked, Handler, Server, good, refuses, says

from bench.judging.prompts import Prompt
from bench.judging.request_form import SYSTEM_ROLE, RequestForm, refused_parameters

pytestmark = pytest.mark.usefixtures("key_that_shows_nowhere")

MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
)


def unless(refusals: dict[str, tuple[int, str]]) -> Callable[[Handler], None]:
    """Refuses the first of these parameters that a request has."""

    def answer(handler: Handler) -> None:
        sent = {*handler.body, *(["system"] if handler.body["messages"][0]["role"] == "system" else [])}
        for name, (status, message) in refusals.items():
            if name in sent:
                error = {"message": message, "type": "invalid_request_error", "param": name, "code": None}
                handler.answer(status, {"error": error})
                return
        good(handler)

    return answer


def test_a_reasoning_model_is_asked_as_it_takes_it_from_the_third_request_on(server: Server) -> None:
    server.usual = unless({"max_tokens": (400, MAX_TOKENS), "temperature": (400, TEMPERATURE)})
    asked = Asked(server, 40, tries=1)
    assert len(asked.replies) == 40 and not asked.failed and not asked.waits
    assert len(server.seen) == 42 == asked.usage.requests
    last = server.seen[-1][2]
    assert last["max_completion_tokens"] == 2048 and not {"max_tokens", "temperature"} & set(last)
    assert asked.replies[0].refused_parameters == ("max_tokens", "temperature")
    server.seen.clear()
    asked = Asked(server, 40, concurrency=8)
    assert len(asked.replies) == 40 and len(server.seen) <= 40 + 2 * 16


def test_options_ask_it_so_from_the_first_request_on(server: Server) -> None:
    server.usual = unless({"max_tokens": (400, MAX_TOKENS), "temperature": (400, TEMPERATURE)})
    asked = Asked(server, 4, token_limit="max_completion_tokens", temperature=None)
    assert len(asked.replies) == 4 == len(server.seen) and asked.replies[0].refused_parameters == ()


def test_an_older_server_that_knows_the_older_name_only(server: Server) -> None:
    message = "Unrecognized request argument supplied: max_completion_tokens"
    server.usual = unless({"max_completion_tokens": (400, message)})
    asked = Asked(server, 4, token_limit="max_completion_tokens")
    assert len(asked.replies) == 4 and len(server.seen) == 5 and server.seen[-1][2]["max_tokens"] == 2048


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "System role not supported"),
        (500, "jinja2.exceptions.TemplateError: System role not supported"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Only user and assistant roles are supported!"),
        (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    ],
)
def test_a_chat_template_without_a_system_role_gets_one_message(server: Server, status: int, message: str) -> None:
    server.usual = unless({"system": (status, message)})
    prompts = [Prompt("p", "Be fair.", "one"), Prompt("p", "Be fair.", "two")]
    server.script.append(unless({"system": (status, message)}))
    asked = Asked(server, prompts)
    assert not asked.failed and len(server.seen) == 3
    assert server.seen[-1][2]["messages"] == [{"role": "user", "content": "Be fair.\n\ntwo"}]


def test_a_seed_that_a_server_does_not_know_is_left_out(server: Server) -> None:
    server.usual = unless({"seed": (422, "Unexpected fields in the request: {'seed'}")})
    asked = Asked(server, 3, seed=5)
    assert len(asked.replies) == 3 and len(server.seen) == 4 and "seed" not in server.seen[-1][2]
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 5}]
    server.script.append(says(422, {"detail": detail}))
    assert len(Asked(server, 3, seed=5).replies) == 3


def test_a_server_that_refuses_everything_is_asked_a_few_times_only(server: Server) -> None:
    message = "Unsupported: max_tokens, max_completion_tokens, temperature, seed, system role"
    server.usual = refuses(400, message)
    asked = Asked(server, [Prompt("p", "Be fair.", str(number)) for number in range(3)], seed=1, temperature=0.5)
    assert asked.failed == dict.fromkeys(range(3), f"HTTP 400: {message}")
    assert len(server.seen) == 6  # each in both forms


def test_one_prompt_that_is_refused_changes_nothing_for_the_others(server: Server) -> None:
    server.script.extend([refuses(400, "unknown error about max_tokens")] * 2)
    asked = Asked(server, 3)
    assert list(asked.replies) == [1, 2] and "max_tokens" in server.seen[-1][2]


VALUES = [
    "max_tokens is too large: 2048. This model supports at most 1024 completion tokens",
    "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 4096 tokens",
    "temperature must be between 0 and 2; 5 is not supported",
    "Invalid prompt",
    "your key is fine, max_tokens is not",
]


@pytest.mark.parametrize("message", VALUES)
def test_a_value_that_is_refused_is_the_users_to_change(message: str) -> None:
    assert refused_parameters(message) == frozenset()


def test_forms_come_to_an_end() -> None:
    form: RequestForm | None = RequestForm()
    steps = 0
    names: set[Any] = {"max_tokens", "max_completion_tokens", "temperature", "seed", SYSTEM_ROLE}
    while form is not None:
        form, steps = form.without(names), steps + 1
    assert steps == 2


MODERATED = 'Your chosen model requires moderation and your input was flagged for "violence"'


def test_a_moderated_prompt_costs_one_judgment(server: Server) -> None:
    server.script.extend([good, refuses(403, MODERATED), good, refuses(403, "Forbidden")])
    asked = Asked(server, 8)
    assert asked.error is None and sorted(asked.replies) == [0, 2, 4, 5, 6, 7]
    assert asked.failed == {1: f"HTTP 403: {MODERATED}", 3: "HTTP 403: Forbidden"}
    assert len(server.seen) == 8
    # Also where it is the first, and where all are: nothing is known of the key.
    server.script.append(refuses(403, "Forbidden"))
    assert sorted(Asked(server, 3).replies) == [1, 2]
    server.usual = refuses(403, MODERATED)
    asked = Asked(server, 8)
    assert asked.error is None and len(asked.failed) == 8


@pytest.mark.parametrize(("prompts", "concurrency", "most"), [(1, 1, 1), (3, 8, 3), (100, 1, 5), (100, 8, 13)])
def test_a_key_that_is_refused_for_every_prompt_ends_all(
    server: Server, prompts: int, concurrency: int, most: int
) -> None:
    server.usual = refuses(403, "not for you")
    asked = Asked(server, prompts, concurrency=concurrency)
    assert (
        asked.error is not None and "refuses the key in OPENAI_API_KEY (HTTP 403: not for you)" in asked.error.problem
    )
    assert len(server.seen) <= most
