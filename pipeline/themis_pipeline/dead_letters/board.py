"""Which dead letters of a stage are open: each that stands on its topic with no replay behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from themis_pipeline.events.codec import decode
from themis_pipeline.events.errors import Malformed
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

MAX_LETTERS = 200_000
"""Of one stage, held at a time: about a kilobyte of memory each."""
KEPT_CHARS = 300
"""Of error and detail, each; the letter itself has all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A letter without its record, and where it stands."""

    id: str
    reason: str
    """"exhausted" for instance."""
    error: str
    detail: str
    attempts: int
    source: str
    """The record's first place: topic/partition/offset."""
    written_at: datetime | None
    given_up_at: datetime | None
    size_bytes: int
    partition: Partition
    offset: int


@dataclass(frozen=True, slots=True)
class Replay:
    """That a letter went back to its stage, and did not come again."""

    letter: Summary | None
    """None: the letter itself is no longer kept."""
    at: datetime | None
    by: str
    why: str


@dataclass(slots=True)
class Board:
    """`topic` is the stage's dead-letter topic, placed."""

    topic: Topic
    asked: Set[str] = frozenset()
    """Ids of letters whose replays are remembered; of others only that they are no longer open."""
    only_asked: bool = False
    """Whether other letters than those are passed by."""
    max_letters: int = MAX_LETTERS
    open: dict[str, Summary] = field(default_factory=dict)
    replays: dict[str, Replay] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    """Places of what is no letter, and was put there by others than stages; the first ones."""
    unreadable_count: int = 0
    not_held: int = 0
    """Letters that came when `max_letters` were held already; some of them may have gone back since."""

    def read(self, records: Iterable[Record]) -> Board:
        """All records of the topic, each partition's in order."""
        for record in records:
            self._take(record)
        return self

    def oldest_first(self) -> list[Summary]:
        """The open ones, by when they were given up."""
        never = datetime.max.replace(tzinfo=timezone.utc)
        return sorted(self.open.values(), key=lambda one: (one.given_up_at or never, one.partition, one.offset))

    def kinds(self) -> Counter[tuple[str, str]]:
        """The open ones by reason and error."""
        return Counter((letter.reason, letter.error) for letter in self.open.values())

    def _take(self, record: Record) -> None:
        try:
            event = letter_in(record, self.topic)
        except Malformed:
            self.unreadable_count += 1
            if len(self.unreadable) < self.max_letters:
                self.unreadable.append(f"{record.partition.topic}/{record.partition.number}/{record.offset}")
            return
        if self.only_asked and event.id not in self.asked:
            return
        if isinstance(event, ev.DeadLetterReplayed):
            self._replayed(event, record)
        elif event.id not in self.open and len(self.open) >= self.max_letters:
            self.not_held += 1
        else:
            self.replays.pop(event.id, None)
            self.open[event.id] = _summary(event, record)

    def _replayed(self, event: ev.DeadLetterReplayed, record: Record) -> None:
        letter = self.open.pop(event.id, None)
        if event.id in self.asked:
            self.replays[event.id] = Replay(letter, _moment(record.written_at_ms), event.by, event.why)


def letter_in(record: Record, topic: Topic) -> ev.DeadLetter | ev.DeadLetterReplayed:
    """Raises Malformed."""
    event = decode(record, topic.events, topic.max_event_bytes)
    assert isinstance(event, ev.DeadLetter | ev.DeadLetterReplayed)
    return event


def reason_of(letter: ev.DeadLetter) -> str:
    known = ev.DeadLetterReason.DESCRIPTOR.values_by_number.get(letter.reason)
    return str(letter.reason) if known is None else known.name.removeprefix("DEAD_LETTER_REASON_").lower()


def moment_of(stamp: Timestamp) -> datetime | None:
    """None for a time that is none: letters are read that others may have written."""
    try:
        return stamp.ToDatetime(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _moment(written_at_ms: int) -> datetime | None:
    if written_at_ms < 0:
        return None
    try:
        return datetime.fromtimestamp(written_at_ms / 1000, timezone.utc)
    except (ValueError, OverflowError):
        return None


def _summary(letter: ev.DeadLetter, record: Record) -> Summary:
    return Summary(
        id=letter.id,
        reason=reason_of(letter),
        error=letter.error[:KEPT_CHARS],
        detail=letter.detail[:KEPT_CHARS],
        attempts=letter.attempts,
        source=f"{letter.topic}/{letter.partition}/{letter.offset}",
        written_at=moment_of(letter.written_at) if letter.HasField("written_at") else None,
        given_up_at=_moment(record.written_at_ms),
        size_bytes=len(letter.value) + letter.left_out_bytes,
        partition=record.partition,
        offset=record.offset,
    )
