"""The thread that reads, as long as there is room for what it would read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from themis_pipeline.kafka.seam import Consumer, Listener, Partition, Record, Transport, TransportError
from themis_pipeline.runner.assignment import Assignment, Work
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.watchdog import Watchdog


class Outage(RuntimeError):
    """The brokers have not been heard of for so long that the process had better start anew."""


@dataclass(frozen=True, slots=True)
class PollingLimits:
    poll_s: float = 0.1
    """The longest one poll waits for records."""
    paused_poll_s: float = 0.01
    """The same while some partitions wait for room and others don't: nothing tells a poll of room that has come."""
    max_records: int = 500
    """Records of one poll."""
    round_s: float = 180.0
    """The longest one poll may take, with rebalances and the commits that they wait for; then the process is ended."""
    outage_s: float = 180.0
    """How long the brokers may be silent; above the time in which a group rebalances."""
    close_s: float = 15.0
    """For leaving the group."""
    look_s: float = 0.1
    """How often it is looked for markers behind the last records, which would count as lag."""
    show_s: float = 1.0
    """How often the gauges are set."""


class Polling:
    def __init__(
        self,
        transport: Transport,
        group: str,
        topics: Sequence[str],
        assignment: Assignment,
        watchdog: Watchdog,
        metrics: RunnerMetrics,
        limits: PollingLimits,
        deliver: Callable[[list[Work]], None],
    ) -> None:
        self._transport = transport
        self._group = group
        self._topics = topics
        self._assignment = assignment
        self._watchdog = watchdog
        self._metrics = metrics
        self._limits = limits
        self._deliver = deliver
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._paused: frozenset[Partition] = frozenset()
        self._idle = False
        self._failing_s: float | None = None
        self._looked_s = 0.0
        self._shown_s = 0.0
        self.joined = False
        """Whether it was a member of its group when that was last looked at."""

    def drain(self) -> None:
        """Reads no more, and stays in the group."""
        self._draining.set()

    def stop(self) -> None:
        self._stopping.set()

    def run(self, listener: Listener) -> None:
        """Until `stop`. Raises Outage, or TransportError for what trying again can't mend."""
        consumer = self._transport.consumer(self._group, self._topics, listener)
        with self._watchdog.guard("a poll", self._limits.round_s) as alive:
            try:
                while not self._stopping.is_set():
                    alive()
                    self._round(consumer)
            except BaseException:
                # Leaving the group would first commit, which can take as long as what has just failed.
                self._assignment.lost()
                self._leave(consumer, alive)
                raise
            alive()
            consumer.close(self._limits.close_s)

    def _leave(self, consumer: Consumer, alive: Callable[[], None]) -> None:
        """For what has failed already: the group finds out by itself as well."""
        alive()
        try:
            consumer.close(self._limits.close_s)
        except TransportError:
            return

    def _round(self, consumer: Consumer) -> None:
        try:
            works = self._assignment.take(self._polled(consumer))
            self._look(consumer)
            self._failing_s = None
        except TransportError as error:
            self._bear(error)
            return
        if works:
            self._deliver(works)
        if consumer.silent_s() > self._limits.outage_s:
            raise Outage(f"no broker was heard of for {self._limits.outage_s:g} s")

    def _polled(self, consumer: Consumer) -> Mapping[Partition, Sequence[Record]]:
        rooms = self._assignment.rooms(any_room=self._idle)
        readable, full = rooms.readable, rooms.full
        if self._draining.is_set():
            readable, full = frozenset(), readable | full
        consumer.pause(full - self._paused)
        consumer.resume(readable & self._paused)
        self._paused = full
        wait_s = self._limits.paused_poll_s if full else self._limits.poll_s
        if full and not readable:
            # The poll after it takes some time all the same: one of none never gets through a change of the group.
            self._assignment.await_room(self._limits.poll_s)
        polled = consumer.poll(wait_s, min(rooms.records or 1, self._limits.max_records))
        self._idle = not polled
        if not self._assignment.unopened:
            return polled
        self._open(consumer)
        return {}

    def _open(self, consumer: Consumer) -> None:
        """After a change of the group, in the thread that lets it happen: no other can come meanwhile."""
        self._paused = frozenset()
        membership = consumer.membership()
        if not membership.joined:
            return  # it was lost since: the next poll says so
        partitions = self._assignment.unopened
        committed = consumer.committed(partitions)
        missing = sorted(partitions - committed.keys())
        if missing:
            names = ", ".join(f"{one.topic}/{one.number}" for one in missing)
            raise TransportError(f"the group {self._group} has no offset of {names}: `themis-pipeline topics create`")
        positions = self._assignment.place(committed)
        for partition, position in positions.items():
            consumer.seek(partition, position)
        consumer.resume(positions)
        self._assignment.opened(membership)

    def _bear(self, error: TransportError) -> None:
        now_s = time.monotonic()
        self._failing_s = now_s if self._failing_s is None else self._failing_s
        if not error.retriable:
            raise error
        if now_s - self._failing_s > self._limits.outage_s:
            raise Outage(f"polls have failed for {self._limits.outage_s:g} s, the last with {error}") from error
        self._stopping.wait(self._limits.poll_s)

    def _look(self, consumer: Consumer) -> None:
        """Positions pass the markers of transactions, which no record tells of."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= self._limits.look_s:
            self._looked_s = now_s
            found = {one: consumer.position(one) for one in self._assignment.idle()}
            self._assignment.reached({one: position for one, position in found.items() if position is not None})
        if now_s - self._shown_s >= self._limits.show_s:
            self._shown_s = now_s
            self.joined = consumer.membership().joined
            self._show(consumer)

    def _show(self, consumer: Consumer) -> None:
        lag: dict[Partition, int] = {}
        for partition, offset in self._assignment.offsets().items():
            end = consumer.end(partition)
            if end is not None:
                lag[partition] = max(0, end - offset)
        self._metrics.shown(lag, self._assignment.in_hand(), self._assignment.progress_s())
