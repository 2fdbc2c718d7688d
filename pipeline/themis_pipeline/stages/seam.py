"""What handlers are given and give: events in, events out. Topics, keys and bytes are the runner's side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from themis_judge.engines.base import Deadline
from themis_pipeline.events import ids

EventT = TypeVar("EventT", bound=Message, contravariant=True)


@dataclass(frozen=True, slots=True)
class Context:
    """Where the event came from first, before any retry, and until when its handling may take. replays: how often it
    came back from the dead letters."""

    topic: str
    partition: int
    offset: int
    written_at_ms: int
    deadline: Deadline
    replays: int = 0

    def ingress_id(self, source: str, producer_id: str) -> str:
        return ids.ingress(source, producer_id, self.topic, self.partition, self.offset)

    @property
    def at(self) -> Timestamp:
        """When it was written."""
        stamp = Timestamp()
        stamp.FromMilliseconds(self.written_at_ms)
        return stamp


class Handler(Protocol[EventT]):
    """Raises Retry and Reject of the runner. Equal events give events with equal ids."""

    async def handle(self, event: EventT, context: Context) -> Sequence[Message]: ...


class Dropped(Protocol):
    """Told of each thing that a handler leaves out, so that it is counted with its reason."""

    def __call__(self, stage: str, code: str) -> None: ...
