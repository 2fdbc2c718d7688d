"""What stands on the topics of tasks and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from themis_pipeline.events.codec import decode
from themis_pipeline.events.errors import Malformed
from themis_pipeline.kafka.seam import Record
from themis_pipeline.topics.topic import Topic
from themis_proto.v1 import events_pb2 as ev

MAX_LABELS = 1_000_000
"""Some hundred bytes each in memory."""


class TooManyLabels(Exception):
    """More than can be held: older ones are to be deleted from their topic."""


@dataclass(frozen=True, slots=True)
class PlacedLabel:
    partition: int
    offset: int
    label: ev.AnnotationLabel


@dataclass(frozen=True, slots=True)
class Topics:
    """tasks, labels: placed."""

    tasks: Topic
    labels: Topic


@dataclass(slots=True)
class Labels:
    """Labels by task, each partition's in order; ends: one past the last offset that was seen, by partition."""

    topic: Topic
    by_task: dict[str, list[PlacedLabel]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[int, int] = field(default_factory=dict)
    count: int = 0
    unreadable: int = 0

    def read(self, records: Iterable[Record]) -> Labels:
        """Takes in what comes behind what it has. Raises TooManyLabels, and what reading does; it can be gone on with
        then."""
        for record in records:
            self._take(record)
            self.ends[record.partition.number] = record.offset + 1
        return self

    def _take(self, record: Record) -> None:
        topic = self.topic
        try:
            label = decode(record, topic.events, topic.max_event_bytes, topic.json_as)
        except Malformed:  # the stage makes a dead letter of it
            self.unreadable += 1
            return
        assert isinstance(label, ev.AnnotationLabel)
        self.count += 1
        if self.count > MAX_LABELS:
            raise TooManyLabels(f"{topic.name}: more than {MAX_LABELS} labels; delete what isn't needed any more")
        self.by_task[label.task].append(PlacedLabel(record.partition.number, record.offset, label))


def task_in(record: Record, topic: Topic) -> ev.AnnotationTask:
    """Raises Malformed: only the stage `label` writes there."""
    task = decode(record, topic.events, topic.max_event_bytes)
    assert isinstance(task, ev.AnnotationTask)
    return task
