"""One pipeline's topics on a real broker, the commands of people who look after them, and a stage that runs there."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from tests.integration.runner_world import DEADLINE_S, LIMITS, POLICY, QUICK
from themis_pipeline.__main__ import main
from themis_pipeline.config import KafkaConfig, TopicsConfig
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.events import codec
from themis_pipeline.events.errors import Defect
from themis_pipeline.events.errors import Malformed as Unreadable
from themis_pipeline.kafka.connection import connection
from themis_pipeline.kafka.seam import Output, Partition, Record
from themis_pipeline.kafka.tools import open_producer, open_reader
from themis_pipeline.kafka.transport import KafkaTransport
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.runner import Runner
from themis_pipeline.runner.stage import DeadRecord, Delivery, Malformed, Origin, Oversize, Reason
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.topics import STAGES, Topic, dead_letter_topic, placed_table, retry_topic
from themis_proto.v1.events_pb2 import ResponseSet


class OddName(str):
    """A header's name that is no UTF-8 on the wire, as clients of other languages may write it."""

    def encode(self, *_: object) -> bytes:
        return str.encode(self, "latin-1")


@dataclass
class World:
    kafka: KafkaConfig
    topics: TopicsConfig
    settings: Path
    capsys: pytest.CaptureFixture[str]

    def command(self, *arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--config", str(self.settings)])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def letters(self, *arguments: str) -> tuple[int, str, str]:
        return self.command("dead-letters", *arguments)

    def listed(self, stage: str) -> list[str]:
        """The ids of its open letters."""
        lines = self.letters("list", stage)[1].splitlines()
        return [line.split()[0] for line in lines[1:-1]]

    def shown(self, stage: str, letter: str, *arguments: str) -> dict[str, Any]:
        code, out, complaint = self.letters("show", stage, letter, *arguments)
        assert (code, complaint) == (0, "")
        told = json.loads(out)
        assert isinstance(told, dict)
        return told

    def bury(self, *dead: DeadRecord, commit: bool = True) -> list[str]:
        outputs = [Burial(dead_letter_topic(one.stage).placed(self.topics))(one) for one in dead]
        self.write(*outputs, commit=commit)
        return [(output.key or b"").decode() for output in outputs]

    def write(self, *outputs: Output, commit: bool = True) -> None:
        with open_producer(self.kafka, f"{self.topics.prefix}writer") as producer:
            producer.begin()
            sent = [producer.send(output) for output in outputs]
            producer.flush(30)
            for one in sent:
                one.wait(30)
            if commit:
                producer.commit()
        if not commit:
            with open_producer(self.kafka, f"{self.topics.prefix}writer"):
                """A successor ends what was left open."""

    def feed(self, topic: str, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> None:
        """As somebody else's producer would, packed: the brokers' limits are on what is packed."""
        producer = KafkaProducer(
            bootstrap_servers=self.kafka.bootstrap_servers, max_request_size=64 * 1024**2, compression_type="gzip"
        )
        try:
            producer.send(self.topics.prefix + topic, value, key, headers=list(headers)).get(timeout=DEADLINE_S)
        finally:
            producer.close()

    def read(self, topic: str) -> list[Record]:
        with open_reader(self.kafka) as reader:
            return list(reader.scan(self.topics.prefix + topic))


@contextmanager
def letters_world(kafka: KafkaBroker, folder: Path, capsys: pytest.CaptureFixture[str], prefix: str) -> Iterator[World]:
    kafka_config = KafkaConfig(bootstrap_servers=(kafka.address,))
    own = re.sub(r"[^a-z0-9]+", "-", prefix.lower())[-60:].strip("-")
    topics = TopicsConfig(prefix=f"{own}-", replication=1, min_isr=1)
    made = World(kafka_config, topics, folder / "settings.yaml", capsys)
    sections = {"kafka": kafka_config.model_dump(mode="json", exclude_defaults=True), "topics": topics.model_dump()}
    made.settings.write_text(json.dumps(sections))
    assert made.command("topics", "create")[0] == 0
    yield made


def given_up(stage: str, offset: int, reason: Reason = Reason.EXHAUSTED, value: bytes | None = None) -> DeadRecord:
    own, headers = codec.encode(ResponseSet(id=f"set-{offset}"), 1000)
    record = Record(Partition("sets", 0), offset, b"k", own if value is None else value, headers, -1, 1_700_000_000_000)
    origin = Origin(record.partition, record.offset, record.written_at_ms)
    return DeadRecord(stage, reason, "TimeoutError", "", 5, Delivery(record, origin))


# ---------------------------------------------------------------- a stage that runs


@dataclass(slots=True)
class Doing:
    """Reads events as every stage does, and fails on what it reads until it is `mended`."""

    stage: str
    prefix: str
    reads: dict[str, Topic]
    out: str
    mended: bool = False
    more_bytes: int = 0
    """By how much what it reads may be larger than the table says."""
    seen: list[Delivery] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.prefix + self.stage

    @property
    def topics(self) -> Sequence[str]:
        return list(self.reads)

    async def handle(self, delivery: Delivery) -> Sequence[Output]:
        self.seen.append(delivery)
        topic = self.reads[delivery.origin.partition.topic]
        try:
            event = codec.decode(
                delivery.record, topic.events, topic.max_event_bytes + self.more_bytes, json_as=topic.json_as
            )
        except Unreadable as error:
            kind = Oversize if error.defect is Defect.OVERSIZE else Malformed
            raise kind(error.defect.value, str(error)) from error
        if not self.mended:
            raise LookupError("not mended")
        return [Output(self.out, None, event.SerializeToString(deterministic=True))]


@asynccontextmanager
async def doing(world: World, stage: str, out: str) -> AsyncIterator[Doing]:
    """The real runner with the real burial, stopped gracefully at the end."""
    reads = {(placed := topic.placed(world.topics)).name: placed for topic in STAGES[stage]}
    made = Doing(stage, world.topics.prefix, reads, world.topics.prefix + out)
    retries = Retries(
        stage,
        retry_topic(stage).placed(world.topics).name,
        Burial(dead_letter_topic(stage).placed(world.topics)),
        POLICY,
        {topic.name: topic.max_message_bytes for topic in placed_table(world.topics)},
    )
    watchdog = Watchdog()
    watchdog.start()
    runner = Runner(
        made,
        retries,
        KafkaTransport(connection(world.kafka), QUICK),
        f"{made.name}-0",
        watchdog,
        RunnerMetrics(RunnerFamilies(CollectorRegistry()), stage),
        LIMITS,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield made
        assert not task.done()
    finally:
        runner.stop()
        await asyncio.wait({task}, timeout=DEADLINE_S)
        watchdog.stop()
    await task


async def until(what: Callable[[], bool]) -> None:
    """Asks the broker meanwhile, beside the stages."""
    until_s = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(what):
        assert time.monotonic() < until_s, "waited in vain"
        await asyncio.sleep(0.05)
