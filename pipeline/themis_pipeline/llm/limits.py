"""Rate limits by requests and tokens, for all processes that ask an endpoint.

Time is cut into windows by the wall clock; each window is an account of the ledger (ledger.py) from which processes
lease slices, and a slice ends with its window. So nobody has to renew anything, and what a dead process held is back
with the next window. Machines whose clocks differ by d draw on different windows for d seconds: over that time the
endpoint may see the limits of two windows.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from themis_judge.engines.base import Deadline
from themis_pipeline.llm.endpoints import RateLimit
from themis_pipeline.llm.errors import RateLimited, Refused
from themis_pipeline.llm.ledger import Ledger

_KEPT_S = 900.0  # by which no clock of the fleet may be ahead: windows before that are dropped


class Limits(Protocol):
    async def take(self, tokens: int, deadline: Deadline) -> None:
        """Waits until a request with so many tokens may go. Raises RateLimited if that is after the deadline,
        Refused if it is never, SharedStoreUnavailable."""
        ...


class LeasedLimits:
    """Of one endpoint, for one event loop. wall: seconds since 1970; clock: monotonic seconds, the deadline's."""

    def __init__(
        self,
        name: str,
        limit: RateLimit,
        ledger: Ledger,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._limit, self._ledger = f"limits-{name}", limit, ledger
        self._sleep, self._wall, self._clock = sleep, wall, clock
        self._bound = limit.in_window()
        # What has no limit is leased in pieces so small against its bound that it never runs out.
        self._slice = tuple(min(math.ceil(amount / limit.slices), 1 << 24) for amount in self._bound)
        self._unlimited = limit.requests_per_minute is None and limit.tokens_per_minute is None
        self._window_s = -1.0
        self._held = (0, 0)
        self._turn = asyncio.Lock()  # first come, first served; also one lease at a time

    async def take(self, tokens: int, deadline: Deadline) -> None:
        if self._unlimited:
            return
        if tokens > self._bound[1]:
            raise Refused(f"{self._folder}: a window has {self._bound[1]} tokens, the request {tokens}: raise window_s")
        async with self._turn:
            while not await self._granted(tokens):
                # The wall clock may have been set back meanwhile.
                wait_s = min(self._window_s + self._limit.window_s - self._wall(), self._limit.window_s)
                if self._clock() + wait_s >= deadline.at_s:
                    raise RateLimited(f"{self._folder}: the fleet's limit is used up for now", max(wait_s, 0.0))
                await self._sleep(max(wait_s, 0.001))

    async def _granted(self, tokens: int) -> bool:
        await self._turn_window()
        if any(least := self._missing(tokens)):
            # A share arrives though the call that asked for it be cancelled: the ledger counts it as used.
            await asyncio.shield(self._lease(least))
        if any(self._missing(tokens)):
            return False
        self._held = (self._held[0] - 1, self._held[1] - tokens)
        return True

    def _missing(self, tokens: int) -> tuple[int, int]:
        return max(0, 1 - self._held[0]), max(0, tokens - self._held[1])

    async def _lease(self, least: tuple[int, int]) -> None:
        window_s = self._window_s
        wish = tuple(max(need, usual) for need, usual in zip(least, self._slice, strict=True))
        more = await asyncio.to_thread(self._ledger.take, self._account(window_s), least, wish, self._bound)
        if more is not None and window_s == self._window_s:
            self._held = (self._held[0] + more[0], self._held[1] + more[1])

    async def _turn_window(self) -> None:
        window_s = self._wall() // self._limit.window_s * self._limit.window_s
        if window_s == self._window_s:
            return
        self._window_s, self._held = window_s, (0, 0)
        before = self._account(window_s - _KEPT_S).removeprefix(f"{self._folder}/")
        await asyncio.to_thread(self._ledger.forget, self._folder, before)

    def _account(self, window_s: float) -> str:
        """By the window's begin: members that are about to get windows of another length leave this one's alone."""
        return f"{self._folder}/{int(window_s):012}"
