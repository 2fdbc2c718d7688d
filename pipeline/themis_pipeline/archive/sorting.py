"""Records to rows of the archive, and to dead letters where they are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_pipeline.archive.errors import Refused
from themis_pipeline.archive.record import Record as Row
from themis_pipeline.archive.rows import Place, from_scored
from themis_pipeline.events.codec import decode
from themis_pipeline.events.errors import Defect
from themis_pipeline.events.errors import Malformed as BadEvent
from themis_pipeline.kafka.seam import Output, Record
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.stage import Delivery, Malformed, Origin, Oversize, Reject
from themis_proto.v1 import events_pb2 as ev


@dataclass(frozen=True, slots=True)
class Sorted:
    rows: Sequence[Row]
    letters: Sequence[Output]


@dataclass(frozen=True, slots=True)
class Sorting:
    """max_event_bytes: what is larger is not read. The dead letters are those of `retries`' stage."""

    retries: Retries
    max_event_bytes: int

    def __call__(self, records: Sequence[Record]) -> Sorted:
        rows, letters = [], []
        for record in records:
            delivery = Delivery(record, Origin(record.partition, record.offset, record.written_at_ms))
            try:
                delivery = self.retries.delivery(record)
                rows.append(self._row(delivery))
            except Reject as error:
                # What can't be archived now never can: `after` gives a dead letter, whatever the time.
                letters.append(self.retries.after(error, delivery, now_ms=0))
        return Sorted(rows, letters)

    def _row(self, delivery: Delivery) -> Row:
        record = delivery.record
        try:
            event = decode(record, (ev.Scored,), self.max_event_bytes)
            return from_scored(event, Place(record.partition.topic, record.partition.number, record.offset))
        except BadEvent as error:
            kind = Oversize if error.defect is Defect.OVERSIZE else Malformed
            raise kind(error.defect.value, str(error)) from error
        except Refused as error:
            raise Reject("refused", str(error)) from error
