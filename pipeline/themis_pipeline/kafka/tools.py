"""Reads a topic once through, or records by their places: for commands that people call, outside any group."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from kafka import KafkaConsumer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.structs import TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.config import KafkaConfig
from themis_pipeline.kafka.connection import connection, timeouts
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.names import read_any_names
from themis_pipeline.kafka.reasons import reaching, said
from themis_pipeline.kafka.seam import Partition, Producer, Record
from themis_pipeline.kafka.transport import KafkaTransport

POLL_MS = 200
MAX_RECORDS = 100


class Reader:
    """Reads what is committed. Raises BrokerError from every method."""

    def __init__(
        self, consumer: Any, uncommitted: Any, patience_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """uncommitted: a consumer that sees what is not committed too; it reads nothing."""
        self._consumer = consumer
        self._uncommitted = uncommitted
        self._patience_s = patience_s
        self._now_s = now_s

    def scan(self, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[Record]:
        """Every record that the topic holds now, each partition in its order; of partitions that `starts` names, from
        that offset on. Transactions that are open on it are waited for: what is committed behind them is not given
        before they end."""
        with _told(topic):
            numbers = self._consumer.partitions_for_topic(topic)
            if not numbers:
                raise BrokerError(f"{topic}: there is no such topic; `themis-pipeline topics create` makes it")
            places = [TopicPartition(topic, number) for number in sorted(numbers)]
            self._consumer.assign(places)
            ends = self._uncommitted.end_offsets(places)
            self._consumer.seek_to_beginning(*places)
            for place in places:
                if starts and place.partition in starts:
                    self._consumer.seek(place, starts[place.partition])
        yield from self._until(topic, ends)

    def pick(self, places: Collection[tuple[Partition, int]]) -> Iterator[Record]:
        """The records at those places of one topic, by one pass from the first to the last of them in each partition.
        One that is gone by now is an error, when the others were given."""
        if not places:
            return
        topic = next(iter(places))[0].topic
        wanted = {(partition.number, offset) for partition, offset in places}
        ordered = sorted(wanted)
        starts = {TopicPartition(topic, number): offset for number, offset in reversed(ordered)}
        ends = {TopicPartition(topic, number): offset + 1 for number, offset in ordered}
        with _told(topic):
            self._consumer.assign(list(starts))
            for place, offset in starts.items():
                self._consumer.seek(place, offset)
        for record in self._until(topic, ends):
            if (place := (record.partition.number, record.offset)) in wanted:
                wanted.remove(place)
                yield record
        if wanted:
            number, offset = min(wanted)
            raise BrokerError(f"{topic}: {len(wanted)} records are gone, the first of them at {number}/{offset}")

    def _until(self, topic: str, ends: dict[Any, int]) -> Iterator[Record]:
        """Positions tell the end: the last offset before it may be a transaction's marker, which is never given."""
        waited_s, reached = 0.0, [-1]
        while True:
            began_s = self._now_s()
            with _told(topic):
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
                positions = [self._consumer.position(place, timeout_ms=0) for place in ends]
            # Only polls count: whoever takes the records has time of his own.
            waited_s = waited_s + self._now_s() - began_s if positions == reached else 0.0
            reached = positions
            for place, records in polled.items():
                yield from (_record(place, record) for record in records if record.offset < ends[place])
            if all(at is not None and at >= end for at, end in zip(positions, ends.values(), strict=True)):
                return
            if waited_s > self._patience_s:
                raise BrokerError(
                    f"{topic}: nothing came for {self._patience_s:g} s, and its end isn't reached: a transaction is "
                    "open on it, and ends by itself when its time is over"
                )


@contextmanager
def open_reader(config: KafkaConfig) -> Iterator[Reader]:
    """Raises BrokerError where no broker answers."""
    read_any_names()
    with ExitStack() as opened:

        def network(**settings: Any) -> Any:
            made = KafkaConsumer.DEFAULT_CONFIG["kafka_client"](**settings)
            opened.callback(made.close)  # a consumer that finds no broker leaves its network's thread running
            return made

        def consumer(isolation_level: str) -> Any:
            made = KafkaConsumer(
                **connection(config),
                **timeouts(config),
                kafka_client=network,
                group_id=None,
                enable_auto_commit=False,
                isolation_level=isolation_level,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            opened.callback(made.close)
            return made

        with _told(), reaching():
            reader = Reader(consumer("read_committed"), consumer("read_uncommitted"), config.request_timeout_s)
        yield reader


@contextmanager
def open_producer(config: KafkaConfig, transactional_id: str) -> Iterator[Producer]:
    """Returns once what an earlier producer of this id left open is ended. Raises TransportError."""
    producer = KafkaTransport(connection(config)).producer(transactional_id)
    try:
        yield producer
    finally:
        producer.discard()


@contextmanager
def _told(what: str = "") -> Iterator[None]:
    """kafka-python's errors, as ours."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise BrokerError(f"{what}: {said(error)}" if what else said(error)) from error


def _record(place: Any, record: Any) -> Record:
    return Record(
        Partition(place.topic, place.partition),
        record.offset,
        record.key,
        record.value,
        tuple(record.headers or ()),
        record.leader_epoch,
        record.timestamp,
    )
