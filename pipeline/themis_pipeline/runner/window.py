"""What is in hand of one partition: records are finished in any order, and committed in theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from themis_pipeline.kafka.seam import Output, Partition, Place, Record


class WindowFull(RuntimeError):
    """More was taken than there was room for."""


class OutOfOrder(RuntimeError):
    """A record came whose place is not behind all that came before it, or one was finished that is not in hand."""


class Done(NamedTuple):
    """A record, and all that came of it."""

    record: Record
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """What may be committed now: everything before `place` is done."""

    partition: Partition
    epoch: int
    place: Place
    done: tuple[Done, ...]
    output_bytes: int

    @property
    def outputs(self) -> list[Output]:
        return [output for one in self.done for output in one.outputs]

    @property
    def records(self) -> int:
        return len(self.done)


@dataclass(slots=True)
class _Entry:
    record: Record
    outputs: tuple[Output, ...] | None = None
    output_bytes: int = 0
    replaced: bool = False
    following: _Entry | None = None


@dataclass(slots=True)
class PartitionWindow:
    """`start` is what the group had committed when the window was opened. `epoch` tells the windows of this process
    apart, so that work of one doesn't end in another.

    Holds at most `max_records`. Bytes are counted of records and of outputs that wait; what takes them beyond
    `max_bytes` is still taken, and there is no room afterwards.
    """

    partition: Partition
    epoch: int
    start: int
    max_records: int
    max_bytes: int
    _entries: deque[_Entry] = field(default_factory=deque)
    _by_offset: dict[int, _Entry] = field(default_factory=dict)
    _first_unfinished: _Entry | None = None
    _bytes: int = 0
    _finished: int = 0
    _ready: int = 0
    _next_offset: int = field(init=False)
    _committed: int = field(init=False)
    _reached: int = field(init=False)

    def __post_init__(self) -> None:
        self._next_offset = self._committed = self._reached = self.start

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def room(self) -> int:
        """How many more records may be taken."""
        return 0 if self._bytes >= self.max_bytes else self.max_records - len(self._entries)

    @property
    def unfinished(self) -> int:
        return len(self._entries) - self._finished

    @property
    def ready(self) -> int:
        """Finished records before the first unfinished one."""
        return self._ready

    @property
    def committed(self) -> int:
        """The offset up to which all is committed, by this window or before it."""
        return self._committed

    @property
    def position(self) -> int:
        """The offset from which on nothing was taken."""
        return max(self._next_offset, self._reached)

    def take(self, record: Record) -> None:
        """Raises WindowFull, and OutOfOrder for a record that is not behind the others."""
        if len(self._entries) >= self.max_records:
            raise WindowFull(f"{self.partition} has {len(self._entries)} records in hand")
        if record.offset < self._next_offset:
            raise OutOfOrder(f"{self.partition}: {record.offset} came where {self._next_offset} is next")
        entry = _Entry(record)
        if self._entries:
            self._entries[-1].following = entry
        if self._first_unfinished is None:
            self._first_unfinished = entry
        self._entries.append(entry)
        self._by_offset[record.offset] = entry
        self._bytes += record.size_bytes
        self._next_offset = record.offset + 1

    def finished(self, offset: int, outputs: Sequence[Output]) -> None:
        """Raises OutOfOrder for a record that is not in hand, or finished already."""
        entry = self._by_offset.get(offset)
        if entry is None or entry.outputs is not None:
            raise OutOfOrder(f"{self.partition}: {offset} is not in hand")
        self._set(entry, outputs)
        self._finished += 1
        while self._first_unfinished is not None and self._first_unfinished.outputs is not None:
            self._first_unfinished = self._first_unfinished.following
            self._ready += 1

    def replace(self, offset: int, outputs: Sequence[Output]) -> bool:
        """Other outputs for a finished record whose own can't be written; once, and False after that."""
        entry = self._by_offset.get(offset)
        if entry is None or entry.outputs is None or entry.replaced:
            return False
        entry.replaced = True
        self._bytes -= entry.output_bytes
        self._set(entry, outputs)
        return True

    def _set(self, entry: _Entry, outputs: Sequence[Output]) -> None:
        entry.outputs = tuple(outputs)
        entry.output_bytes = sum(output.size_bytes for output in entry.outputs)
        self._bytes += entry.output_bytes

    def reached(self, position: int) -> None:
        """The reader will give nothing before `position` any more: markers of transactions lie before it."""
        self._reached = max(self._reached, position)

    def prefix(self, max_records: int, max_bytes: int) -> Prefix | None:
        """The finished records before the first unfinished one, as many as the limits allow but at least one; None
        if there is nothing to commit. Nothing changes: the same is given again until `commit` is called."""
        done: list[Done] = []
        weight = 0
        for entry in self._entries:
            if entry.outputs is None or len(done) >= max_records:
                break
            if done and weight + entry.output_bytes > max_bytes:
                break
            done.append(Done(entry.record, entry.outputs))
            weight += entry.output_bytes
        place = self._place(done)
        return None if place is None else Prefix(self.partition, self.epoch, place, tuple(done), weight)

    def _place(self, done: Sequence[Done]) -> Place | None:
        after, leader_epoch = self._committed, -1
        if done:
            after, leader_epoch = done[-1].record.offset + 1, done[-1].record.leader_epoch
        # Topics end in the marker of a transaction: with the last record's offset alone their lag would never be 0.
        if len(done) == len(self._entries):
            after = max(after, self._reached)
        return Place(after, leader_epoch) if after > self._committed else None

    def commit(self, offset: int) -> int:
        """All before `offset` is committed, and is forgotten here; returns how many records that were. Raises
        OutOfOrder if one of them is unfinished."""
        done = 0
        while self._entries and self._entries[0].record.offset < offset:
            entry = self._entries[0]
            if entry.outputs is None:
                raise OutOfOrder(f"{self.partition}: {entry.record.offset} is committed and unfinished")
            self._entries.popleft()
            del self._by_offset[entry.record.offset]
            self._bytes -= entry.record.size_bytes + entry.output_bytes
            self._finished -= 1
            self._ready -= 1
            done += 1
        self._committed = max(self._committed, offset)
        return done
