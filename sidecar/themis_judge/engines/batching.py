"""Batches across callers: a queue that is filled while the last batch computes.

The event loop submits work; one thread forms batches by tokens and by estimated seconds and hands them to a
backend. What is withdrawn before its batch is never computed. A batch that raises is tried again one by one, so
that one poisonous prompt costs only itself. A watchdog notices a backend that doesn't come back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from themis_judge.engines.base import (
    Batch,
    BatchObserver,
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineUnavailable,
    unobserved,
)

J = TypeVar("J")
R = TypeVar("R")

_GENERATION_SLICE_S = 0.25  # the least time that generation gets between two batches


class Backend(Protocol[J, R]):
    """What computes batches, in the batcher's thread."""

    def distinct_tokens(self, job: J, seen: set[object]) -> int:
        """Tokens that the job adds to a batch whose shared parts are in `seen`; adds its own to them."""
        ...

    def start(self, jobs: Sequence[J]) -> list[R | None]:
        """Computes jobs; None for those that need further steps."""
        ...

    def step(self) -> list[tuple[J, R | Exception]]:
        """One step of every unfinished job; those that it finished."""
        ...

    def drop(self, jobs: Sequence[J]) -> None:
        """Forgets unfinished jobs."""
        ...


@dataclass(slots=True)
class Ticket(Generic[J, R]):
    """A job in the queue and the caller who waits for it. Times on the monotonic clock, in seconds."""

    job: J
    future: asyncio.Future[R]
    loop: asyncio.AbstractEventLoop
    deadline: Deadline
    submitted_at_s: float
    started_at_s: float = 0.0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens per second, measured; a guess until the first batch is done."""

    tokens_per_s: float = 500.0
    batches: int = 0

    def after(self, tokens: int, seconds: float) -> Pace:
        measured = tokens / max(seconds, 1e-6)
        share = 0.3 if self.batches else 1.0
        return Pace(self.tokens_per_s + share * (measured - self.tokens_per_s), self.batches + 1)


class Batcher(Generic[J, R]):
    """One backend's queue. `max_batch_s` bounds how long a batch is expected to take, so that cancellation and
    new callers wait no longer than that; a single job may exceed both bounds."""

    def __init__(
        self,
        backend: Backend[J, R],
        *,
        max_batch_tokens: int,
        max_batch_s: float,
        stuck_after_s: float,
        finish: Callable[[R, float, float], R] = lambda result, _queued, _computed: result,
        observe: BatchObserver = unobserved,
    ) -> None:
        self._backend = backend
        self._max_batch_tokens = max_batch_tokens
        self._max_batch_s = max_batch_s
        self._stuck_after_s = stuck_after_s
        self._finish = finish
        self._observe = observe
        self._pace = Pace()
        self._queue: deque[Ticket[J, R]] = deque()
        self._taken: dict[int, Ticket[J, R]] = {}  # by identity of the job: computing, or generating
        self._busy_since_s: float | None = None
        self._failure: str | None = None
        self._closed = threading.Event()
        self._wake = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name="themis-engine", daemon=True),
            threading.Thread(target=self._watch, name="themis-engine-watchdog", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def pace(self) -> Pace:
        return self._pace

    async def submit(self, job: J, deadline: Deadline) -> R:
        """The job's result. Cancelling withdraws the job; raises EngineError and its kinds."""
        loop = asyncio.get_running_loop()
        ticket: Ticket[J, R] = Ticket(job, loop.create_future(), loop, deadline, time.monotonic())
        with self._wake:
            if self._failure or self._closed.is_set():
                raise EngineUnavailable(self._failure or "the engine is closed")
            self._queue.append(ticket)
            self._wake.notify()
        try:
            return await ticket.future
        finally:
            ticket.gone = True

    def close(self, timeout_s: float = 30.0) -> None:
        """Fails what waits, lets the batch in hand end, and joins the threads."""
        with self._wake:
            self._closed.set()
            self._wake.notify()
        for thread in self._threads:
            thread.join(timeout_s)

    # ------------------------------------------------------------------------------------------ engine thread

    def _run(self) -> None:
        reason = "the engine is closed"
        try:
            while self._wait_for_work():
                batch, tokens = self._take()
                self._busy_since_s = time.monotonic()
                self._compute(batch, tokens)
                self._busy_since_s = None
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread, its callers must not wait for ever
            reason = self._failure = f"the engine's thread ended: {type(error).__name__}: {error}"
        self._fail_all(reason)

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._queue or self._taken or self._closed.is_set()):
                self._wake.wait()
        return not self._closed.is_set()

    def _take(self) -> tuple[list[Ticket[J, R]], int]:
        """The next batch, oldest first: what is withdrawn or overdue leaves the queue here."""
        limit = min(self._max_batch_tokens, self._pace.tokens_per_s * self._max_batch_s)
        seen: set[object] = set()
        batch: list[Ticket[J, R]] = []
        total = 0
        while self._queue:
            ticket = self._queue[0]
            if ticket.gone or ticket.deadline.passed():
                self._queue.popleft()
                self._reject(ticket, DeadlineExceeded("the deadline passed in the queue"))
                continue
            tokens = self._backend.distinct_tokens(ticket.job, seen)
            if batch and total + tokens > limit:
                break
            self._taken[id(ticket.job)] = ticket
            self._queue.popleft()
            batch.append(ticket)
            total += tokens
        return batch, total

    def _compute(self, batch: list[Ticket[J, R]], tokens: int) -> None:
        """Computes a batch, then gives generation as long as the batch took."""
        began = time.monotonic()
        for ticket in batch:
            ticket.started_at_s = began
        if batch:
            for ticket, result in zip(batch, self._attempt(batch), strict=True):
                self._settle(ticket, result)
            seconds = time.monotonic() - began
            self._pace = self._pace.after(tokens, seconds) if tokens else self._pace
            self._observe(Batch(len(batch), tokens, seconds))
        until = time.monotonic() + max(time.monotonic() - began, _GENERATION_SLICE_S)
        while self._taken and time.monotonic() < until:
            self._busy_since_s = time.monotonic()
            self._step()

    def _attempt(self, batch: list[Ticket[J, R]]) -> list[R | Exception | None]:
        try:
            return list(self._backend.start([ticket.job for ticket in batch]))
        except Exception as error:  # noqa: BLE001 - a backend may raise anything, and the caller must hear of it
            self._backend.drop([ticket.job for ticket in batch])  # what it began would otherwise go on unheard
            if len(batch) == 1:
                return [error]
            return [self._attempt([ticket])[0] for ticket in batch]

    def _step(self) -> None:
        self._drop_departed()
        try:
            for job, result in self._backend.step():
                self._settle(self._taken[id(job)], result)
        except Exception as error:  # noqa: BLE001 - as above; which job was at fault can't be told
            jobs = list(self._taken.values())
            self._backend.drop([ticket.job for ticket in jobs])
            for ticket in jobs:
                self._settle(ticket, error)

    def _settle(self, ticket: Ticket[J, R], result: R | Exception | None) -> None:
        if result is None:
            return
        self._taken.pop(id(ticket.job), None)
        if isinstance(result, EngineError):
            self._reject(ticket, result)
        elif isinstance(result, Exception):
            failed = EngineError(f"the engine failed on this item: {type(result).__name__}")
            failed.__cause__ = result
            self._reject(ticket, failed)
        else:
            queued = ticket.started_at_s - ticket.submitted_at_s
            self._deliver(ticket, self._finish(result, queued, time.monotonic() - ticket.started_at_s))

    def _drop_departed(self) -> None:
        departed = [ticket for ticket in self._taken.values() if ticket.gone or ticket.deadline.passed()]
        if departed:
            self._backend.drop([ticket.job for ticket in departed])
        for ticket in departed:
            self._settle(ticket, DeadlineExceeded("the deadline passed during generation"))

    # ------------------------------------------------------------------------------------------ watchdog thread

    def _watch(self) -> None:
        while not self._closed.wait(self._stuck_after_s / 10):
            since = self._busy_since_s
            if since is not None and time.monotonic() - since > self._stuck_after_s:
                self._failure = f"the engine has been stuck for more than {self._stuck_after_s:g} s"
            if self._failure:
                self._fail_all(self._failure)
                return

    # ------------------------------------------------------------------------------------------ back to callers

    def _fail_all(self, reason: str) -> None:
        with self._wake:
            waiting = [*self._queue, *list(self._taken.values())]
            self._queue.clear()
        for ticket in waiting:
            self._reject(ticket, EngineUnavailable(reason))

    def _deliver(self, ticket: Ticket[J, R], result: R) -> None:
        self._call_back(ticket, lambda: ticket.future.set_result(result))

    def _reject(self, ticket: Ticket[J, R], error: EngineError) -> None:
        self._call_back(ticket, lambda: ticket.future.set_exception(error))

    def _call_back(self, ticket: Ticket[J, R], settle: Callable[[], None]) -> None:
        if ticket.gone:
            return
        with suppress(RuntimeError):  # the caller's loop is closed: nobody waits any more
            ticket.loop.call_soon_threadsafe(lambda: None if ticket.future.done() else settle())
