"""What is done about each partition, and what becomes of it: opened, archived, and after a failure opened again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future

from themis_judge.store.errors import StoreUnavailable
from themis_pipeline.archive.errors import ArchiveError, Overtaken
from themis_pipeline.archive.holding import Holding, Pending
from themis_pipeline.archive.holdings import Holdings
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.source import Follower
from themis_pipeline.archive.storing import Stored, Storing
from themis_pipeline.archive.writer import PartitionWriter
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.runner.polling import Outage


class Working:
    """For the thread that reads."""

    def __init__(self, storing: Storing, holdings: Holdings, limits: ArchiveLimits) -> None:
        self._storing = storing
        self._holdings = holdings
        self._limits = limits

    def full(self, held: Sequence[Holding]) -> bool:
        return sum(one.bytes for one in held) >= self._limits.total_bytes

    def store(self, threads: Executor, one: Holding) -> Future[object]:
        """All that is pending of a partition that is open."""
        assert one.writer is not None
        assert one.pending is not None
        return threads.submit(self._storing.store, one.partition, one.writer, one.pending.lot())

    def begin(self, held: Sequence[Holding], threads: Executor, *, stopping: bool) -> None:
        """Gives the threads what is due."""
        now_s = time.monotonic()
        # One whose task has just ended isn't idle: what it came to is still to be settled.
        idle = [one for one in held if one.task is None and one.running() is None]
        largest = max(idle, key=lambda one: one.bytes, default=None) if self.full(held) else None
        for one in idle:
            with self._holdings.lock:
                if not self._holdings.has(one):
                    continue
                if one.pending is None:
                    if now_s >= one.again_at_s and not stopping:
                        one.task = threads.submit(self._storing.open, one.partition, one.writer)
                elif self._due(one, now_s, at_once=stopping or one is largest):
                    one.task = self.store(threads, one)

    def settle(self, one: Holding, consumer: Follower) -> bool:
        """What a task has come to; False while none has ended. Raises what can't be mended by trying again, and
        Outage."""
        task = one.task
        if task is None or not task.done():
            return False
        self._settle(one, task, consumer)
        return True

    def _settle(self, one: Holding, task: Future[object], consumer: Follower) -> None:
        try:
            result = task.result()
            place = self._place(one, result, consumer) if isinstance(result, PartitionWriter) else None
        except (Overtaken, StoreUnavailable, TransportError) as error:
            self._failed(one, error)
            return
        with self._holdings.lock:
            if not self._holdings.has(one):
                return  # it is counted as what is left of a partition that has gone
            one.task = None
            if isinstance(result, PartitionWriter) and place is not None:
                self._opened(one, result, place)
            elif isinstance(result, Stored):
                self._stored(one, result)

    def _due(self, one: Holding, now_s: float, *, at_once: bool) -> bool:
        """What failed before is tried again as soon as there is something: it has waited for its time already."""
        pending, limits = one.pending, self._limits
        if not one.records:
            return self._markers_are_due(one, now_s)
        return pending is not None and (
            at_once
            or "store" in one.failing_s
            or one.records >= limits.records
            or one.bytes >= limits.bytes
            or now_s - pending.since_s >= limits.age_s
        )

    def _markers_are_due(self, one: Holding, now_s: float) -> bool:
        """Markers of transactions behind the last record: once retention takes them they would look like records that
        were deleted before they were archived."""
        pending = one.pending
        return (
            pending is not None
            and pending.reached > pending.start
            and now_s - pending.since_s >= self._limits.markers_s
        )

    def _place(self, one: Holding, writer: PartitionWriter, consumer: Follower) -> int:
        """Where to read from: where the archive ends, as long as the topic has that."""
        end, (first, last) = writer.position, consumer.bounds(one.partition)
        name = f"{one.partition.topic}/{one.partition.number}"
        if end > last:
            raise ArchiveError(
                f"{name}: is archived up to {end}, and ends at {last}: it is another topic of the same name; archive "
                "it to another place, or give the topics another prefix"
            )
        if 0 < end < first and not self._limits.skip_deleted:
            raise ArchiveError(
                f"{name}: offsets {end} to {first} were deleted before they were archived; skip_deleted goes on "
                "without them"
            )
        consumer.seek(one.partition, max(end, first))
        return max(end, first)

    def _opened(self, one: Holding, writer: PartitionWriter, place: int) -> None:
        one.failing_s.pop("open", None)
        if writer.position > one.end:  # what seemed to fail was archived, or another did it: storing works
            one.failing_s.clear()
        one.writer, one.end, one.pending = writer, writer.position, Pending(place, since_s=time.monotonic())

    def _stored(self, one: Holding, stored: Stored) -> None:
        self._holdings.count(stored)
        self._holdings.moved_on(one)
        one.failing_s.clear()
        if one.pending is not None:
            one.end = one.pending.reached
            one.pending = Pending(one.end, since_s=time.monotonic())

    def _failed(self, one: Holding, error: Exception) -> None:
        now_s = time.monotonic()
        with self._holdings.lock:
            if not self._holdings.has(one):
                return
            one.task = None
            self._holdings.count_failed(error)
            doing = one.doing
            one.forget(now_s if isinstance(error, Overtaken) else now_s + self._limits.pause_s)
        if isinstance(error, Overtaken):
            one.failing_s.clear()
        elif now_s - one.failing_s.setdefault(doing, now_s) > self._limits.outage_s:
            raise Outage(f"nothing was archived for {self._limits.outage_s:g} s: {error}") from error
