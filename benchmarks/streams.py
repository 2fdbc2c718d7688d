"""Topics on a broker of one's own, and the loop that people write by hand, which the runner is measured by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from themis_pipeline.config import KafkaConfig
from themis_pipeline.kafka.admin import open_admin
from themis_pipeline.local.broker import kafka_broker

PATIENCE_S = 120.0
JARS = Path(__file__).parent.parent / ".cache/kafka"


@dataclass(frozen=True, slots=True)
class Run:
    """Records that came through, from the first that was read to the last that was committed."""

    records: int
    seconds: float
    transactions: int

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def records_per_transaction(self) -> float:
        return self.records / self.transactions


class Streams:
    """Topics of `partitions` partitions each."""

    def __init__(self, address: str, partitions: int) -> None:
        self.address = address
        self.partitions = partitions

    def create(self, *topics: str) -> None:
        with open_admin(KafkaConfig(bootstrap_servers=(self.address,))) as admin:
            for topic in topics:
                admin.create(topic, self.partitions, 1, {})

    def begin(self, group: str, *topics: str) -> None:
        """The group reads them from their start."""
        with open_admin(KafkaConfig(bootstrap_servers=(self.address,))) as admin:
            for topic in topics:
                admin.commit_starts(group, topic, range(self.partitions))

    def fill(self, topic: str, columns: Sequence[Sequence[bytes]]) -> None:
        """One column of values for each partition, in their order."""
        producer = KafkaProducer(bootstrap_servers=self.address, linger_ms=5, batch_size=256 * 1024)
        try:
            sent = [
                producer.send(topic, value, key=str(row).encode(), partition=number)
                for number, column in enumerate(columns)
                for row, value in enumerate(column)
            ]
            for one in sent:
                one.get(timeout=PATIENCE_S)
        finally:
            producer.close()

    def count(self, topic: str) -> int:
        """What is committed there."""
        with ExitStack() as opened:
            reader = KafkaConsumer(bootstrap_servers=self.address, isolation_level="read_committed")
            opened.callback(reader.close)
            places = [TopicPartition(topic, number) for number in range(self.partitions)]
            reader.assign(places)
            reader.seek_to_beginning()
            ends = reader.end_offsets(places)
            found, until_s = 0, time.monotonic() + PATIENCE_S
            while any(reader.position(place) < ends[place] for place in places):
                if time.monotonic() > until_s:
                    raise RuntimeError(f"{topic} could not be read to its end")
                found += sum(map(len, reader.poll(timeout_ms=100, max_records=5000).values()))
            return found


@contextmanager
def streams(partitions: int) -> Iterator[Streams]:
    """On a broker that is started for this."""
    with TemporaryDirectory(prefix="themis-kafka-") as folder, kafka_broker(Path(folder), JARS) as broker:
        yield Streams(broker.address, partitions)


# ---------------------------------------------------------------------------------------------- by hand


def by_hand(made: Streams, source: str, out: str, group: str, records: int, per_transaction: int) -> Run:
    """Reads, writes each record as it is, and commits outputs and offsets as one, a transaction after the other: with
    the client's settings and the checks of a loop that loses nothing, and with nothing else."""
    with ExitStack() as opened:
        consumer = _consumer(made.address, group)
        opened.callback(consumer.close)
        producer = _producer(made.address, group)
        opened.callback(producer.close)
        consumer.subscribe([source])
        done = transactions = 0
        began_s = ended_s = 0.0
        while done < records:
            batch = _read(consumer, min(per_transaction, records - done))
            began_s = began_s or batch[1]
            _write(producer, consumer, out, batch[0])
            ended_s = time.perf_counter()
            done, transactions = done + len(batch[0]), transactions + 1
        return Run(done, ended_s - began_s, transactions)


def _read(consumer: Any, wanted: int) -> tuple[list[Any], float]:
    """So many records, and when the first of them came."""
    found: list[Any] = []
    came_s = 0.0
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < wanted:
        for records in consumer.poll(timeout_ms=100, max_records=wanted - len(found)).values():
            came_s = came_s or time.perf_counter()
            found += records
        if time.monotonic() > until_s:
            raise RuntimeError(f"{len(found)} of {wanted} records came")
    return found, came_s


def _write(producer: Any, consumer: Any, out: str, batch: Sequence[Any]) -> None:
    producer.begin_transaction()
    sent = [producer.send(out, record.value, record.key) for record in batch]
    producer.flush(PATIENCE_S)
    for one in sent:
        one.get(timeout=PATIENCE_S)
    offsets = {
        TopicPartition(record.topic, record.partition): OffsetAndMetadata(record.offset + 1, "", record.leader_epoch)
        for record in batch
    }
    producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
    producer.commit_transaction()


def _consumer(address: str, group: str) -> Any:
    return KafkaConsumer(
        bootstrap_servers=address,
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        partition_assignment_strategy=[CooperativeStickyAssignor],
        metrics_enabled=False,
    )


def _producer(address: str, group: str) -> Any:
    producer = KafkaProducer(
        bootstrap_servers=address,
        transactional_id=group,
        transaction_timeout_ms=15_000,
        linger_ms=5,
        batch_size=256 * 1024,
        metrics_enabled=False,
    )
    producer.init_transactions()
    return producer
