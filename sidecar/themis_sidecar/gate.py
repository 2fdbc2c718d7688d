"""Who may come in: counts calls in flight, and turns new ones away while the server can't serve them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from themis_sidecar.errors import Overloaded, Unavailable

FULL_RETRY_S = 1.0  # how soon a call ends can't be known; a second spreads the retries


class Gate:
    """Closed with a reason until it is opened; once shut it stays shut."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls = 0
        self._closed_because: str | None = "the server is still loading its judge; retry, or ask another replica"
        self._idle = asyncio.Event()
        self._idle.set()
        self.shut = asyncio.Event()

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def why_closed(self) -> str:
        return self._closed_because or ""

    def open(self) -> None:
        if not self.shut.is_set():
            self._closed_because = None

    def close(self, reason: str) -> None:
        """For good: new calls get `reason`, streams wind down."""
        self._closed_because = reason
        self.shut.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call. Raises Unavailable or Overloaded instead of letting it in."""
        if self._closed_because is not None:
            raise Unavailable(self._closed_because)
        if self._calls >= self._max_calls:
            raise Overloaded(f"{self._calls} calls are in flight, as many as this server takes", FULL_RETRY_S)
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()

    async def idle(self, timeout_s: float) -> bool:
        """Waits until no call is in flight; False where some still are after `timeout_s`."""
        waiting = asyncio.create_task(self._idle.wait())
        await asyncio.wait((waiting,), timeout=timeout_s)
        waiting.cancel()
        return self._idle.is_set()
