"""What a blocking client keeps between calls: the AsyncClient that works for it, renewed where that can't work."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeAlias, TypeVar

from themis_client.aio import AsyncClient
from themis_client.errors import ClientClosed, DeadlineExceeded
from themis_client.loop import PROCESS_LOOP

T = TypeVar("T")

Work: TypeAlias = Callable[[AsyncClient], Coroutine[Any, Any, T]]

GRACE_S = 10.0
"""How long after its deadline a call is waited for: it ends itself, unless the loop's thread is stuck."""


class Session:
    """make: gives an AsyncClient when called with version=. The pinned version outlives the AsyncClient: it goes
    with a fork and with a pickle, so that one run has one judge in however many processes."""

    def __init__(self, make: Callable[..., AsyncClient], version: str | None, timeout_s: float) -> None:
        self._make = make
        self._timeout_s = timeout_s
        self._closed = False
        self._renew(version)
        PROCESS_LOOP.add(self)

    @property
    def version(self) -> str | None:
        return self._client.version

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return any(not call.done() for call in list(self._calls))

    def submit(self, work: Work[T]) -> Future[T]:
        """Starts work on the package's own loop."""
        if self._closed:
            raise ClientClosed("the client is closed")
        client = self._current()
        call = PROCESS_LOOP.submit(lambda: work(client))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def wait(self, work: Work[T], timeout_s: float | None) -> T:
        """Starts work and waits for it, little longer than its deadline."""
        limit_s = (self._timeout_s if timeout_s is None else timeout_s) + GRACE_S
        call = self.submit(work)
        try:
            return call.result(limit_s)
        except FutureTimeoutError as error:
            raise DeadlineExceeded(
                f"nothing came back within {limit_s:g} s: the work takes longer than the timeout_s that it was given, "
                "or than the client's; or the client's own thread is stuck"
            ) from error
        finally:
            call.cancel()  # after KeyboardInterrupt, for instance; does nothing to a call that is done

    def close(self) -> None:
        self._closed = True
        PROCESS_LOOP.submit(self._current().close).result(GRACE_S)

    async def disconnect(self) -> None:
        """Before a fork, on the package's own loop."""
        await self._current().disconnect()

    def __getstate__(self) -> dict[str, Any]:
        return {"make": self._make, "version": self.version, "timeout_s": self._timeout_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Session.__init__(self, **state)

    def _current(self) -> AsyncClient:
        if self._pid != os.getpid():
            self._renew(self._client.version)
        return self._client

    def _renew(self, version: str | None) -> None:
        self._client = self._make(version=version)
        self._calls: set[Future[Any]] = set()
        self._pid = os.getpid()
