"""Handles records side by side on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from themis_pipeline.kafka.seam import Output
from themis_pipeline.runner.assignment import Assignment, Work
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.stage import Delivery, Malformed, Origin, Stage


class HandlerTooSlow(Exception):
    """A handler took longer than it may, and was cancelled."""


@dataclass(frozen=True, slots=True)
class HandlingLimits:
    concurrent: int = 256
    """Handlers at work at a time, over all partitions; records that wait for their time are not counted."""
    handle_s: float = 300.0
    """The longest one handling may take."""


class _Ending:
    """What goes wrong here ends the runner: the loop would note it and go on, and the record be in hand for ever."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self._failed(error)
        return True


class Handling:
    """All methods are for the event loop's thread."""

    def __init__(
        self,
        stage: Stage,
        retries: Retries,
        assignment: Assignment,
        metrics: RunnerMetrics,
        limits: HandlingLimits,
        *,
        finished: Callable[[], None],
        failed: Callable[[BaseException], None],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._stage = stage
        self._retries = retries
        self._assignment = assignment
        self._metrics = metrics
        self._limits = limits
        self._finished = finished
        self._failed = failed
        self._wall_ms = wall_ms
        self._slots = asyncio.Semaphore(limits.concurrent)
        self._tasks: dict[int, set[asyncio.Task[Sequence[Output]]]] = defaultdict(set)
        self._late: set[asyncio.Task[Sequence[Output]] | None] = set()
        self._waiting: set[asyncio.Task[Sequence[Output]] | None] = set()
        self._draining = False

    def start(self, works: Sequence[Work]) -> None:
        with _Ending(self._failed):
            for work in works:
                self._start(work)

    def _start(self, work: Work) -> None:
        delivery = self._delivery(work)
        if isinstance(delivery, Malformed):
            origin = Origin(work.record.partition, work.record.offset, work.record.written_at_ms)
            self._gave_up(work, Delivery(work.record, origin), delivery)
            return
        task = asyncio.get_running_loop().create_task(self._handle(delivery))
        self._tasks[work.epoch].add(task)
        task.add_done_callback(partial(self._ended, work=work, delivery=delivery))

    def drain(self) -> None:
        """Records that wait for their time are left to whoever has the partition next."""
        self._draining = True
        for task in list(self._waiting):
            if task is not None:
                task.cancel()

    def cancel(self, epochs: Collection[int]) -> None:
        """Of windows that are given up: what their handlers would return has no place to go any more."""
        for epoch in epochs:
            for task in self._tasks.pop(epoch, ()):
                task.cancel()

    async def idle(self, timeout_s: float) -> None:
        """Returns when nothing is being handled, or after that time."""
        until_s = time.monotonic() + timeout_s
        while (left := self._all()) and (remaining_s := until_s - time.monotonic()) > 0:
            await asyncio.wait(left, timeout=remaining_s)

    async def close(self) -> None:
        """Cancels all, and waits for it."""
        left = self._all()
        self.cancel(list(self._tasks))
        await asyncio.gather(*left, return_exceptions=True)

    def _all(self) -> list[asyncio.Task[Sequence[Output]]]:
        return [task for tasks in self._tasks.values() for task in tasks]

    def _delivery(self, work: Work) -> Delivery | Malformed:
        if work.record.value is None:
            return Malformed("NullValue")
        try:
            return self._retries.delivery(work.record)
        except Malformed as error:
            return error

    async def _handle(self, delivery: Delivery) -> Sequence[Output]:
        wait_ms = delivery.not_before_ms - self._wall_ms() if delivery.not_before_ms else 0
        if wait_ms > 0:
            await self._sleep(wait_ms / 1000)
        async with self._slots:
            timer = asyncio.get_running_loop().call_later(self._limits.handle_s, self._too_slow, asyncio.current_task())
            started_s = time.monotonic()
            try:
                outputs = await self._stage.handle(delivery)
            finally:
                timer.cancel()
                self._metrics.handled(time.monotonic() - started_s)
        self._retries.check(outputs)
        return outputs

    async def _sleep(self, seconds: float) -> None:
        if self._draining:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting.discard(task)

    def _too_slow(self, task: asyncio.Task[Sequence[Output]] | None) -> None:
        if task is not None:
            self._late.add(task)
            task.cancel()

    def _ended(self, task: asyncio.Task[Sequence[Output]], work: Work, delivery: Delivery) -> None:
        with _Ending(self._failed):
            self._settle(task, work, delivery)

    def _settle(self, task: asyncio.Task[Sequence[Output]], work: Work, delivery: Delivery) -> None:
        self._forget(task, work.epoch)
        late = task in self._late
        self._late.discard(task)
        error = (HandlerTooSlow() if late else None) if task.cancelled() else task.exception()
        if task.cancelled() and not late:
            self._metrics.outcome("dropped")
        elif error is None:
            self._done(work, task.result(), "done")
        elif isinstance(error, Exception):
            self._gave_up(work, delivery, error)
        else:
            self._failed(error)

    def _forget(self, task: asyncio.Task[Sequence[Output]], epoch: int) -> None:
        tasks = self._tasks.get(epoch)
        if tasks is not None:
            tasks.discard(task)

    def _gave_up(self, work: Work, delivery: Delivery, error: Exception) -> None:
        output = self._retries.after(error, delivery, self._wall_ms())
        self._done(work, [output], "retried" if output.topic == self._retries.topic else "dead")

    def _done(self, work: Work, outputs: Sequence[Output], outcome: str) -> None:
        kept = self._assignment.finish(work, outputs)
        self._metrics.outcome(outcome if kept else "dropped")
        self._finished()
