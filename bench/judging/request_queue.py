"""Many requests to one endpoint, sent in parallel within a spending limit.

Threads send requests and sleep; they take no decisions. The calling thread decides what is sent, repeated or given up,
keeps the account, and hands on each reply as it arrives: a paid reply never waits for the others. A request that fails
for good has a reason, never a score.

The openai client can repeat requests itself (`max_retries`). It is not used for that, because it repeats inside one
call: tries could not be counted against the spending limit, nor stopped when another request meets a refused key or
when the user presses Ctrl-C. The client also does not repeat a reply with status 200 that holds no text.

Two kinds of prompts are sent again in another form: where the endpoint does not take a parameter (later requests have
that form too, once it has brought a reply), and where a reply has no text besides thoughts.

`bench.judging.request` sends a single request and classifies its outcome.
"""

from __future__ import annotations

import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint, estimated_tokens
from bench.judging.reply import Reply, RequestOutcome
from bench.judging.request import Connection, read_key
from bench.judging.request_form import RequestForm
from bench.progress import Advance, ignore_progress

if TYPE_CHECKING:
    from bench.judging.prompts import Prompt

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second try, doubled before each later one up to the longest; each is varied by half at random."""
LONGEST_RETRY_AFTER = 300.0
"""Seconds. A request that the server asks to repeat later than this is given up."""
LARGER = 4
"""A prompt whose reply has no text besides thoughts is sent once more with so many times the tokens."""
REFUSED_PROMPTS = 5
"""So many prompts refused by status 403, before any has a reply, end all requests."""


@dataclass
class Usage:
    """What a number of requests took."""

    requests: int = 0
    """Requests sent, repeated ones included."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the server counts them; replies without a text are included."""
    dollars: float | None = None
    """A reply that was lost, or a count that it lacks, counts with its reserve. None without prices."""
    retried: int = 0
    """Requests that repeated another."""
    failed: int = 0
    """Prompts without a reply."""

    def __add__(self, other: Usage) -> Usage:
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            dollars,
            self.retried + other.retried,
            self.failed + other.failed,
        )


def send_all(
    endpoint: Endpoint,
    prompts: Iterable[tuple[Key, Prompt]],
    record: Callable[[Key, Prompt, Reply], None],
    advance: Advance = ignore_progress,
    sleep: Callable[[float], object] | None = None,
) -> tuple[Usage, dict[Key, str]]:
    """Send all prompts. Returns the usage, and by key why a prompt has no reply.

    `record` is called with each reply as it arrives, in the calling thread; `sleep` is called in other threads (None:
    sleeps until the time is over, or until an error ends all). On
    Ctrl-C the replies that have arrived are recorded before KeyboardInterrupt is raised. Where no request can succeed
    (no openai package, no key, a refused key, model or address, an endpoint that cannot be reached), UserError is
    raised after the replies in flight are recorded.
    """
    usage = Usage(dollars=0.0 if endpoint.priced else None)
    waiting = deque(
        _Try(key, prompt, RequestForm(endpoint.token_limit), endpoint.max_tokens) for key, prompt in prompts
    )
    if not waiting:
        return usage, {}
    connection = Connection(endpoint, read_key(endpoint))
    to_send: queue.SimpleQueue[_Try[Key] | None] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[tuple[_Try[Key], RequestOutcome]] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (current := to_send.get()) is not None:
            try:
                if current.wait:
                    (sleep or stopped.wait)(current.wait)
                if stopped.is_set():
                    outcome = RequestOutcome(reason="stopped")
                else:
                    outcome = connection.send(current.prompt, current.form, current.max_tokens)
            except BaseException as error:  # or the calling thread would wait for this outcome forever
                outcome = RequestOutcome(fatal=error)
            outcomes.put((current, outcome))

    threads = min(endpoint.concurrency, len(waiting))
    dispatcher = _Dispatcher(endpoint, waiting, usage, record, advance)
    try:
        for _ in range(threads):
            # Daemons: after Ctrl-C the process does not wait for a reply that may take minutes.
            threading.Thread(target=work, daemon=True).start()
        while dispatcher.start(to_send.put):
            dispatcher.finish(*_next(outcomes))
            if dispatcher.fatal is not None:
                stopped.set()
    except KeyboardInterrupt:
        while not outcomes.empty():
            dispatcher.finish(*outcomes.get())
        raise
    finally:
        stopped.set()
        for _ in range(threads):
            to_send.put(None)
        connection.close()
    if dispatcher.fatal is not None:
        raise dispatcher.fatal
    return usage, dispatcher.failed


def _next(items: queue.SimpleQueue[Item]) -> Item:
    while True:
        try:
            return items.get(timeout=1)  # without a timeout, Windows would not deliver Ctrl-C
        except queue.Empty:
            continue


@dataclass(frozen=True, eq=False)
class _Try(Generic[Key]):
    """One try of one prompt."""

    key: Key
    prompt: Prompt
    form: RequestForm
    max_tokens: int
    number: int = 1
    wait: float = 0.0
    """Seconds before it is sent."""
    thoughts: Reply | None = None
    """The reply of an earlier try, which holds nothing but thoughts; recorded if there is no better one."""


class _Dispatcher(Generic[Key]):
    """Keeps track of what waits, is in flight, has a reply or was given up. Used by the calling thread alone."""

    def __init__(
        self,
        endpoint: Endpoint,
        waiting: deque[_Try[Key]],
        usage: Usage,
        record: Callable[[Key, Prompt, Reply], None],
        advance: Advance,
    ) -> None:
        self.endpoint, self.waiting, self.usage, self.record, self.advance = endpoint, waiting, usage, record, advance
        self.total, self.replied, self.unreached, self.refused = len(waiting), 0, 0, 0
        self.form = RequestForm(endpoint.token_limit)
        """The form in which the endpoint takes requests, as far as replies have shown."""
        self.in_flight: set[_Try[Key]] = set()
        self.failed: dict[Key, str] = {}
        self.fatal: BaseException | None = None
        self.jitter = random.Random()  # independent of the global generator, which others seed

    def start(self, put: Callable[[_Try[Key]], None]) -> bool:
        """Start as many tries as may run now. Returns whether any is in flight."""
        while self.waiting and len(self.in_flight) < self.endpoint.concurrency and self.fatal is None:
            if not self._affordable(self.waiting[0]):
                if not self.in_flight:  # else a try in flight may cost less than its reserve
                    for waiting in self.waiting:
                        self._give_up(waiting, "spending limit reached")
                    self.waiting.clear()
                break
            current = self.waiting.popleft()
            if len(current.form.refused) < len(self.form.refused):
                current = replace(current, form=self.form)
            self.in_flight.add(current)
            self.usage.requests += 1
            self.usage.retried += current.number > 1
            put(current)
        return bool(self.in_flight)

    def finish(self, current: _Try[Key], outcome: RequestOutcome) -> None:
        """Record the outcome of a try, and decide whether the prompt is sent again."""
        self.in_flight.discard(current)
        self._charge(current, outcome)
        if outcome.reply is not None:
            self.unreached = 0
            if len(current.form.refused) > len(self.form.refused):
                self.form = current.form
        again = None if outcome.fatal is not None else self._next_try(current, outcome)
        if again is not None:
            self.waiting.appendleft(again)
        elif outcome.reply is not None:
            self._record(current, outcome.reply)
        elif outcome.fatal is not None:
            self.fatal = self.fatal or outcome.fatal
        elif outcome.wait is not None and outcome.wait > LONGEST_RETRY_AFTER:
            self._give_up(current, f"{outcome.reason} (the server asks to wait {outcome.wait:,.0f} seconds)")
        else:
            self._give_up(current, outcome.reason)
            self._check_reachable(outcome)
            self._check_key(outcome)
        self.advance(self.replied + self.usage.failed, self.total, self._note())

    def _next_try(self, current: _Try[Key], outcome: RequestOutcome) -> _Try[Key] | None:
        """The next try of a prompt; None if there is none."""
        # Not limited by the number of tries: each has fewer parameters than the one before.
        form = current.form.without(outcome.refused_parameters) if outcome.refused_parameters else None
        if form is not None:
            return replace(current, form=form, number=current.number + 1, wait=0.0)
        if current.number >= self.endpoint.tries:
            return None
        if outcome.without_answer:
            # Thoughts may have taken all tokens. The same request would take them again.
            larger = LARGER * self.endpoint.max_tokens
            enlarged = replace(current, number=current.number + 1, wait=0.0, max_tokens=larger, thoughts=outcome.reply)
            return enlarged if current.max_tokens < larger else None
        if outcome.retryable and (outcome.wait is None or outcome.wait <= LONGEST_RETRY_AFTER):
            return replace(current, number=current.number + 1, wait=self._wait(current, outcome))
        return None

    def _wait(self, current: _Try[Key], outcome: RequestOutcome) -> float:
        """Seconds before the next try, with jitter: requests refused together must not return together."""
        if outcome.wait is not None:
            return outcome.wait + self.jitter.uniform(0, 1)
        return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (current.number - 1)) * self.jitter.uniform(0.5, 1.5)

    def _check_reachable(self, outcome: RequestOutcome) -> None:
        """End everything once as many prompts in a row as may be in flight could not reach the server."""
        self.unreached = self.unreached + 1 if outcome.unreached else 0
        if self.unreached >= min(self.endpoint.concurrency, self.total):
            problem = f"{self.endpoint.address} cannot be reached ({outcome.reason})"
            fix = "Check that the server is running and that base_url is right. Finished judgments are kept."
            self.fatal = self.fatal or UserError(problem, fix)

    def _check_key(self, outcome: RequestOutcome) -> None:
        """End everything once the first prompts were all refused: it is the key, not the prompts."""
        self.refused += outcome.refusal is not None
        if outcome.refusal is not None and not self.replied and self.refused >= min(REFUSED_PROMPTS, self.total):
            self.fatal = self.fatal or outcome.refusal

    def _reserve(self, current: _Try[Key]) -> float:
        """Dollars."""
        return self.endpoint.reserve(current.prompt, current.max_tokens)

    def _affordable(self, current: _Try[Key]) -> bool:
        if self.endpoint.spending_limit is None:
            return True
        reserved = sum(map(self._reserve, self.in_flight)) + self._reserve(current)
        return (self.usage.dollars or 0) + reserved <= self.endpoint.spending_limit

    def _charge(self, current: _Try[Key], outcome: RequestOutcome) -> None:
        prompt_tokens, completion_tokens = outcome.prompt_tokens, outcome.completion_tokens
        self.usage.prompt_tokens += prompt_tokens or 0
        self.usage.completion_tokens += completion_tokens or 0
        if self.usage.dollars is not None and outcome.billable:
            self.usage.dollars += self.endpoint.dollars(
                estimated_tokens(current.prompt) if prompt_tokens is None else prompt_tokens,
                current.max_tokens if completion_tokens is None else completion_tokens,
            )

    def _record(self, current: _Try[Key], reply: Reply) -> None:
        self.replied += 1
        self.record(current.key, current.prompt, reply)

    def _give_up(self, current: _Try[Key], reason: str) -> None:
        """Without a reply the prompt has failed; a reply of thoughts alone is recorded, without a score."""
        if current.thoughts is not None:
            self._record(current, current.thoughts)
        else:
            self.failed[current.key] = reason
            self.usage.failed += 1

    def _note(self) -> str:
        dollars = [] if self.usage.dollars is None else [f"{self.usage.dollars:.2f} dollars"]
        counts = {"retried": self.usage.retried, "failed": self.usage.failed}
        return ", ".join(["judgments", *dollars, *(f"{count} {name}" for name, count in counts.items() if count)])
