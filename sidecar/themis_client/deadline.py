"""One end for a whole call, however many attempts it takes; and the world that a test replaces."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Runtime:
    """Time and chance: a monotonic clock in seconds, a sleep in seconds, a uniform draw between two bounds."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.SystemRandom().uniform
    """Not of the random module's own state: that is the trainer's, which seeds it alike on all ranks."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the runtime's clock."""

    at_s: float
    runtime: Runtime

    @classmethod
    def after(cls, timeout_s: float, runtime: Runtime) -> Deadline:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s}")
        return cls(runtime.clock() + timeout_s, runtime)

    @property
    def remaining_s(self) -> float:
        """Never below 0."""
        return max(0.0, self.at_s - self.runtime.clock())
