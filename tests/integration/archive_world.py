"""Topics of their own on a real broker, the stage that archives them, and an account of what came of every record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from tests.unit.pipeline.archive_samples import scored
from themis_judge.store.files import Files
from themis_pipeline.archive import read, snapshot
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.source import Source
from themis_pipeline.archive.stage import ArchiveStage
from themis_pipeline.config import KafkaConfig, TopicsConfig
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.admin import open_admin
from themis_pipeline.kafka.following import KafkaFollowing
from themis_pipeline.kafka.seam import Output, Record
from themis_pipeline.kafka.tools import open_reader
from themis_pipeline.kafka.transport import KafkaTransport, TransportLimits
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.polling import PollingLimits
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.topics import SCORED, Topic, dead_letter_topic, retry_topic
from themis_pipeline.topics.laying import create
from themis_proto.v1 import events_pb2 as ev

DEADLINE_S = 60.0
PARTITIONS = 3
LIMITS = ArchiveLimits(
    records=10, age_s=0.5, pause_s=0.05, drain_s=20.0, outage_s=30.0, polling=PollingLimits(poll_s=0.05, show_s=0.1)
)
QUICK = TransportLimits(session_timeout_s=6.0, request_timeout_s=8.0, delivery_timeout_s=9.0)


def poison(index: int) -> bytes:
    return b"\xff\xffpoison %d" % index


@dataclass(frozen=True)
class Scene:
    """A pipeline of its own on the broker, of which only the archive runs."""

    address: str
    prefix: str = field(default_factory=lambda: f"a{uuid4().hex[:8]}-")

    @property
    def config(self) -> TopicsConfig:
        partitions = {"scored": PARTITIONS, "archive-retry": 1, "archive-dead": 1}
        return TopicsConfig(prefix=self.prefix, replication=1, min_isr=1, partitions=partitions)

    @property
    def topic(self) -> Topic:
        return replace(SCORED.placed(self.config), max_event_bytes=20_000)

    @property
    def retry(self) -> Topic:
        return retry_topic("archive").placed(self.config)

    @property
    def dead(self) -> Topic:
        return dead_letter_topic("archive").placed(self.config)

    @property
    def group(self) -> str:
        return f"{self.prefix}archive"

    def lay(self) -> None:
        with open_admin(KafkaConfig(bootstrap_servers=(self.address,))) as admin:
            create(admin, [self.topic, self.retry, self.dead], self.prefix, lambda _: None)

    def write(self, numbers: Sequence[int], transactions: int = 0) -> None:
        """An event for each number, spread over the partitions; in so many transactions, each with its marker."""
        self.write_events([scored(f"e{number}") for number in numbers], transactions)

    def write_events(self, events: Sequence[ev.Scored], transactions: int = 0) -> None:
        values = [encode(event, self.topic.max_event_bytes) for event in events]
        keys = [event.labelled.instruction.id.encode() for event in events]
        self.send([(key, value, headers) for key, (value, headers) in zip(keys, values, strict=True)], transactions)

    def write_poison(self, numbers: Sequence[int]) -> None:
        """Alternately bytes that are no event, an event that is too large, one that lacks what it needs, and none."""
        headers = encode(ev.Scored(), 10)[1]
        large, lacking = scored("large"), scored("lacking")
        large.labelled.critique = "x" * 30_000
        lacking.labelled.ClearField("at")
        kinds = (None, large.SerializeToString(), lacking.SerializeToString())
        self.send(
            [
                (str(number).encode(), kinds[number % 4] if number % 4 < 3 else poison(number), headers)
                for number in numbers
            ]
        )

    def send(
        self,
        records: Sequence[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]],
        transactions: int = 0,
    ) -> None:
        name = f"{self.prefix}writer" if transactions else None
        producer = KafkaProducer(bootstrap_servers=self.address, transactional_id=name)
        try:
            if transactions:
                producer.init_transactions()
            step = -(-len(records) // (transactions or 1))
            for start in range(0, len(records), step):
                if transactions:
                    producer.begin_transaction()
                sent = [
                    producer.send(self.topic.name, value, key, list(headers))
                    for key, value, headers in records[start : start + step]
                ]
                for one in sent:
                    one.get(timeout=DEADLINE_S)
                if transactions:
                    producer.commit_transaction()
        finally:
            producer.close()

    def produce(self, outputs: Sequence[Output]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.address)
        try:
            for one in outputs:
                producer.send(one.topic, one.value, one.key, list(one.headers)).get(timeout=DEADLINE_S)
        finally:
            producer.close()

    def write_slowly(self, numbers: Sequence[int], pause_s: float) -> None:
        """As they would come in, so that there is something to read whenever members come or go."""
        producer = KafkaProducer(bootstrap_servers=self.address)
        try:
            for number in numbers:
                event = scored(f"e{number}")
                value, headers = encode(event, self.topic.max_event_bytes)
                producer.send(self.topic.name, value, event.id.encode(), list(headers)).get(timeout=DEADLINE_S)
                time.sleep(pause_s)
        finally:
            producer.close()

    def delete_before(self, offset: int) -> None:
        """What retention does, of each partition."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.delete_records({TopicPartition(self.topic.name, number): offset for number in range(PARTITIONS)})
        finally:
            admin.close()

    def records(self) -> list[Record]:
        with open_reader(KafkaConfig(bootstrap_servers=(self.address,))) as reader:
            return list(reader.scan(self.topic.name))

    def letters(self) -> list[ev.DeadLetter]:
        with open_reader(KafkaConfig(bootstrap_servers=(self.address,))) as reader:
            return [ev.DeadLetter.FromString(record.value or b"") for record in reader.scan(self.dead.name)]

    def lag(self) -> int:
        """What the group was told of is behind the ends, markers included."""
        reader = KafkaConsumer(bootstrap_servers=self.address, group_id=self.group, enable_auto_commit=False)
        try:
            places = [TopicPartition(self.topic.name, number) for number in range(PARTITIONS)]
            ends = reader.end_offsets(places)
            return sum(ends[place] - (reader.committed(place) or 0) for place in places)
        finally:
            reader.close()

    def source(self) -> KafkaFollowing:
        return KafkaFollowing(KafkaTransport({"bootstrap_servers": self.address}, QUICK))

    def stage(
        self,
        files: Files,
        watchdog: Watchdog,
        registry: CollectorRegistry,
        limits: ArchiveLimits = LIMITS,
        source: Source | None = None,
    ) -> ArchiveStage:
        retries = Retries("archive", self.retry.name, Burial(self.dead))
        metrics = RunnerMetrics(RunnerFamilies(registry), "archive")
        return ArchiveStage(self.group, self.topic, retries, files, source or self.source(), watchdog, metrics, limits)


@dataclass(slots=True)
class Running:
    stage: ArchiveStage
    registry: CollectorRegistry
    task: asyncio.Task[None]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"stage": "archive", **labels}) or 0.0

    def in_hand(self) -> int:
        """Records read and not archived, as its gauges were last set."""
        topics = (
            metric.samples for metric in self.registry.collect() if metric.name == "themis_pipeline_in_hand_records"
        )
        return int(sum(sample.value for samples in topics for sample in samples))

    def moved(self, how: str) -> float:
        return self.count("themis_pipeline_partitions_moved_total", how=how)

    def refused(self) -> float:
        return self.count("themis_pipeline_transactions_total", result="refused")

    async def until(self, what: Callable[[], bool]) -> None:
        """Waits for it, no longer than the test's deadline; fails at once when the stage ends."""
        await until(what, self.task)


async def until(what: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(what):
        if task is not None and task.done():
            await task
        assert time.monotonic() < until_s, "waited in vain"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def archiving(
    scene: Scene, files: Files, limits: ArchiveLimits = LIMITS, source: Source | None = None
) -> AsyncIterator[Running]:
    """The stage in this process, stopped gracefully at the end."""
    barks: list[str] = []
    watchdog, registry = Watchdog(barks.append), CollectorRegistry()
    watchdog.start()
    stage = scene.stage(files, watchdog, registry, limits, source)
    task = asyncio.create_task(stage.run())
    try:
        yield Running(stage, registry, task)
    finally:
        stage.stop()
        await asyncio.wait({task}, timeout=DEADLINE_S)
        watchdog.stop()
    await task
    assert not barks


def archived(files: Files) -> Counter[str]:
    """The ids that readers see, and how often."""
    return Counter(record.id for record in read(files, snapshot(files)))


def all_once(numbers: Sequence[int]) -> Counter[str]:
    return Counter(f"e{number}" for number in numbers)
