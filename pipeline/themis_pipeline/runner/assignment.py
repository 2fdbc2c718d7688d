"""What this process has in hand, partition by partition, shared by the threads that poll, handle and commit.

A group's generation is what makes partitions one member's alone: what is committed carries the generation in which its
partitions were opened, and the broker refuses it once there is another. Windows live on through a change of the group
where the partition stays here, so that what is being handled isn't lost: if the group's own account of the partition,
which is read anew, says that nobody has committed anything since.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from themis_pipeline.kafka.seam import Membership, Output, Partition, Place, Record
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.window import PartitionWindow, Prefix


@dataclass(frozen=True, slots=True)
class Work:
    """A record to be handled, for the window that took it."""

    record: Record
    epoch: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction is to hold."""

    prefixes: tuple[Prefix, ...]
    membership: Membership

    @property
    def places(self) -> dict[Partition, Place]:
        return {prefix.partition: prefix.place for prefix in self.prefixes}

    @property
    def records(self) -> int:
        return sum(prefix.records for prefix in self.prefixes)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Which partitions to read from, and how many records at most, whichever of them they are of."""

    readable: frozenset[Partition]
    full: frozenset[Partition]
    records: int


class Assignment:
    """`cancel` is told the epochs of windows that are given up; epochs count up over the life of the process."""

    def __init__(
        self,
        metrics: RunnerMetrics,
        cancel: Callable[[Collection[int]], None],
        *,
        max_records: int,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._cancel = cancel
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._room = threading.Event()
        self._windows: dict[Partition, PartitionWindow] = {}
        self._progress_s: dict[Partition, float] = {}
        self._unopened: frozenset[Partition] = frozenset()
        self._membership: Membership | None = None
        self._epoch = 0
        self._ready = 0
        self._worthwhile = 1
        self._released = False

    # --------------------------------------------------------------------------------------- partitions come and go

    def came(self, partitions: Iterable[Partition]) -> None:
        """These are all that this member has now, and are to be opened; windows of others are given up."""
        with self._lock:
            self._membership = None
            self._unopened = frozenset(partitions)
            gone = self._dropped(one for one in list(self._windows) if one not in self._unopened)
        self._tell(gone, "revoked")

    def lost(self) -> None:
        """Everything is given up, what is finished and not committed included: others may have it already."""
        with self._lock:
            self._membership = None
            self._unopened = frozenset()
            gone = self._dropped(list(self._windows))
        self._tell(gone, "lost")

    @property
    def unopened(self) -> frozenset[Partition]:
        return self._unopened

    def place(self, committed: Mapping[Partition, int]) -> dict[Partition, int]:
        """By the group's own account; returns where each of them is to be read from."""
        with self._lock:
            moved = [
                one for one in self._unopened if one in self._windows and self._windows[one].committed != committed[one]
            ]
            gone = self._dropped(moved)
            new = [one for one in self._unopened if one not in self._windows]
            for one in new:
                self._epoch += 1
                self._windows[one] = PartitionWindow(
                    one, self._epoch, committed[one], self._max_records, self._max_bytes
                )
                self._progress_s[one] = self._clock()
            positions = {one: self._windows[one].position for one in self._unopened}
        self._tell(gone, "revoked")
        self._metrics.moved("assigned", len(new))
        return positions

    def opened(self, membership: Membership) -> None:
        """They are read from their places, and committed in this name."""
        with self._lock:
            self._unopened = frozenset()
            self._membership = membership

    def _dropped(self, partitions: Iterable[Partition]) -> list[PartitionWindow]:
        dropped = [self._windows.pop(one) for one in partitions]
        for window in dropped:
            self._ready -= window.ready
            del self._progress_s[window.partition]
        self._weigh()
        return dropped

    def _weigh(self) -> None:
        in_use = sum(1 for window in self._windows.values() if len(window))
        self._worthwhile = max(1, in_use * self._max_records // 2)

    def _tell(self, gone: Sequence[PartitionWindow], how: str) -> None:
        if gone:
            self._cancel([window.epoch for window in gone])
        for window in gone:
            self._metrics.gone(window.partition)
        self._metrics.moved(how, len(gone))

    # --------------------------------------------------------------------------------------- records come and go

    def take(self, polled: Mapping[Partition, Sequence[Record]]) -> list[Work]:
        """What comes while partitions are not open is left out: it is read again from where they are opened."""
        works: list[Work] = []
        with self._lock:
            if self._membership is None:
                return []
            for partition, records in polled.items():
                window = self._windows[partition]
                for record in records:
                    window.take(record)
                works += [Work(record, window.epoch) for record in records]
            self._weigh()
        return works

    def finish(self, work: Work, outputs: Sequence[Output]) -> bool:
        """False: the window has been given up since, and the outputs with it."""
        with self._lock:
            window = self._windows.get(work.record.partition)
            if window is None or window.epoch != work.epoch:
                return False
            before = window.ready
            window.finished(work.record.offset, outputs)
            self._ready += window.ready - before
            if (window.ready - before) * 4 >= self._max_records:
                self._released = True
            return True

    def replace(self, prefix: Prefix, record: Record, outputs: Sequence[Output]) -> bool:
        """Other outputs for a finished record; False where that was done before."""
        with self._lock:
            window = self._windows.get(record.partition)
            if window is None or window.epoch != prefix.epoch:
                return True
            return window.replace(record.offset, outputs)

    def reached(self, positions: Mapping[Partition, int]) -> None:
        with self._lock:
            for partition, position in positions.items():
                self._windows[partition].reached(position)

    def batch(self, *, max_records: int, max_bytes: int) -> Batch | None:
        """The finished prefixes, within the limits but at least one record; None: there is nothing to commit now."""
        prefixes: list[Prefix] = []
        with self._lock:
            if self._membership is None:
                return None
            self._released = False
            for window in self._windows.values():
                if max_records <= 0 or max_bytes <= 0:
                    break
                prefix = window.prefix(max_records, max_bytes)
                if prefix is not None:
                    prefixes.append(prefix)
                    max_records -= prefix.records
                    max_bytes -= prefix.output_bytes
            return Batch(tuple(prefixes), self._membership) if prefixes else None

    def committed(self, batch: Batch, offsets: Mapping[Partition, int] | None = None) -> int:
        """The batch is written, or as much of it as `offsets`, the group's own account, says: a batch is written
        whole or not at all, partition by partition alike. Returns how many records are done with."""
        done = 0
        with self._lock:
            for prefix in batch.prefixes:
                window = self._windows.get(prefix.partition)
                if window is None or window.epoch != prefix.epoch:
                    continue
                if offsets is not None and offsets.get(prefix.partition, -1) < prefix.place.offset:
                    continue
                count = window.commit(prefix.place.offset)
                self._ready -= count
                done += count
                self._progress_s[prefix.partition] = self._clock()
            self._weigh()
        self._room.set()
        return done

    # --------------------------------------------------------------------------------------- how much there is

    @property
    def ready(self) -> int:
        """Records that could be committed now."""
        return self._ready

    def due(self, records: int) -> bool:
        """There is so much ready that waiting for more would hold up the rest: so many records, or half of what the
        partitions can hold that have anything in hand; or a slow one is done that a good part of a window waited for,
        and its partition stands still until they are committed. Never while nothing can be committed."""
        return self._membership is not None and (self._released or self._ready >= min(records, self._worthwhile))

    def rooms(self, *, any_room: bool) -> Rooms:
        """Unless `any_room`, a partition that has room for a few records only waits for more of it, if others have:
        one poll's records may all be of one partition, and many small polls cost more than a few large ones."""
        with self._lock:
            rooms = {partition: window.room for partition, window in self._windows.items()}
        for least in (1,) if any_room else (max(1, self._max_records // 4), 1):
            readable = {partition for partition, room in rooms.items() if room >= least}
            if readable:
                break
        records = min((rooms[one] for one in readable), default=0)
        return Rooms(frozenset(readable), frozenset(rooms.keys() - readable), records)

    def await_room(self, timeout_s: float) -> None:
        """Returns when something was committed since the last call, or after that time."""
        self._room.wait(timeout_s)
        self._room.clear()

    def idle(self) -> list[Partition]:
        """Partitions that are open and of which nothing is in hand."""
        with self._lock:
            if self._membership is None:
                return []
            return [partition for partition, window in self._windows.items() if not len(window)]

    def in_hand(self) -> dict[Partition, int]:
        """Records taken and not committed."""
        with self._lock:
            return {partition: len(window) for partition, window in self._windows.items()}

    def offsets(self) -> dict[Partition, int]:
        """Up to where each is committed."""
        with self._lock:
            return {partition: window.committed for partition, window in self._windows.items()}

    def progress_s(self) -> dict[Partition, float]:
        """When, by the clock, each partition's offset last moved, or the partition came."""
        with self._lock:
            return dict(self._progress_s)
