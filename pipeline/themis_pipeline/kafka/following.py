"""kafka-python for the archive: a member of a group that keeps its places elsewhere, and a producer of dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.kafka.listening import Listening
from themis_pipeline.kafka.seam import Listener, Partition, TransportError
from themis_pipeline.kafka.transport import (
    KafkaTransport,
    _Client,
    _Consumer,
    _ms,
    _Producer,
    _translated,
    check_topics,
)


@dataclass(frozen=True, slots=True)
class KafkaFollowing:
    """An archive's `Source`, by the settings of `transport`."""

    transport: KafkaTransport

    def follower(self, group: str, topics: Sequence[str], listener: Listener) -> _Follower:
        with ExitStack() as opened, _translated():
            client = _Client(opened)
            consumer = self.transport._group_consumer(group, client)
            check_topics(consumer, topics)
            consumer.subscribe(topics=list(topics), listener=_Held(consumer, listener, client.wake))
            opened.pop_all()
            return _Follower(consumer, self.transport._patience_ms, self.transport.limits.request_timeout_s)

    def letters(self) -> _Producer:
        limits = self.transport.limits
        with ExitStack() as opened, _translated():
            producer = KafkaProducer(
                **self.transport.connection,
                kafka_client=_Client(opened, KafkaProducer).make,
                enable_idempotence=True,
                delivery_timeout_ms=_ms(limits.delivery_timeout_s),
                request_timeout_ms=_ms(limits.request_timeout_s),
                bootstrap_timeout_ms=_ms(limits.connect_timeout_s),
                max_block_ms=_ms(limits.request_timeout_s),
                max_request_size=limits.max_request_bytes,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            opened.pop_all()
            return _Producer(producer)


class _Held(Listening):
    """What the group has committed may be gone, or be out of the topic's range, and the library ends on either: a place
    of our own is set before it looks. Both calls change memory alone, so that they may be made on its thread."""

    def __init__(self, consumer: Any, listener: Listener, wake: Callable[[], None]) -> None:
        super().__init__(listener, wake)
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        places = [TopicPartition(*one) for one in assigned]
        self._consumer.pause(*places)
        for place in places:
            self._consumer.seek(place, 0)
        await super().on_partitions_assigned(places)


class _Follower(_Consumer):
    def __init__(self, consumer: Any, patience_ms: int, timeout_s: float) -> None:
        super().__init__(consumer, patience_ms)
        self._timeout_s = timeout_s

    def bounds(self, partition: Partition) -> tuple[int, int]:
        place, timeout_ms = TopicPartition(*partition), _ms(self._timeout_s)
        with _translated():
            first = self._consumer.beginning_offsets([place], timeout_ms=timeout_ms)[place]
            last = self._consumer.end_offsets([place], timeout_ms=timeout_ms)[place]
        return int(first), int(last)

    def note(self, places: Mapping[Partition, int]) -> bool:
        offsets = {TopicPartition(*one): OffsetAndMetadata(offset, "", -1) for one, offset in places.items()}
        try:
            with _translated():
                self._consumer.commit(offsets, timeout_ms=_ms(self._timeout_s))
        except TransportError:
            return False
        return True
