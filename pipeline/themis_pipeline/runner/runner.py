"""One stage, running: a thread that polls, an event loop that handles, a thread that commits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from themis_pipeline.kafka.seam import Transport
from themis_pipeline.runner.assignment import Assignment, Work
from themis_pipeline.runner.committer import CommitLimits, Committer
from themis_pipeline.runner.committing import Committing, CommittingLimits
from themis_pipeline.runner.failpoints import Failpoints, NoFailpoints
from themis_pipeline.runner.handling import Handling, HandlingLimits
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.polling import Polling, PollingLimits
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.stage import Stage
from themis_pipeline.runner.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    window_records: int = 64
    """Records of one partition in hand at a time."""
    window_bytes: int = 32 * 1024**2
    """The same in bytes, outputs that wait included; one poll may go beyond it."""
    drain_s: float = 30.0
    """At the end, for records in hand to be finished; the others are done again elsewhere."""
    polling: PollingLimits = field(default_factory=PollingLimits)
    handling: HandlingLimits = field(default_factory=HandlingLimits)
    committing: CommittingLimits = field(default_factory=CommittingLimits)
    transactions: CommitLimits = field(default_factory=CommitLimits)


class Runner:
    """`transactional_id` belongs to one process at a time, and is the same after its restart: a successor with
    another one waits for what the dead one left open."""

    def __init__(
        self,
        stage: Stage,
        retries: Retries,
        transport: Transport,
        transactional_id: str,
        watchdog: Watchdog,
        metrics: RunnerMetrics,
        limits: RunnerLimits | None = None,
        failpoints: Failpoints | None = None,
    ) -> None:
        self._stage = stage
        self._retries = retries
        self._metrics = metrics
        self._limits = limits or RunnerLimits()
        self._assignment = Assignment(
            metrics, self._cancel, max_records=self._limits.window_records, max_bytes=self._limits.window_bytes
        )
        self._polling = Polling(
            transport,
            stage.name,
            [*stage.topics, retries.topic],
            self._assignment,
            watchdog,
            metrics,
            self._limits.polling,
            self._deliver,
        )
        failpoints = failpoints or NoFailpoints()
        committer = Committer(
            transport,
            stage.name,
            transactional_id,
            self._assignment,
            retries.instead,
            watchdog,
            metrics,
            self._limits.transactions,
            failpoints,
        )
        self._committing = Committing(committer, self._assignment, self._limits.committing, failpoints)
        self._stop_asked = asyncio.Event()

    def stop(self) -> None:
        """Reads no more, finishes what is in hand within `drain_s`, commits it and leaves. For the loop's thread."""
        self._stop_asked.set()

    @property
    def joined(self) -> bool:
        """Whether it is a member of its group, though perhaps with no partition of its own."""
        return self._polling.joined

    async def run(self) -> None:
        """Until `stop`. Raises what ended it otherwise: Outage, CommitsFail, TransportError."""
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._handling = Handling(
            self._stage,
            self._retries,
            self._assignment,
            self._metrics,
            self._limits.handling,
            finished=self._committing.finished,
            failed=self._fail,
        )
        with ThreadPoolExecutor(2, thread_name_prefix=f"themis-{self._stage.name}") as threads:
            committing = self._loop.run_in_executor(threads, self._committing.run)
            polling = self._loop.run_in_executor(threads, self._polling.run, self._committing)
            try:
                await self._until_over(polling, committing)
            finally:
                await self._wind_up(polling, committing)

    async def _until_over(self, polling: asyncio.Future[None], committing: asyncio.Future[None]) -> None:
        asked = self._loop.create_task(self._asked())
        try:
            ends: set[asyncio.Future[None]] = {polling, committing, self._broken}
            await asyncio.wait({asked, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop_asked.is_set():
                self._polling.drain()
                self._handling.drain()
                await self._handling.idle(self._limits.drain_s)
        finally:
            asked.cancel()

    async def _asked(self) -> None:
        await self._stop_asked.wait()

    async def _wind_up(self, polling: asyncio.Future[None], committing: asyncio.Future[None]) -> None:
        """In this order: leaving the group commits what is finished, for which the other thread must be there."""
        self._polling.stop()
        await asyncio.wait({polling})
        self._committing.stop()
        await asyncio.wait({committing})
        await self._handling.close()
        over = [polling, committing] + ([self._broken] if self._broken.done() else [])
        errors = [error for one in over if (error := one.exception()) is not None]
        if errors:
            raise errors[0]

    def _deliver(self, works: list[Work]) -> None:
        self._loop.call_soon_threadsafe(self._handling.start, works)

    def _cancel(self, epochs: Collection[int]) -> None:
        self._loop.call_soon_threadsafe(self._handling.cancel, epochs)

    def _fail(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
