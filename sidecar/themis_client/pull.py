"""A bridge: items from a thread that blocks to an event loop, and results back."""

from __future__ import annotations

import asyncio
import functools
import queue
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from themis_client.loop import ProcessLoop

InT = TypeVar("InT")
OutT = TypeVar("OutT")

AHEAD_ITEMS = 256
"""How far the caller's iterable is read ahead of its results."""


class _End:
    pass


END = _End()


class Pull(Generic[InT, OutT]):
    """Serves one iteration. The caller's iterable stays in the caller's thread, where it may do what it likes."""

    def __init__(self, loop: ProcessLoop) -> None:
        self._loop = loop
        self._taken: asyncio.Queue[InT | _End] = asyncio.Queue()
        self._found: queue.SimpleQueue[OutT | _End] = queue.SimpleQueue()

    async def taken(self) -> AsyncIterator[InT]:
        """The items, on the loop."""
        while not isinstance(item := await self._taken.get(), _End):
            yield item

    async def drain(self, results: AsyncIterator[OutT]) -> None:
        """Passes the results on, on the loop."""
        try:
            async for result in results:
                self._found.put(result)
        finally:
            self._found.put(END)

    def results(self, items: Iterable[InT], start: Callable[[], Future[None]]) -> Generator[OutT, None, None]:
        """Yields the results in the caller's thread; starts when the first one is asked for."""
        call = start()
        try:
            in_flight = 0
            for item in items:
                self._give(item)
                in_flight += 1
                for result in self._ready(in_flight >= AHEAD_ITEMS):
                    if isinstance(result, _End):
                        return call.result()  # it ended before its items did: this raises why
                    in_flight -= 1
                    yield result
            self._give(END)
            while not isinstance(result := self._found.get(), _End):
                yield result
            call.result()
        finally:
            call.cancel()

    def _give(self, item: InT | _End) -> None:
        self._loop.call_soon(functools.partial(self._taken.put_nowait, item))

    def _ready(self, wait: bool) -> Iterator[OutT | _End]:
        if wait:
            yield self._found.get()
        with suppress(queue.Empty):
            while True:
                yield self._found.get_nowait()
