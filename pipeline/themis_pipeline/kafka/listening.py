"""A listener of ours as kafka-python calls it: on its one IO thread, by coroutines that run on a loop of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future as Result

from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener  # type: ignore[import-untyped]
from kafka.future import Future  # type: ignore[import-untyped]

from themis_pipeline.kafka.seam import Listener, Partition


class Listening(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """`wake` makes the IO loop look for what has become ready: futures are done on other threads here."""

    def __init__(self, listener: Listener, wake: Callable[[], None]) -> None:
        self._listener = listener
        self._wake = wake

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        self._listener.assigned(_plain(assigned))

    async def on_partitions_revoked(self, revoked: Iterable[tuple[str, int]]) -> None:
        """Heartbeats go on while it waits; the library lets go of the partitions when it returns."""
        await self._waiting(self._listener.revoked(_plain(revoked)))

    async def on_partitions_lost(self, lost: Iterable[tuple[str, int]]) -> None:
        """Not the revoked handler, to which the library would delegate: nothing may be committed any more."""
        self._listener.lost(_plain(lost))

    def _waiting(self, result: Result[None]) -> Future:
        waited = Future()

        def done(one: Result[None]) -> None:
            error = one.exception()
            waited.success(None) if error is None else waited.failure(error)
            self._wake()

        result.add_done_callback(done)
        return waited


def _plain(partitions: Iterable[tuple[str, int]]) -> list[Partition]:
    return [Partition(*one) for one in partitions]
