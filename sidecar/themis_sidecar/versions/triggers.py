"""A Kafka topic as a bell: any record on it wakes whatever follows the store. Polling goes on without it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from themis_sidecar.config import KafkaConfig
from themis_sidecar.logs import Logger

POLL_MS = 500
BOOTSTRAP_MS = 4_000  # for a first broker to answer, before the log says that none did
JOIN_S = 5.0  # at the end; a thread that takes longer is left behind, and keeps nothing open


class KafkaBell:
    """One thread, one consumer without a group: each replica hears every record, and commits nothing."""

    def __init__(self, config: KafkaConfig, ring: Callable[[], None], logger: Logger) -> None:
        self._config = config
        self._ring = ring
        self._logger = logger
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="themis-kafka", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._try()

    def _try(self) -> None:
        from kafka.errors import KafkaError  # type: ignore[import-untyped]

        try:
            self._listen()
        except (KafkaError, OSError) as error:  # the store is polled all the same
            self._logger.warning("kafka_failed", kind=type(error).__name__, retry_s=self._config.retry_s)
            self._ended.wait(self._config.retry_s)

    def _listen(self) -> None:
        from kafka import KafkaConsumer  # type: ignore[import-untyped]

        with ExitStack() as opened:

            def client(**settings: Any) -> Any:
                made = KafkaConsumer.DEFAULT_CONFIG["kafka_client"](**settings)
                opened.callback(made.close)  # a consumer that finds no broker leaves its client's thread running
                return made

            consumer = KafkaConsumer(
                self._config.topic,
                bootstrap_servers=list(self._config.bootstrap_servers),
                client_id="themis-sidecar",
                group_id=None,
                enable_auto_commit=False,
                bootstrap_timeout_ms=BOOTSTRAP_MS,
                auto_offset_reset="latest",
                kafka_client=client,
            )
            opened.callback(consumer.close)
            self._logger.info("kafka_listening", topic=self._config.topic)
            while not self._ended.is_set():
                if consumer.poll(timeout_ms=POLL_MS):
                    self._ring()


@contextmanager
def listening(config: KafkaConfig, wake: Callable[[], None], logger: Logger) -> Iterator[None]:
    """Rings `wake` on the running event loop for every record that comes."""
    loop = asyncio.get_running_loop()

    def ring() -> None:
        loop.call_soon_threadsafe(wake)

    bell = KafkaBell(config, ring, logger)
    bell.start()
    try:
        yield
    finally:
        bell.stop()
