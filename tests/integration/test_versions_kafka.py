"""A topic of a real broker as a bell, and what its absence changes: nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaProducer  # type: ignore[import-untyped]

from tests.integration.versions_fleet import Replica, call, open_store, publish, replica, state, until, versions_in
from themis_pipeline.local.broker import KafkaBroker
from themis_sidecar.config import KafkaConfig

NEVER_S = 3600.0


async def test_any_record_wakes_the_replica(
    tmp_path: Path, tiny_model: Callable[..., Path], kafka: KafkaBroker
) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    own = KafkaConfig(bootstrap_servers=(kafka.address,), topic="versions-bell", retry_s=0.2)
    producer = KafkaProducer(bootstrap_servers=kafka.address)
    try:
        async with replica(tmp_path / "store", poll_s=NEVER_S, kafka=own) as one:
            await one.ready()
            await until(lambda: _listening(one))
            store.propose(state(2, second, first, previous=first))

            async def rung() -> bool:
                producer.send("versions-bell", b"whatever").get(timeout=30)
                return one.parts.judging.board.applied == 2

            await until(rung)
            assert versions_in((await one.judge.Score(call(2))).results) == {second}
    finally:
        producer.close()


async def _listening(one: Replica) -> bool:
    return bool(one.lines("kafka_listening"))


async def test_a_broker_that_does_not_answer_changes_nothing(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store = open_store(tmp_path / "store")
    first, second = (publish(store, tiny_model("llama", seed)).id for seed in (1, 2))
    store.propose(state(1, first))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        own = KafkaConfig(bootstrap_servers=("{}:{}".format(*mute.getsockname()),), retry_s=0.2)
        async with replica(tmp_path / "store", kafka=own) as one:
            await one.ready()
            assert versions_in((await one.judge.Score(call(2))).results) == {first}
            await until(lambda: _complained(one))
            store.propose(state(2, second, first, previous=first))
            await one.serving(second)  # the store is polled
    assert not [thread.name for thread in threading.enumerate() if "kafka" in thread.name]


async def _complained(one: Replica) -> bool:
    return bool(one.lines("kafka_failed"))
