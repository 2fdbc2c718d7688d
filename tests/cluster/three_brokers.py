"""Three brokers on this machine, each of which can die and come back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from tests.conftest import SHORT
from themis_pipeline.local.broker import KafkaBroker, broker_settings, free_port, write_settings
from themis_pipeline.local.java import KafkaJava

NODES = (1, 2, 3)
# As in production: a record counts as written when two of three have it.
SETTINGS = {
    **SHORT,
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.state.log.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
    "unclean.leader.election.enable": "false",
}


@dataclass(frozen=True, slots=True)
class ThreeBrokers:
    brokers: Mapping[int, KafkaBroker]

    @property
    def address(self) -> str:
        return ",".join(broker.address for broker in self.brokers.values())

    def leaders(self, topic: str) -> list[int]:
        """Of its partitions, in their order."""
        return [int(partition["leader_id"]) for partition in self._partitions([topic])]

    def in_sync(self, topics: Sequence[str]) -> bool:
        """Whether all three have everything of these."""
        return all(len(partition["isr_nodes"]) == len(NODES) for partition in self._partitions(topics))

    def _partitions(self, topics: Sequence[str]) -> list[Any]:
        with self._admin() as admin:
            described = admin.describe_topics(list(topics))
        return [
            partition
            for topic in described
            for partition in sorted(topic["partitions"], key=lambda one: int(one["partition_index"]))
        ]

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            yield admin
        finally:
            admin.close()


@contextmanager
def three_brokers(folder: Path, cache: Path) -> Iterator[ThreeBrokers]:
    java = KafkaJava(cache)
    controllers = {node: free_port() for node in NODES}
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers.items())
    name = java.run("kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
    brokers: dict[int, KafkaBroker] = {}
    for node, controller_port in controllers.items():
        own = folder / str(node)
        own.mkdir()
        broker = brokers[node] = KafkaBroker(own, free_port(), java)
        ours = broker_settings(node, own, broker.port, controller_port)
        path = write_settings(own, {**ours, "controller.quorum.voters": voters, **SETTINGS})
        java.run("kafka.tools.StorageTool", "format", "-t", name, "-c", str(path))
    try:
        for broker in brokers.values():
            broker.launch()
        for broker in brokers.values():
            broker.wait()
        yield ThreeBrokers(brokers)
    finally:
        for broker in brokers.values():
            broker.kill()  # the last of them would wait for the others to take over
