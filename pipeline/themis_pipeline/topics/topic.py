"""What is said of one topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

from google.protobuf.message import Message

from themis_pipeline.config import TopicsConfig

FRAME_BYTES = 64 * 1024
"""What key, headers and a batch's own frame may add to an event."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A row of the table; `placed` makes of it what stands on a cluster."""

    name: str
    """Without the pipeline's prefix until it is placed."""
    events: tuple[type[Message], ...]
    """What its records hold."""
    key: str | None
    """The path to what its records are keyed by, "instruction.id" for instance; None: their producers choose."""
    stage: str | None
    """Whose group reads it; None: no stage's, people or tools do."""
    partitions: int
    retention_s: int | None
    """None: for ever."""
    max_event_bytes: int
    """What a reader takes and a writer writes, of value."""
    feeds_json: bool = False
    """Whether people feed it, so that JSON is read as well."""
    max_message_bytes: int = 0
    """The broker's own limit, of a batch."""
    cleanup: str = "delete"
    replication: int = 3
    min_isr: int = 2

    def __post_init__(self) -> None:
        if not self.max_message_bytes:
            object.__setattr__(self, "max_message_bytes", self.max_event_bytes + FRAME_BYTES)

    def placed(self, config: TopicsConfig) -> Topic:
        """As it stands on the cluster. A second pipeline there differs by its prefix."""
        return replace(
            self,
            name=config.prefix + self.name,
            partitions=config.partitions.get(self.name, self.partitions),
            replication=config.replication,
            min_isr=config.min_isr,
        )

    @property
    def json_as(self) -> type[Message] | None:
        """What a record without our headers is read as, from JSON."""
        return self.events[0] if self.feeds_json else None

    def key_of(self, event: Message) -> bytes | None:
        """The key of an event's record. Raises ValueError for an event without it: it would be kept apart from those
        that it belongs to."""
        if self.key is None:
            return None
        found = reduce(getattr, self.key.split("."), event)
        if not isinstance(found, str) or not found:
            raise ValueError(f"{self.name}: a {event.DESCRIPTOR.name} without {self.key}")
        return found.encode()

    @property
    def settings(self) -> Mapping[str, str]:
        """The broker's settings of the topic, by its own names.

        Records get the broker's time: with a producer's own, one whose clock is wrong would have its records deleted
        at once, or never. What would lose records otherwise is said here too, whatever a cluster's own defaults are:
        no limit by size, and no leader that lacks what was acknowledged.
        """
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": "-1" if self.retention_s is None else str(self.retention_s * 1000),
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(self.min_isr),
            "message.timestamp.type": "LogAppendTime",
            "retention.bytes": "-1",
            "unclean.leader.election.enable": "false",
        }
