"""What is in hand of one partition: what was read and is not archived, and what is being done about it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from themis_pipeline.archive.writer import PartitionWriter
from themis_pipeline.kafka.seam import Partition, Record


@dataclass(frozen=True, slots=True)
class Lot:
    """Everything from the writer's position up to `end`, `end` not included."""

    records: tuple[Record, ...]
    end: int


@dataclass(slots=True)
class Pending:
    """What was read since `start`, the archive's own end. since_s: when the first of it came; before, when it
    began."""

    start: int
    reached: int = 0
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    since_s: float = 0.0

    def __post_init__(self) -> None:
        self.reached = self.start

    def take(self, records: Sequence[Record], now_s: float) -> None:
        new = [record for record in records if record.offset >= self.reached]
        if new and not self.records:
            self.since_s = now_s
        self.records += new
        self.bytes += sum(record.size_bytes for record in new)
        if new:
            self.reached = new[-1].offset + 1

    def lot(self) -> Lot:
        return Lot(tuple(self.records), self.reached)


@dataclass(slots=True, eq=False)
class Holding:
    """One assignment of a partition: of the next one this knows nothing. `pending` is None until the archive has said
    where to read from. At most one task of it runs, which takes the partition's reading with it.

    before: what is still running for an earlier assignment; again_at_s: not to be opened before; failing_s: since when
    opening, or storing, has failed; end: the archive's own, as last seen; noted: the offset that the group was told;
    settled_s: when a task was last looked at that had ended.
    """

    partition: Partition
    before: Future[object] | None = None
    writer: PartitionWriter | None = None
    pending: Pending | None = None
    task: Future[object] | None = None
    again_at_s: float = 0.0
    failing_s: dict[str, float] = field(default_factory=dict)
    end: int = 0
    noted: int = -1
    settled_s: float = 0.0

    @property
    def bytes(self) -> int:
        return self.pending.bytes if self.pending is not None else 0

    @property
    def records(self) -> int:
        return len(self.pending.records) if self.pending is not None else 0

    @property
    def passed(self) -> int:
        """Up to where everything is archived; -1: not known."""
        if self.pending is None:
            return -1
        return self.pending.start if self.pending.records else self.pending.reached

    def running(self) -> Future[object] | None:
        """What is at work on the partition now."""
        return next((one for one in (self.task, self.before) if one is not None and not one.done()), None)

    @property
    def doing(self) -> str:
        return "open" if self.pending is None else "store"

    def forget(self, again_at_s: float) -> None:
        """What is pending is read again, from where the archive says then."""
        self.pending = None
        self.again_at_s = again_at_s
