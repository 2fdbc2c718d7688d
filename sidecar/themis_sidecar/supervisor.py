"""`themis-sidecar --supervise`: a parent that starts the server again when it dies.

For machines without Kubernetes or systemd, which do the same. A failed engine ends its process (exit code 70), since
nothing less gives back its threads and its memory; until the next one serves, callers find the port closed, which
clients read as UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from themis_sidecar.config import SupervisorConfig
from themis_sidecar.logs import Logger
from themis_sidecar.ready import ReadyFile

BAD_SETTINGS = 2
"""A server that ends with this code would do so again."""
NOT_STARTED = os.EX_OSERR
"""The exit code where the system did not let a server start; for want of memory, for instance."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
MOST_DOUBLINGS = 64  # of a wait; far beyond any setting, and within what a float holds


class Supervisor:
    """Runs `command` until it ends by itself, is told to, or fails too often in too short a time."""

    def __init__(
        self,
        command: Sequence[str],
        config: SupervisorConfig,
        ready_file: ReadyFile,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._config = config
        self._ready_file = ready_file
        self._logger = logger
        self._clock = clock
        self._told = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._early: signal.Signals | None = None  # came while there was no process to pass it on to

    async def run(self) -> int:
        """The exit code of the last process; 128 + N for one that was killed by signal N, NOT_STARTED for one that
        could not be started."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        failures = 0
        while True:
            started_s = self._clock()
            code = await self._run_once()
            lived_s = self._clock() - started_s
            if self._told.is_set() or code in (0, BAD_SETTINGS):
                return code
            failures = failures + 1 if lived_s < self._config.quick_s or code == NOT_STARTED else 0
            if failures >= self._config.quick_failures:
                self._logger.error("gave_up", exit_code=code, failures=failures)
                return code
            doublings = min(max(0, failures - 1), MOST_DOUBLINGS)
            wait_s = min(self._config.longest_wait_s, self._config.first_wait_s * 2.0**doublings)
            self._logger.error(
                "restarting", exit_code=code, lived_s=round(lived_s, 3), failures=failures, wait_s=wait_s
            )
            if await self._told_within(wait_s):
                return code

    async def _run_once(self) -> int:
        try:
            self._child = await self._start()
        except OSError as error:
            self._logger.error("not_started", error=f"{type(error).__name__}: {error}")
            return NOT_STARTED
        self._logger.info("started", pid=self._child.pid)
        if self._early is not None:
            self._child.send_signal(self._early)
        code = await self._child.wait()
        self._child = None
        self._ready_file.remove()  # one that was killed could not do that itself
        return code if code >= 0 else 128 - code

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            start_new_session=True,  # a terminal's Ctrl-C is for the parent alone: passed on too, it would count twice
            preexec_fn=functools.partial(end_with_parent, ctypes.CDLL(None), os.getpid()),
        )

    async def _told_within(self, seconds: float) -> bool:
        telling = asyncio.create_task(self._told.wait())
        await asyncio.wait((telling,), timeout=seconds)
        telling.cancel()
        return self._told.is_set()

    def _on_signal(self, number: signal.Signals) -> None:
        """Passed on each time: the server drains at the first, and ends at once at the second."""
        self._told.set()
        if self._child is None:
            self._early = number
        elif self._child.returncode is None:
            self._child.send_signal(number)


def end_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    """In the new process: a parent that is killed must not leave a server on the port behind. Linux only."""
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed between fork and prctl, of which no signal will tell
            os._exit(NOT_STARTED)
