"""What the stage `annotate` reads again: each record once, whatever fails between, and the same from anew."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.pipeline.stages_parts import context
from themis_pipeline.annotation.command import placed
from themis_pipeline.annotation.reading import Labels
from themis_pipeline.annotation.shelf import Reader, TopicShelf
from themis_pipeline.annotation.standing import Standing
from themis_pipeline.config import TopicsConfig
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.runner.stage import Retry
from themis_proto.v1 import events_pb2 as ev

TOPICS = placed(TopicsConfig())


@dataclass
class Log:
    """Two topics as lists; `breaks` reads end after so many records."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    given: list[tuple[str, int, int]] = field(default_factory=list)
    breaks: int | None = None

    def add(self, event: ev.AnnotationTask | ev.AnnotationLabel | bytes, number: int = 0) -> Record:
        topic = TOPICS.tasks if isinstance(event, ev.AnnotationTask) else TOPICS.labels
        value, headers = (event, ()) if isinstance(event, bytes) else encode(event, topic.max_event_bytes)
        there = self.records.setdefault(topic.name, [])
        offset = 2 * sum(record.partition.number == number for record in there)  # with gaps, as transactions leave
        record = Record(Partition(topic.name, number), offset, b"k", value, headers)
        there.append(record)
        return record

    def scan(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Record]:
        for record in self.records.get(topic, ()):
            if record.offset < (starts or {}).get(record.partition.number, 0):
                continue
            if self.breaks is not None:
                self.breaks -= 1
                if self.breaks < 0:
                    raise BrokerError("gone")
            self.given.append((topic, record.partition.number, record.offset))
            yield record

    def pick(self, places: Collection[tuple[Partition, int]]) -> Iterator[Record]:
        return (one for topic in self.records.values() for one in topic if (one.partition, one.offset) in places)

    @contextmanager
    def open(self) -> Iterator[Reader]:
        yield self


def label(task: str, annotator: str) -> ev.AnnotationLabel:
    return ev.AnnotationLabel(task=task, annotator=annotator, rating=3)


def task(id: str) -> ev.AnnotationTask:
    return ev.AnnotationTask(id=id, mode=ev.LABEL_MODE_SINGLE, guidance="Rate it.")


async def before(shelf: TopicShelf, record: Record, id: str) -> list[str]:
    place = replace(context(), partition=record.partition.number, offset=record.offset)
    return [one.annotator for one in await shelf.before(id, place)]


async def test_each_record_is_read_once_and_only_what_stands_before_is_given() -> None:
    log = Log()
    log.add(task("one"))
    records = [log.add(label("one", person)) for person in "abc"]
    log.add(b"no label")
    elsewhere = log.add(label("one", "d"), number=1)
    shelf = TopicShelf(log.open, TOPICS)
    assert [await before(shelf, record, "one") for record in records] == [[], ["a"], ["a", "b"]]
    assert await before(shelf, elsewhere, "one") == []
    later = log.add(label("one", "e"))
    assert await before(shelf, later, "one") == ["a", "b", "c"]
    assert await before(TopicShelf(log.open, TOPICS), later, "one") == ["a", "b", "c"]
    assert max(log.given.count(place) for place in log.given) == 2  # by both shelves


async def test_reading_goes_on_where_it_broke_off() -> None:
    log = Log()
    records = [log.add(label("one", person)) for person in "abcd"]
    log.add(task("one"))
    shelf = TopicShelf(log.open, TOPICS)
    for breaks in (2, 2):  # the second time behind the labels, before the task
        log.breaks = breaks
        with pytest.raises(Retry):
            await before(shelf, log.add(label("one", "x")), "one")
    log.breaks = None
    assert await before(shelf, records[3], "one") == ["a", "b", "c"]
    assert (await shelf.task("one")) == task("one")
    assert await before(shelf, log.add(label("one", "y")), "one") == ["a", "b", "c", "d", "x", "x"]
    assert max(log.given.count(place) for place in log.given) == 1


async def test_labels_without_their_tasks_are_not_enough() -> None:
    log = Log()
    records = [log.add(label("one", person)) for person in "ab"]
    log.add(task("one"))
    shelf = TopicShelf(log.open, TOPICS)
    log.breaks = 2
    with pytest.raises(Retry):
        await before(shelf, records[0], "one")
    with pytest.raises(Retry):  # both labels were seen, their task was not
        await before(shelf, records[1], "one")
    log.breaks = None
    assert await before(shelf, records[1], "one") == ["a"]
    assert await shelf.task("one") == task("one")


async def test_a_label_that_the_broker_does_not_show_yet_waits() -> None:
    log = Log()
    record = log.add(label("one", "a"))
    with pytest.raises(Retry):
        await before(TopicShelf(log.open, TOPICS), replace(record, offset=record.offset + 2), "one")


@pytest.mark.parametrize("kept_bytes", [0, 300, 10**6])
async def test_tasks_are_found_whether_they_are_kept_or_not(kept_bytes: int) -> None:
    log = Log()
    for number in range(20):
        log.add(task(str(number)))
    log.add(task("0"))
    shelf = TopicShelf(log.open, TOPICS, kept_bytes)
    await before(shelf, log.add(label("5", "a")), "5")
    assert [await shelf.task(str(number)) for number in range(20)] == [task(str(number)) for number in range(20)]
    assert await shelf.task("20") is None


def test_how_far_people_are_is_told() -> None:
    log, labels = Log(), Labels(TOPICS.labels)
    for person, number in (("a", 0), ("b", 0), ("c", 0), ("d", 1)):
        log.add(label("one", person), number)
    log.add(label("two", "a"))
    standing = Standing(labels.read(log.scan(TOPICS.labels.name)))
    assert standing.add(task("one")).enough
    standing.add(task("one"))
    assert not standing.add(task("two")).enough
    assert (standing.done, standing.waiting, standing.apart) == (1, 1, 1)
    lines = standing.lines()
    assert lines[0] == "2 tasks: 1 with enough labels, 1 waiting"
    assert lines[2] == "ratings: 4 labels of 2 tasks, Krippendorff's alpha not defined"
    assert lines[-1] == "choices: 0 labels of 0 tasks, Krippendorff's alpha not defined"
