"""Waiting in place for what is away: the handler keeps its place in the window, and that is what holds up the reading.
Put off by way of the retry topic at once, a whole backlog would go round through it while the sidecar restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from themis_judge.engines.base import Deadline
from themis_pipeline.runner.stage import Retry

T = TypeVar("T")

LEAST_S = 1.0
LONGEST_S = 60.0


class Patience:
    """For one event loop. rest_s: what a last try still needs of the deadline."""

    def __init__(self, least_s: float = LEAST_S, rest_s: float = 1.0) -> None:
        self._least_s = least_s
        self._rest_s = rest_s
        self._over = asyncio.Event()

    def end(self) -> None:
        """Nobody waits any more: what would have is put off at once."""
        self._over.set()

    async def asked(self, ask: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """Asks again for as long as it is told to come later and there is time; each wait is at least twice the one
        before. Where the next one would last beyond the deadline, what is left of it is waited for all the same: what
        is put off at once holds up no reading. Raises Retry, and whatever else `ask` does."""
        least_s = self._least_s
        while True:
            try:
                return await ask()
            except Retry as later:
                wait_s, left_s = max(later.after_s, least_s), deadline.remaining_s() - self._rest_s
                if not await self._waited(max(0.0, min(wait_s, left_s))) or wait_s > left_s:
                    raise
            least_s = min(LONGEST_S, 2 * wait_s)

    async def _waited(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except asyncio.TimeoutError:
            return True
        return False
