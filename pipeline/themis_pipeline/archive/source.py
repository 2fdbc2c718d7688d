"""What the archive needs of Kafka beside the runner's seam: where it reads is its own to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from themis_pipeline.kafka.seam import Consumer, Listener, Output, Partition, Sent


class Follower(Consumer, Protocol):
    """A member of a group that reads a partition from where `seek` says, and nothing of it before: a partition comes
    paused."""

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset that is there, and one past the last that may be read. Asks the broker."""
        ...

    def note(self, places: Mapping[Partition, int]) -> bool:
        """Commits offsets for those who look at the group's lag; nobody reads from there. False: not now."""
        ...


class Letters(Protocol):
    """A producer outside of transactions that writes each record once, whatever it has to send again."""

    def send(self, output: Output) -> Sent:
        """Raises TransportError."""
        ...

    def discard(self) -> None: ...


class Source(Protocol):
    """Raises TransportError."""

    def follower(self, group: str, topics: Sequence[str], listener: Listener) -> Follower: ...

    def letters(self) -> Letters: ...
