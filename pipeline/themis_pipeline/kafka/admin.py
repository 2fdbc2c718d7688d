"""Looks at topics and groups, and makes them: kafka-python's admin client in plain types."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka.admin import (  # type: ignore[import-untyped]
    ConfigFilterType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    OffsetSpec,
)
from kafka.errors import KafkaError, NoError, UnknownError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]

from themis_pipeline.config import KafkaConfig
from themis_pipeline.kafka.connection import connection, timeouts
from themis_pipeline.kafka.errors import BrokerError
from themis_pipeline.kafka.reasons import reaching, said

T = TypeVar("T")

RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it stands on the cluster."""

    partitions: int
    replication: int
    """Of the partition with the fewest copies."""
    settings: Mapping[str, str]
    """All of them, defaults included."""


class Admin:
    """Raises BrokerError from every method."""

    def __init__(
        self,
        client: Any,
        patience_s: float,
        now_s: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._patience_s = patience_s
        self._now_s = now_s
        self._wait = wait

    def find(self, names: Sequence[str]) -> dict[str, Found]:
        """Those topics that exist, among `names`."""
        with _told():
            there = sorted(set(self._client.list_topics()) & set(names))
            if not there:
                return {}
            described = self._client.describe_topics(there)
            asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
            settings = self._client.describe_configs(asked, config_filter=ConfigFilterType.ALL)["topic"]
            return {topic["name"]: _found(topic, settings[topic["name"]]) for topic in described}

    def create(self, name: str, partitions: int, replication: int, settings: Mapping[str, str]) -> None:
        """Returns once the topic can be used. That it exists already is an error."""
        options = {"num_partitions": partitions, "replication_factor": replication, "configs": dict(settings)}
        with _told(name):
            self._client.create_topics({name: options}, wait_for_metadata=True)

    def uncommitted(self, group: str, topic: str, partitions: int) -> list[int]:
        """The partitions of which the group has committed no offset."""
        with _told(group):
            committed = self._patiently(lambda: self._client.list_group_offsets({group: None})[group])
            places = {place for place, offset in committed.items() if offset.offset >= 0}
            return [number for number in range(partitions) if TopicPartition(topic, number) not in places]

    def holds_records(self, topic: str, partitions: int) -> bool:
        """Whether there is any record, or any mark of a transaction."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        with _told(topic):
            starts = self._client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
            ends = self._client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            return any(ends[place].offset > starts[place].offset for place in places)

    def commit_starts(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """Commits the place of the first record that there is, for a group without members."""
        places = [TopicPartition(topic, number) for number in partitions]
        with _told(group):
            asked = dict.fromkeys(places, OffsetSpec.EARLIEST)
            starts = self._patiently(lambda: self._client.list_partition_offsets(asked))
            wanted = {place: OffsetAndMetadata(starts[place].offset, "", -1) for place in places}
            self._patiently(lambda: _check_altered(wanted, self._client.alter_group_offsets(group, wanted)))

    def _patiently(self, call: Callable[[], T]) -> T:
        """A group's coordinator is away while it moves, and before a cluster has had its first group."""
        until_s = self._now_s() + self._patience_s
        while True:
            try:
                return call()
            except KafkaError as error:
                if not error.retriable or self._now_s() >= until_s:
                    raise
            self._wait(RETRY_S)


@contextmanager
def open_admin(config: KafkaConfig) -> Iterator[Admin]:
    """Raises BrokerError where no broker answers."""
    with ExitStack() as opened:

        def network(**settings: Any) -> Any:
            made = KafkaAdminClient.DEFAULT_CONFIG["kafka_client"](**settings)
            opened.callback(made.close)  # an admin client that finds no broker leaves its network's thread running
            return made

        with _told(), reaching():
            client = KafkaAdminClient(**connection(config), **timeouts(config), kafka_client=network)
        opened.callback(client.close)
        yield Admin(client, config.request_timeout_s)


@contextmanager
def _told(what: str = "") -> Iterator[None]:
    """kafka-python's errors, as ours."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise BrokerError(f"{what}: {said(error)}" if what else said(error)) from error


def _check_altered(wanted: Iterable[Any], errors: Mapping[Any, type[KafkaError]]) -> None:
    """The answer tells of each partition; the call itself succeeds whatever became of them."""
    for place in wanted:
        error = errors.get(place, UnknownError)
        if error is not NoError:
            raise error()


def _found(topic: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> Found:
    partitions = topic["partitions"]
    return Found(
        len(partitions),
        min((len(partition["replica_nodes"]) for partition in partitions), default=0),
        {name: str(setting["value"]) for name, setting in settings.items()},
    )
