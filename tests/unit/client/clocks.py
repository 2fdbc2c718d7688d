"""Time and chance under a test's control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from themis_client.deadline import Runtime

FOREVER_S = 1e9


async def until(condition: Callable[[], bool]) -> None:
    """Lets others run until it holds; the test's own time-out ends what never does."""
    while not condition():  # noqa: ASYNC110 - the condition is on the other side of a socket
        await asyncio.sleep(0)


@dataclass
class Clock:
    """Sleeping moves the clock and lets others run; who sleeps forever does. Draws give the upper bound."""

    now_s: float = 0.0
    slept_s: list[float] = field(default_factory=list)
    drawn: list[tuple[float, float]] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        if seconds >= FOREVER_S:
            await asyncio.Event().wait()
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def uniform(self, low: float, high: float) -> float:
        self.drawn.append((low, high))
        return high

    @property
    def runtime(self) -> Runtime:
        return Runtime(clock=lambda: self.now_s, sleep=self.sleep, uniform=self.uniform)
