"""How many calls one replica gets at a time."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from types import TracebackType


class Gate:
    """Lets through up to `limit` calls; halves on overload, and grows back by one with each success.

    A server that refuses work is not helped by the same number of calls a moment later; those that wait here use up
    no attempts.
    """

    def __init__(self, limit: int) -> None:
        self._most = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.limit = limit
        self.inside = 0

    async def __aenter__(self) -> None:
        while self.inside >= self.limit:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # It may have been called in just before: the next one takes its turn.
                self._wake()
                raise
        self.inside += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside -= 1
        self._wake()

    def overloaded(self) -> None:
        self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        self.limit = min(self._most, self.limit + 1)

    def widen(self, limit: int) -> None:
        self._most = self.limit = limit
        self._wake()

    def remove(self) -> None:
        """Lets everyone through from now on: what stood behind it is over, and says so itself."""
        self.widen(sys.maxsize)

    def _wake(self) -> None:
        free = self.limit - self.inside
        while free > 0 and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1
