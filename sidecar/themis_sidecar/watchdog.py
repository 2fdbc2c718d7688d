"""Watches the engine, and ends the process when it can compute no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from themis_sidecar.logs import Logger

ENGINE_FAILED = 70  # EX_SOFTWARE: the supervisor starts a clean process


class Watchdog:
    """A thread that hangs in the engine can't be joined, so `exit_process` must not wait for any (os._exit)."""

    def __init__(
        self,
        failure: Callable[[], str | None],
        shut: Callable[[str], Awaitable[None]],
        exit_process: Callable[[int], None],
        logger: Logger,
        poll_s: float = 0.5,
    ) -> None:
        self._failure = failure
        self._shut = shut
        self._exit_process = exit_process
        self._logger = logger
        self._poll_s = poll_s

    async def run(self) -> None:
        """Returns after the exit was called, which is of interest to tests only."""
        failure = self._failure()
        while failure is None:
            await asyncio.sleep(self._poll_s)
            failure = self._failure()
        self._logger.error("engine_failed", reason=failure, exit_code=ENGINE_FAILED)
        await self._shut(failure)
        self._exit_process(ENGINE_FAILED)
