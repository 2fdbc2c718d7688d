"""kafka-python behind the seam: the only file that knows it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    CommitFailedError,
    KafkaConfigurationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.kafka.listening import Listening
from themis_pipeline.kafka.names import read_any_names
from themis_pipeline.kafka.reasons import reaching, said
from themis_pipeline.kafka.seam import (
    CommitRefused,
    Consumer,
    Listener,
    Membership,
    Output,
    Partition,
    Place,
    Producer,
    Record,
    RecordTooLarge,
    Sent,
    TransportError,
)
from themis_pipeline.kafka.sharing import EvenAssignor

METADATA_MS = 5_000


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What is asked of the client library."""

    session_timeout_s: float = 30.0
    """A member that is not heard of for so long has lost its partitions."""
    max_poll_interval_s: float = 120.0
    """A member that doesn't poll for so long leaves by itself."""
    transaction_timeout_s: float = 15.0
    """Also the longest a successor of a dead process waits for what that left open."""
    request_timeout_s: float = 10.0
    delivery_timeout_s: float = 12.0
    """The longest one record may take to be written; less than a transaction's."""
    connect_timeout_s: float = 15.0
    reconnect_s: float = 1.0
    """Between attempts to reach a broker that is away, at most: how much longer an outage seems than it is."""
    max_request_bytes: int = 16 * 1024**2
    """At least the largest limit of all topics: dead letters carry their originals."""


@dataclass(frozen=True, slots=True)
class KafkaTransport:
    """`connection` holds the library's own settings: bootstrap_servers, SASL, TLS."""

    connection: Mapping[str, Any]
    limits: TransportLimits = field(default_factory=TransportLimits)

    def consumer(self, group: str, topics: Sequence[str], listener: Listener) -> Consumer:
        with ExitStack() as opened, _translated(), reaching():
            client = _Client(opened)
            consumer = self._group_consumer(group, client)
            check_topics(consumer, topics)
            consumer.subscribe(topics=list(topics), listener=Listening(listener, client.wake))
            opened.pop_all()
            return _Consumer(consumer, self._patience_ms)

    def producer(self, transactional_id: str) -> Producer:
        with ExitStack() as opened, _translated(), reaching():
            with ExitStack() as making:
                producer = KafkaProducer(
                    **self.connection,
                    kafka_client=_Client(making, KafkaProducer).make,
                    transactional_id=transactional_id,
                    transaction_timeout_ms=_ms(self.limits.transaction_timeout_s),
                    delivery_timeout_ms=_ms(self.limits.delivery_timeout_s),
                    request_timeout_ms=_ms(self.limits.request_timeout_s),
                    bootstrap_timeout_ms=_ms(self.limits.connect_timeout_s),
                    reconnect_backoff_max_ms=_ms(self.limits.reconnect_s),
                    max_block_ms=self._patience_ms,
                    max_request_size=self.limits.max_request_bytes,
                    allow_auto_create_topics=False,
                    linger_ms=5,
                    batch_size=256 * 1024,
                    metrics_enabled=False,
                )
                # From here on it closes its client itself: its thread polls until then, and two may not (3.0.12).
                making.pop_all()
            made = _Producer(producer)
            opened.callback(made.discard)
            producer.init_transactions()
            opened.pop_all()
            return made

    def committed(self, group: str, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        with ExitStack() as opened, _translated(), reaching():
            # No member of the group: it subscribes to nothing. read_committed makes the broker wait for what is open.
            consumer = self._group_consumer(group, _Client(opened))
            opened.callback(consumer.close)
            return _committed(consumer, partitions, self._patience_ms)

    @property
    def _patience_ms(self) -> int:
        """As long as an open transaction can last, and a call beside."""
        return _ms(self.limits.transaction_timeout_s + self.limits.request_timeout_s)

    def _group_consumer(self, group: str, client: _Client) -> Any:
        read_any_names()
        return KafkaConsumer(
            **self.connection,
            kafka_client=client.make,
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            # Where to begin is committed as topics are made: 'latest' loses data on partitions that are added and
            # offsets that expire, 'earliest' does all work again.
            auto_offset_reset="none",
            partition_assignment_strategy=[EvenAssignor],
            session_timeout_ms=_ms(self.limits.session_timeout_s),
            heartbeat_interval_ms=_ms(self.limits.session_timeout_s / 10),
            max_poll_interval_ms=_ms(self.limits.max_poll_interval_s),
            request_timeout_ms=_ms(self.limits.request_timeout_s),
            bootstrap_timeout_ms=_ms(self.limits.connect_timeout_s),
            reconnect_backoff_max_ms=_ms(self.limits.reconnect_s),
            allow_auto_create_topics=False,
            # 3.0.12 forgets a request for metadata that is made while another is under way, and a group that was
            # assigned without its topics' partitions then waits so long for them.
            metadata_max_age_ms=METADATA_MS,
            metrics_enabled=False,
        )


def check_topics(consumer: Any, topics: Sequence[str]) -> None:
    """The partitions of one that is missing would be nobody's, and the stage would wait for records without end: the
    library forgets a question for metadata that is asked while an older one is under way (3.0.12)."""
    missing = [topic for topic in topics if not consumer.partitions_for_topic(topic)]
    if missing:
        raise TransportError(f"no topic is called {', '.join(missing)}; `themis-pipeline topics create` makes it")


class _Client:
    """The library's connections, caught as they are made: a constructor that fails leaves its thread running, and a
    listener's future that is done on another thread needs the loop to be woken."""

    def __init__(self, opened: ExitStack, owner: Any = KafkaConsumer) -> None:
        self._opened = opened
        self._owner = owner
        self._made: Any = None

    def make(self, **settings: Any) -> Any:
        self._made = self._owner.DEFAULT_CONFIG["kafka_client"](**settings)
        self._opened.callback(self._made.close)
        return self._made

    def wake(self) -> None:
        self._made.wakeup()


class _Consumer:
    def __init__(self, consumer: Any, patience_ms: int = 30_000) -> None:
        self._consumer = consumer
        self._patience_ms = patience_ms

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        with _translated():
            self._free_slot()
            self._join_to_the_end()
            polled = self._consumer.poll(timeout_ms=_ms(timeout_s), max_records=max_records)
        return {
            (partition := Partition(*place)): [_record(partition, one) for one in records]
            for place, records in polled.items()
        }

    def _free_slot(self) -> None:
        """3.0.12 gives a paused partition's records back only to an empty slot, and leaves what is used up in it: a
        partition that was paused amid its records is never heard of again. Can go when the library empties it."""
        fetcher = self._consumer._fetcher
        if fetcher._next_partition_records is not None and not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def _join_to_the_end(self) -> None:
        """A group's leader that joins because a topic has changed forgets in the midst of it that it does (3.0.12):
        a poll that ends meanwhile leaves it without partitions and without a heartbeat, and all polls after it as
        well. Can go when the library's need_rejoin looks at `rejoining`."""
        if self._consumer._coordinator.rejoining:
            self._consumer._coordinator.request_rejoin()

    def pause(self, partitions: Iterable[Partition]) -> None:
        with _translated():
            self._consumer.pause(*self._own(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        with _translated():
            self._consumer.resume(*self._own(partitions))

    def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        with _translated():
            return _committed(self._consumer, partitions, self._patience_ms)

    def seek(self, partition: Partition, offset: int) -> None:
        with _translated():
            for one in self._own([partition]):
                self._consumer.seek(one, offset)

    def position(self, partition: Partition) -> int | None:
        with _translated():
            found = [self._consumer.position(one, timeout_ms=0) for one in self._own([partition])]
        return next((int(position) for position in found if position is not None), None)

    def end(self, partition: Partition) -> int | None:
        with _translated():
            found = [self._consumer.highwater(one) for one in self._own([partition])]
        return next((int(end) for end in found if end is not None), None)

    def _own(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        """The library raises KeyError for a partition that a failed rebalance has taken away."""
        assigned = self._consumer.assignment()
        return [place for one in partitions if (place := TopicPartition(*one)) in assigned]

    def membership(self) -> Membership:
        found = self._consumer.group_metadata()
        return Membership(
            found.group_id, found.generation_id, found.member_id or "", stable=found.state == MemberState.STABLE
        )

    def silent_s(self) -> float:
        # Said nowhere else: to its users a consumer without brokers looks like one without records (3.0.12).
        heartbeat = self._consumer._coordinator.heartbeat
        return float(time.monotonic() - max(heartbeat.last_receive, heartbeat.last_reset))

    def close(self, timeout_s: float) -> None:
        with _translated():
            self._consumer.close(autocommit=False, timeout_ms=_ms(timeout_s))


class _Sent:
    def __init__(self, future: Any) -> None:
        self._future = future

    def wait(self, timeout_s: float) -> None:
        with _translated():
            self._future.get(timeout=timeout_s)


class _Producer:
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def begin(self) -> None:
        with _translated():
            self._producer.begin_transaction()

    def send(self, output: Output) -> Sent:
        with _translated():
            return _Sent(self._producer.send(output.topic, output.value, output.key, list(output.headers)))

    def flush(self, timeout_s: float) -> None:
        with _translated():
            self._producer.flush(timeout_s)

    def send_offsets(self, places: Mapping[Partition, Place], membership: Membership) -> None:
        offsets = {
            TopicPartition(*one): OffsetAndMetadata(place.offset, "", place.leader_epoch)
            for one, place in places.items()
        }
        metadata = ConsumerGroupMetadata(membership.group, membership.generation, membership.member)
        with _translated():
            self._producer.send_offsets_to_transaction(offsets, metadata)

    def commit(self) -> None:
        with _translated():
            self._producer.commit_transaction()

    def discard(self) -> None:
        try:
            self._producer.close(timeout=0)
        except KafkaTimeoutError:
            # Its flush comes first and fails while records wait; 3.0.12 then leaves the thread running, and does the
            # same once more as the object goes.
            self._producer._sender.force_close()
            self._producer._closed = True


def _committed(consumer: Any, partitions: Iterable[Partition], timeout_ms: int) -> dict[Partition, int]:
    found = {one: consumer.committed(TopicPartition(*one), timeout_ms=timeout_ms) for one in partitions}
    return {one: int(offset) for one, offset in found.items() if offset is not None}


def _record(partition: Partition, one: Any) -> Record:
    return Record(partition, one.offset, one.key, one.value, tuple(one.headers or ()), one.leader_epoch, one.timestamp)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except CommitFailedError as error:
        raise CommitRefused(type(error).__name__) from error
    except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
        raise RecordTooLarge(type(error).__name__) from error
    except KafkaConfigurationError as error:
        raise TransportError(f"the client's settings: {error}") from error
    except KafkaError as error:
        raise TransportError(said(error), retriable=bool(error.retriable)) from error


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
