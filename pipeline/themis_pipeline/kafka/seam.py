"""What the runner needs of Kafka, in plain types: another client library would be another file like transport.py."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Header = tuple[str, bytes | None]

FRAME_BYTES = 64
"""Said to come with every record beside key, value and headers: more than the batch format's own worst case."""


class TransportError(Exception):
    """The broker or the way to it failed; `retriable` says that the same call may do better later."""

    def __init__(self, text: str, *, retriable: bool = False) -> None:
        super().__init__(text)
        self.retriable = retriable


class CommitRefused(TransportError):
    """The group knows this member or its generation no more: nothing of the transaction counts."""


class RecordTooLarge(TransportError):
    """A record that its topic doesn't take, however often it is sent."""


class Partition(NamedTuple):
    topic: str
    number: int


class Place(NamedTuple):
    """Where to go on reading: the next offset, and the leader's epoch as it was read (-1: unknown)."""

    offset: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class Record:
    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    leader_epoch: int = -1
    written_at_ms: int = -1

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.key, self.value, self.headers)


@dataclass(frozen=True, slots=True)
class Output:
    """A record to be written; its partition follows from its key."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.key, self.value, self.headers)


def size_bytes(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """What a record weighs, framing included; never less than the broker will count."""
    own = len(key or b"") + len(value or b"")
    return FRAME_BYTES + own + sum(len(name.encode()) + len(content or b"") + 10 for name, content in headers)


@dataclass(frozen=True, slots=True)
class Membership:
    """Who commits. A broker takes a transaction's offsets from nobody in particular without any check, so that what
    is not `joined` must never be handed to it."""

    group: str
    generation: int
    member: str
    stable: bool

    @property
    def joined(self) -> bool:
        return self.generation >= 0 and self.member != ""


class Listener(Protocol):
    """Called on the client's own thread, which sends the heartbeats: nothing here may block. While it is, the thread
    that polls or closes the consumer waits in there; at other times nothing of this is called.

    Each change takes everything away first: all partitions are revoked, and those that the member has from then on
    are assigned, whether it had them before or not. Where such a partition stands may be wrong: `seek` before reading.
    """

    def assigned(self, partitions: Iterable[Partition]) -> None: ...

    def revoked(self, partitions: Collection[Partition]) -> Future[None]:
        """The partitions, which may be none, may go to other members once the future is done, and not before. What is
        committed after that is refused as soon as they can."""
        ...

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Another member may have them already."""
        ...


class Consumer(Protocol):
    """A member of a group, for one thread. All raise TransportError."""

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]: ...

    def pause(self, partitions: Iterable[Partition]) -> None: ...

    def resume(self, partitions: Iterable[Partition]) -> None: ...

    def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """What the group has committed, open transactions waited for; a partition without is left out."""
        ...

    def seek(self, partition: Partition, offset: int) -> None: ...

    def position(self, partition: Partition) -> int | None:
        """The offset of what `poll` gives next, which is past the markers of transactions. Asks nobody."""
        ...

    def end(self, partition: Partition) -> int | None:
        """One past the last record, as it was at the last fetch."""
        ...

    def membership(self) -> Membership:
        """As of the last poll, or none any more."""
        ...

    def silent_s(self) -> float:
        """How long the group has not been heard of: grows while no broker can be reached."""
        ...

    def close(self, timeout_s: float) -> None:
        """Revokes what it has, and leaves the group."""
        ...


class Sent(Protocol):
    def wait(self, timeout_s: float) -> None:
        """Raises TransportError if the record was not written, or not known to be, within the time; RecordTooLarge
        where the broker said so."""
        ...


class Producer(Protocol):
    """A transactional producer, ready for its first transaction. All but `discard` raise TransportError, and after one
    nothing but `discard` is to be called."""

    def begin(self) -> None: ...

    def send(self, output: Output) -> Sent:
        """Raises RecordTooLarge for what is larger than any topic takes."""
        ...

    def flush(self, timeout_s: float) -> None: ...

    def send_offsets(self, places: Mapping[Partition, Place], membership: Membership) -> None:
        """Waits without a limit; raises CommitRefused for a stale membership."""
        ...

    def commit(self) -> None:
        """Waits without a limit."""
        ...

    def discard(self) -> None:
        """Lets go of it whatever state it is in; an open transaction is left to its successor."""
        ...


class Transport(Protocol):
    def consumer(self, group: str, topics: Sequence[str], listener: Listener) -> Consumer:
        """Raises TransportError, also where one of the topics doesn't exist."""
        ...

    def producer(self, transactional_id: str) -> Producer:
        """Returns once what an earlier producer of this id left open is ended."""
        ...

    def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """What the group has committed, open transactions waited for; a partition without is left out."""
        ...
