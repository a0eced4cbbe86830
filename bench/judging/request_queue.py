"""A chat model behind an OpenAI-compatible endpoint, asked many things at once.

Threads send requests and wait; they decide nothing. What is begun, tried again or given up, what it costs and what
becomes of a reply is decided in the calling thread, which hands on every reply as it comes: a judgment that was paid
for does not wait for the others. One that could not be had has a reason, and never a number.

What one request is and what can come of it stands in `bench.judging.request`.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bench.errors import UserError
from bench.judging.endpoint import Endpoint
from bench.judging.request import Outcome, Reply, ask, connect, key_of
from bench.progress import Advance, ignore_progress

if TYPE_CHECKING:
    from bench.judging.prompts import Prompt

Key = TypeVar("Key", bound=Hashable)

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second try, doubled before each later one up to the longest; all of them half as long again or
half as long, at random."""
LONGEST_TOLD_WAIT = 300.0
"""A server that asks to wait longer has had enough for the day: the request is given up."""


@dataclass
class Spent:
    """What asking took."""

    requests: int = 0
    """All that were sent."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the server counts them, those of unusable replies too."""
    dollars: float | None = None
    """At most: a reply that was lost or came without a count has cost what was set aside. None without prices."""
    retried: int = 0
    """How many of the requests repeated another."""
    failed: int = 0
    """What was asked and not answered."""

    def __add__(self, other: Spent) -> Spent:
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Spent(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            dollars,
            self.retried + other.retried,
            self.failed + other.failed,
        )


def ask_all(
    endpoint: Endpoint,
    asked: Iterable[tuple[Key, Prompt]],
    record: Callable[[Key, Prompt, Reply], None],
    advance: Advance = ignore_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Spent, dict[Key, str]]:
    """Ask a model everything. Returns what it took, and of what was not answered the reasons, by their keys.

    `record` is told of each reply as it comes, in the calling thread; `sleep` is called in others. On Ctrl-C the
    replies that have come are recorded before it is raised on. Raises UserError, once what was in flight is recorded,
    where no request can succeed: without the package openai or a key, for a key, a model or an address that is refused,
    and where the endpoint cannot be reached.
    """
    spent = Spent(dollars=0.0 if endpoint.priced else None)
    jobs = deque(_Job(key, prompt, endpoint.set_aside(prompt)) for key, prompt in asked)
    if not jobs:
        return spent, {}
    secret = key_of(endpoint)
    client = connect(endpoint, secret)
    todo: queue.SimpleQueue[_Job[Key] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[_Job[Key], Outcome]] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (job := todo.get()) is not None:
            try:
                if job.wait:
                    sleep(job.wait)
                outcome = Outcome(reason="stopped") if stopped.is_set() else ask(client, endpoint, secret, job.prompt)
            except BaseException as error:  # or the calling thread would wait for this one without end
                outcome = Outcome(ending=error)
            done.put((job, outcome))

    threads = min(endpoint.concurrency, len(jobs))
    asking = _Asking(endpoint, jobs, spent, record, advance)
    try:
        for _ in range(threads):
            # Daemons: after Ctrl-C nobody waits for a reply that may be minutes away.
            threading.Thread(target=work, daemon=True).start()
        while asking.begin(todo.put):
            asking.take(*_next(done))
            if asking.ending is not None:
                stopped.set()
    except KeyboardInterrupt:
        while not done.empty():
            asking.take(*done.get())
        raise
    finally:
        stopped.set()
        for _ in range(threads):
            todo.put(None)
        client.close()
    if asking.ending is not None:
        raise asking.ending
    return spent, asking.failed


def _next(done: queue.SimpleQueue[Any]) -> Any:
    while True:
        try:
            return done.get(timeout=1)  # not without end: on Windows that would not hear Ctrl-C
        except queue.Empty:
            continue


@dataclass(frozen=True, eq=False)
class _Job(Generic[Key]):
    """One try."""

    key: Key
    prompt: Prompt
    aside: float
    """Dollars."""
    number: int = 1
    wait: float = 0.0
    """Seconds before it is sent."""


class _Asking(Generic[Key]):
    """What waits, is in flight, was answered and was given up. Of the calling thread alone."""

    def __init__(
        self,
        endpoint: Endpoint,
        waiting: deque[_Job[Key]],
        spent: Spent,
        record: Callable[[Key, Prompt, Reply], None],
        advance: Advance,
    ) -> None:
        self.endpoint, self.waiting, self.spent, self.record, self.advance = endpoint, waiting, spent, record, advance
        self.total, self.answered, self.unreached = len(waiting), 0, 0
        self.flying: set[_Job[Key]] = set()
        self.failed: dict[Key, str] = {}
        self.ending: BaseException | None = None
        self.jitter = random.Random()  # not the one that others seed

    def begin(self, start: Callable[[_Job[Key]], None]) -> bool:
        """Begin what may be begun now. Returns whether anything is in flight."""
        while self.waiting and len(self.flying) < self.endpoint.concurrency and self.ending is None:
            if not self._affords(self.waiting[0]):
                if not self.flying:  # else one of those may turn out cheaper than what was set aside for it
                    for job in self.waiting:
                        self._give_up(job, "spending limit reached")
                    self.waiting.clear()
                break
            job = self.waiting.popleft()
            self.flying.add(job)
            self.spent.requests += 1
            self.spent.retried += job.number > 1
            start(job)
        return bool(self.flying)

    def take(self, job: _Job[Key], outcome: Outcome) -> None:
        """Do what is to be done about an outcome."""
        self.flying.discard(job)
        self._pay(job, outcome)
        if outcome.reply is not None:
            self.answered += 1
            self.unreached = 0
            self.record(job.key, job.prompt, outcome.reply)
        elif outcome.ending is not None:
            self.ending = self.ending or outcome.ending
        elif outcome.wait is not None and outcome.wait > LONGEST_TOLD_WAIT:
            self._give_up(job, f"{outcome.reason} (the server asks to wait {outcome.wait:,.0f} seconds)")
        elif outcome.again and job.number < self.endpoint.tries:
            self.waiting.appendleft(replace(job, number=job.number + 1, wait=self._wait(job, outcome)))
        else:
            self._give_up(job, outcome.reason)
            self._see_whether_anyone_is_there(outcome)
        self.advance(self.answered + self.spent.failed, self.total, self._note())

    def _wait(self, job: _Job[Key], outcome: Outcome) -> float:
        """Seconds before the next try. Requests that were refused together do not come back together."""
        if outcome.wait is not None:
            return outcome.wait + self.jitter.uniform(0, 1)
        return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (job.number - 1)) * self.jitter.uniform(0.5, 1.5)

    def _see_whether_anyone_is_there(self, outcome: Outcome) -> None:
        """End all when as many requests as fly at once were given up in a row because nobody took them."""
        self.unreached = self.unreached + 1 if outcome.unreached else 0
        if self.unreached >= min(self.endpoint.concurrency, self.total):
            problem = f"{self.endpoint.address} cannot be reached ({outcome.reason})"
            self.ending = self.ending or UserError(
                problem, "Is the server running, and base_url right? What has come is kept."
            )

    def _affords(self, job: _Job[Key]) -> bool:
        if self.endpoint.spending_limit is None:
            return True
        aside = sum(one.aside for one in self.flying) + job.aside
        return (self.spent.dollars or 0) + aside <= self.endpoint.spending_limit

    def _pay(self, job: _Job[Key], outcome: Outcome) -> None:
        taken, made = outcome.prompt_tokens, outcome.completion_tokens
        self.spent.prompt_tokens += taken or 0
        self.spent.completion_tokens += made or 0
        if self.spent.dollars is None:
            return
        if taken is not None and made is not None:
            self.spent.dollars += self.endpoint.dollars(taken, made)
        elif outcome.worked:
            self.spent.dollars += job.aside

    def _give_up(self, job: _Job[Key], reason: str) -> None:
        self.failed[job.key] = reason
        self.spent.failed += 1

    def _note(self) -> str:
        dollars = [] if self.spent.dollars is None else [f"{self.spent.dollars:.2f} dollars"]
        counts = {"tried again": self.spent.retried, "failed": self.spent.failed}
        return ", ".join(["judgments", *dollars, *(f"{count} {name}" for name, count in counts.items() if count)])
