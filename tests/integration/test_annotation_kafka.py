"""People's labels on a real broker: tasks out, labels in, and the stage that reads both topics again."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from themis_judge.engines.base import Deadline
from themis_pipeline.__main__ import guarded, main
from themis_pipeline.annotation.command import AnnotateCommand, placed
from themis_pipeline.annotation.shelf import Reader, TopicShelf
from themis_pipeline.config import KafkaConfig, TopicsConfig
from themis_pipeline.dead_letters.command import Brokers
from themis_pipeline.events.codec import decode, encode
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.seam import Output, Record
from themis_pipeline.kafka.tools import open_producer, open_reader
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.stage import Reject, Retry
from themis_pipeline.stages.annotate import Annotate
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb


def task(id: str, annotators: int = 2) -> ev.AnnotationTask:
    told = ev.Candidate(id=f"{id}-answer", response=pb.Response(messages=[text_message("assistant", f"By {id}.")]))
    asked = ev.Instruction(id=f"{id}-asked", messages=[text_message("user", "Why?")], scenario="open_qa")
    return ev.AnnotationTask(
        id=id,
        instruction=asked,
        candidates=[told],
        mode=ev.LABEL_MODE_SINGLE,
        guidance="Rate it.",
        annotators=annotators,
    )


@dataclass
class World:
    kafka: KafkaConfig
    topics: TopicsConfig
    settings: Path
    said: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    opened: int = 0

    def annotate(self, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        AnnotateCommand(Brokers(open_reader, open_producer, guarded), self.said.append, self.complaints.append).add_to(
            parser
        )
        args = parser.parse_args([*arguments, "--config", str(self.settings)])
        return int(args.run(args))

    def give_out(self, *tasks: ev.AnnotationTask) -> None:
        topic = placed(self.topics).tasks
        self.write([Output(topic.name, topic.key_of(one), *encode(one, topic.max_event_bytes)) for one in tasks])

    def write(self, outputs: list[Output], commit: bool = True) -> None:
        with open_producer(self.kafka, f"{self.topics.prefix}writer") as producer:
            producer.begin()
            sent = [producer.send(output) for output in outputs]
            producer.flush(30)
            for one in sent:
                one.wait(30)
            if commit:
                producer.commit()  # else the next producer of that id ends it

    def labels(self) -> list[Record]:
        with open_reader(self.kafka) as reader:
            return list(reader.scan(placed(self.topics).labels.name))

    @contextmanager
    def counted_reader(self) -> Iterator[Reader]:
        self.opened += 1
        with open_reader(self.kafka) as reader:
            yield reader

    async def handled(self, shelf: TopicShelf, record: Record) -> list[ev.Labelled] | str:
        topic = placed(self.topics).labels
        label = decode(record, topic.events, topic.max_event_bytes, topic.json_as)
        assert isinstance(label, ev.AnnotationLabel)
        where = record.partition
        context = Context(where.topic, where.number, record.offset, record.written_at_ms, Deadline.after(60))
        stage = Annotate(shelf, "judge-family", lambda *_: None)
        try:
            return list(await stage.handle(label, context))
        except (Reject, Retry) as refused:
            return refused.code


@pytest.fixture
def world(kafka: KafkaBroker, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    made = World(
        KafkaConfig(bootstrap_servers=(kafka.address,)),
        TopicsConfig(prefix=str(request.node.name).replace("_", "-")[:60] + "-", replication=1, min_isr=1),
        tmp_path / "settings.yaml",
    )
    sections = {"kafka": made.kafka.model_dump(mode="json", exclude_defaults=True), "topics": made.topics.model_dump()}
    made.settings.write_text(json.dumps(sections))
    assert main(["topics", "create", "--config", str(made.settings)]) == 0
    return made


def fill(source: Path, target: Path, person: str, ratings: dict[str, str]) -> None:
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {"annotator": person, "label": ratings[row["task"]]}
    with target.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


async def test_tasks_go_out_and_labels_come_in_and_become_one(world: World, tmp_path: Path) -> None:
    world.give_out(task("one"), task("two"), task("one"))
    sheet, anns, bobs = (tmp_path / f"{name}.csv" for name in ("sheet", "ann", "bob"))
    assert world.annotate("export", str(sheet)) == 0
    assert world.said[-1] == f"{sheet}: 2 tasks"
    fill(sheet, anns, "ann", {"one": "4", "two": "2"})
    fill(sheet, bobs, "bob", {"one": "5", "two": ""})
    assert world.annotate("import", str(anns), str(bobs)) == 0
    assert world.said[-1] == "4 labels sent, 0 were there already"
    assert world.annotate("import", str(anns)) == 0
    assert world.said[-1] == "0 labels sent, 2 were there already"

    shelf = TopicShelf(world.counted_reader, placed(world.topics))
    made = [await world.handled(shelf, record) for record in world.labels()]
    [rated] = [label for labels in made for label in labels]
    assert isinstance(rated, ev.Labelled)
    assert (rated.rating, rated.annotators, rated.instruction.id) == (5, 2, "one-asked")
    anew = TopicShelf(world.counted_reader, placed(world.topics), kept_bytes=0)  # each task is read by itself
    assert [await world.handled(anew, record) for record in world.labels()] == made

    assert world.annotate("report") == 0
    assert "2 tasks: 1 with enough labels, 1 waiting" in world.said
    lines = tmp_path / "rest.jsonl"
    assert world.annotate("export", str(lines)) == 0
    assert [json.loads(line)["task"] for line in lines.read_text().splitlines()] == ["two"]


async def test_topics_are_read_once_for_all_labels_that_are_there_and_again_for_later_ones(world: World) -> None:
    topic = placed(world.topics).labels
    world.give_out(task("one", annotators=3))

    def label(person: str, task: str = "one") -> Output:
        return Output(topic.name, task.encode(), json.dumps({"task": task, "annotator": person, "rating": 3}).encode())

    shelf = TopicShelf(world.counted_reader, placed(world.topics))
    world.write([label("a"), label("b"), label("x", "unknown"), label("y", "unknown")])
    found = [await world.handled(shelf, record) for record in world.labels()]
    assert sorted(map(str, found)) == ["[]", "[]", "task", "task"]
    partitions = len({record.partition for record in world.labels()})
    assert world.opened == 1 or world.opened <= partitions

    world.write([label("never")], commit=False)
    world.write([Output(topic.name, b"one", b"no label"), label("c")])
    *_, last = [record for record in world.labels() if record.key == b"one"]
    made = await world.handled(shelf, last)
    assert not isinstance(made, str)
    assert [one.annotators for one in made] == [3]
    assert world.annotate("report") == 1
    assert "1 records are no labels" in world.complaints[-1]


async def test_labels_of_a_task_on_several_partitions_are_told(world: World) -> None:
    topic = placed(world.topics).labels
    world.give_out(task("one"))
    keys = (b"a", b"b", b"c", b"d", b"e", b"f")
    labels = [json.dumps({"task": "one", "annotator": key.decode(), "rating": 3}).encode() for key in keys]
    world.write([Output(topic.name, key, value) for key, value in zip(keys, labels, strict=True)])
    assert len({record.partition for record in world.labels()}) > 1
    assert world.annotate("report") == 1
    assert any("key labels by the task's id" in line for line in world.said)


async def test_what_can_not_be_sent_or_read_is_told(world: World, tmp_path: Path) -> None:
    bad, other, sheet = tmp_path / "bad.jsonl", tmp_path / "labels.txt", tmp_path / "sheet.csv"
    bad.write_text('{"task": "one", "annotator": "ann", "label": 4}\n')
    assert world.annotate("import", str(bad)) == 2
    assert world.complaints[-1] == f"{bad}: line 1: task: not one of those that were given out"
    assert world.annotate("import", str(tmp_path / "none.csv")) == 2
    assert world.annotate("export", str(other)) == 2
    sheet.write_text("mine")
    assert world.annotate("export", str(sheet)) == 2
    assert sheet.read_text() == "mine"
    assert not world.labels()

    def nowhere() -> AbstractContextManager[Reader]:
        raise BrokerError("nobody there")

    world.give_out(task("one"))
    topic = placed(world.topics).labels
    world.write([Output(topic.name, b"one", b'{"task": "one", "annotator": "a", "rating": 3}')])
    [record] = world.labels()
    assert await world.handled(TopicShelf(nowhere, placed(world.topics)), record) == "BrokerError"
