"""Dead letters as events: the record as it was, with who gave it up and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from themis_pipeline.events import ids
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.seam import Output, Partition, Record
from themis_pipeline.runner.stage import DeadRecord, Delivery, Origin, Reason
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

REASONS: Mapping[Reason, ev.DeadLetterReason.ValueType] = MappingProxyType(
    {
        Reason.MALFORMED: ev.DEAD_LETTER_REASON_MALFORMED,
        Reason.OVERSIZE: ev.DEAD_LETTER_REASON_OVERSIZE,
        Reason.REJECTED: ev.DEAD_LETTER_REASON_REJECTED,
        Reason.EXHAUSTED: ev.DEAD_LETTER_REASON_EXHAUSTED,
        Reason.OUTPUT_TOO_LARGE: ev.DEAD_LETTER_REASON_OUTPUT_TOO_LARGE,
    }
)


MAX_ATTEMPTS = 2**31 - 1
"""What a letter's count holds; more are as good as this."""
MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999, beyond which a time is none: a producer chose it."""
MAX_TEXT_CHARS = 2000
"""Of the error and of its detail, each: what a stage says of a record never stands in the way of giving it up."""


class NotWhole(Exception):
    """A letter whose record can't be sent again, since it is not all there."""


@dataclass(frozen=True, slots=True)
class Burial:
    """Makes dead letters for `topic`, placed; a runner's `Bury`. Raises nothing for whatever a record holds: a stage
    whose records can't be given up stands still."""

    topic: Topic

    def __call__(self, dead: DeadRecord) -> Output:
        letter = _letter(dead)
        _leave_out(letter, self.topic.max_event_bytes)
        value, headers = encode(letter, self.topic.max_event_bytes)
        return Output(self.topic.name, letter.id.encode(), value, headers)


def delivery(letter: ev.DeadLetter) -> Delivery:
    """The record as its stage would get it for the first time. Raises NotWhole."""
    if letter.left_out_bytes:
        raise NotWhole(
            f"{letter.left_out_bytes} bytes are left out; the record is at {letter.topic}/{letter.partition}/"
            f"{letter.offset} as long as that topic keeps it"
        )
    if not letter.HasField("value"):
        raise NotWhole("the record has no value")
    partition = Partition(letter.topic, letter.partition)
    written_at_ms = letter.written_at.ToMilliseconds() if letter.HasField("written_at") else -1
    headers = tuple((header.key, header.value if header.HasField("value") else None) for header in letter.headers)
    key = letter.key if letter.HasField("key") else None
    record = Record(partition, letter.offset, key, letter.value, headers, written_at_ms=written_at_ms)
    return Delivery(record, Origin(partition, letter.offset, written_at_ms))


def _letter(dead: DeadRecord) -> ev.DeadLetter:
    record, origin = dead.delivery.record, dead.delivery.origin
    letter = ev.DeadLetter(
        id=ids.dead_letter(dead.stage, origin.partition.topic, origin.partition.number, origin.offset),
        stage=dead.stage,
        reason=REASONS[dead.reason],
        error=_plain(dead.error),
        detail=_plain(dead.detail),
        attempts=min(dead.attempts, MAX_ATTEMPTS),
        topic=origin.partition.topic,
        partition=origin.partition.number,
        offset=origin.offset,
        key=record.key,
        value=record.value,
        headers=[ev.RecordHeader(key=name, value=content) for name, content in record.headers],
    )
    if 0 <= origin.written_at_ms <= MAX_TIME_MS:
        letter.written_at.FromMilliseconds(origin.written_at_ms)
    return letter


def _plain(text: str) -> str:
    told = text.encode("utf-8", "backslashreplace").decode("utf-8")
    left = len(told) - MAX_TEXT_CHARS
    return told if left <= 0 else f"{told[:MAX_TEXT_CHARS]} ... and {left} characters more"


def _leave_out(letter: ev.DeadLetter, max_bytes: int) -> None:
    """A topic's limit is on compressed batches: one that a producer packed tightly may hold more than any topic of
    ours takes, and a letter that can't be written would stop the stage for ever."""
    if letter.ByteSize() <= max_bytes:
        return
    if letter.HasField("value"):
        letter.left_out_bytes = len(letter.value)
        letter.left_out_sha256 = hashlib.sha256(letter.value).digest()
        letter.ClearField("value")
    if letter.ByteSize() > max_bytes:
        letter.left_out_bytes += len(letter.key) + sum(len(one.key) + len(one.value) for one in letter.headers)
        letter.ClearField("key")
        letter.ClearField("headers")
