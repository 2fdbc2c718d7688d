"""The thread that reads for the archive: it never waits for the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from themis_pipeline.archive.holding import Holding
from themis_pipeline.archive.holdings import Holdings
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.source import Follower, Source
from themis_pipeline.archive.working import Working
from themis_pipeline.kafka.seam import Partition, Record, TransportError
from themis_pipeline.runner.polling import Outage
from themis_pipeline.runner.watchdog import Watchdog


class Reading:
    """`run` is for a thread of its own."""

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        source: Source,
        holdings: Holdings,
        working: Working,
        watchdog: Watchdog,
        limits: ArchiveLimits,
    ) -> None:
        self._group = group
        self._topics = topics
        self._source = source
        self._holdings = holdings
        self._working = working
        self._watchdog = watchdog
        self._limits = limits
        self._stopping = threading.Event()
        self._stop_by_s = 0.0
        self._failing_s: float | None = None
        self._shown_s = 0.0

    def stop(self) -> None:
        """For any thread."""
        if not self._stopping.is_set():
            self._stop_by_s = time.monotonic() + self._limits.drain_s
            self._stopping.set()

    def run(self) -> None:
        """Until `stop` and what was read is archived, or `drain_s` is over."""
        with ThreadPoolExecutor(self._limits.writers, thread_name_prefix="themis-archiving") as threads:
            self._holdings.begin(partial(self._working.store, threads))
            consumer = self._source.follower(self._group, self._topics, self._holdings)
            with self._watchdog.guard("a poll", self._limits.polling.round_s) as alive:
                try:
                    while not self._over():
                        alive()
                        self._round(consumer, threads)
                finally:
                    alive()
                    consumer.close(self._limits.polling.close_s)
        self._holdings.raise_broken()

    def _over(self) -> bool:
        if not self._stopping.is_set():
            return False
        waiting = any(one.records or one.task is not None for one in self._holdings.all())
        return not waiting or time.monotonic() >= self._stop_by_s

    def _round(self, consumer: Follower, threads: ThreadPoolExecutor) -> None:
        self._holdings.raise_broken()
        held = self._holdings.all()
        limits = self._limits.polling
        self._settle(held, consumer)
        self._working.begin(held, threads, stopping=self._stopping.is_set())
        readable = self._readable(held)
        try:
            consumer.pause([one.partition for one in held if one not in readable])
            consumer.resume([one.partition for one in readable])
            room = min((self._limits.records - one.records for one in readable), default=1)
            wait_s = limits.poll_s if len(readable) == len(held) else limits.paused_poll_s
            polled = consumer.poll(wait_s, min(room, limits.max_records))
            self._take(polled, readable)
            if not polled:
                self._look(consumer, readable)
            self._tell(consumer, held)
            self._failing_s = None
        except TransportError as error:
            self._bear(error)
        if consumer.silent_s() > limits.outage_s:
            raise Outage(f"no broker was heard of for {limits.outage_s:g} s")

    def _settle(self, held: Sequence[Holding], consumer: Follower) -> None:
        """Each may ask brokers that don't answer: once that took long the others have their turn in the next round,
        for who doesn't poll is thrown out of the group."""
        until_s = time.monotonic() + self._limits.polling.poll_s
        for one in sorted(held, key=lambda one: one.settled_s):
            if self._working.settle(one, consumer):
                one.settled_s = time.monotonic()
            if time.monotonic() > until_s:
                return

    def _readable(self, held: Sequence[Holding]) -> list[Holding]:
        """Reading goes on while there is room, in the partition and in all."""
        if self._stopping.is_set() or self._working.full(held):
            return []
        limits = self._limits
        return [
            one
            for one in held
            if one.pending is not None
            and one.task is None
            and one.records < limits.records
            and one.bytes < limits.bytes
        ]

    def _take(self, polled: Mapping[Partition, Sequence[Record]], readable: Sequence[Holding]) -> None:
        """What comes of another partition was fetched before the archive's place in it was known."""
        now_s = time.monotonic()
        with self._holdings.lock:
            for one in readable:
                records = polled.get(one.partition)
                if records and one.pending is not None and self._holdings.has(one):
                    one.pending.take(records, now_s)

    def _look(self, consumer: Follower, readable: Sequence[Holding]) -> None:
        """Positions pass the markers of transactions, which no record tells of; not while records come, it costs."""
        positions = {one.partition: consumer.position(one.partition) for one in readable}
        with self._holdings.lock:
            for one in readable:
                position = positions[one.partition]
                if position is not None and one.pending is not None and self._holdings.has(one):
                    one.pending.reached = max(one.pending.reached, position)

    def _tell(self, consumer: Follower, held: Sequence[Holding]) -> None:
        """The group of what is archived, or passed without a record; people of the rest."""
        now_s = time.monotonic()
        if now_s - self._shown_s < self._limits.polling.show_s:
            return
        self._shown_s = now_s
        places = {one.partition: one.passed for one in held if one.passed > one.noted}
        if places and consumer.note(places):
            for one in held:
                one.noted = places.get(one.partition, one.noted)
        lag: dict[Partition, int] = {}
        for one in held:
            end = consumer.end(one.partition)
            if end is not None and one.pending is not None:
                lag[one.partition] = max(0, end - one.pending.reached) + one.records
        self._holdings.show(lag, {one.partition: one.records for one in held})

    def _bear(self, error: TransportError) -> None:
        now_s = time.monotonic()
        self._failing_s = now_s if self._failing_s is None else self._failing_s
        if not error.retriable or now_s - self._failing_s > self._limits.outage_s:
            raise error
        self._stopping.wait(self._limits.polling.poll_s)
