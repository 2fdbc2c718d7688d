"""The one event loop on which this process's synchronous clients run, in a thread of its own.

Several loops that run grpc.aio in one process break each other (grpc issue 42357), so there is one per process. gRPC
does not survive a fork while it has open channels: the child inherits its locks and none of its threads, and its first
call hangs. So before a fork all idle clients close their channels, and both processes open new ones when they need
them; a fork while calls are under way leaves the parent alone, and the child's clients refuse to work. gRPC's own
handlers stay out of it (see fork_support.py).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from themis_client import native_threads
from themis_client.errors import ClientClosed

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0
NATIVE_TIMEOUT_S = 0.5
"""How long a fork waits for threads that gRPC ends in the background; they may also be somebody else's, and stay."""


class Forkable(Protocol):
    """What the process asks of its clients around a fork."""

    @property
    def busy(self) -> bool: ...

    async def disconnect(self) -> None: ...


class ProcessLoop:
    """A loop in a daemon thread, made at the first use and again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._broken = False

    def add(self, client: Forkable) -> None:
        with self._lock:
            self._clients.add(client)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Starts a coroutine on the loop, in the caller's context. It is made only where it will run: an unused one
        would warn."""
        with self._lock:  # a fork waits here, so that no call starts between its check and itself
            loop = self._running()
            # The loop's callback takes over the context that it was scheduled in, and with it the caller's trace.
            return asyncio.run_coroutine_threadsafe(make(), loop)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Runs a callback on the loop, after whatever was submitted before it."""
        with self._lock:
            self._running().call_soon_threadsafe(callback)

    def stop(self) -> None:
        """At the interpreter's end: gRPC's own threads must not outlive the loop's."""
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            self._disconnect_all()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_TIMEOUT_S)
            self._loop = self._thread = None

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._loop is not None and not self._broken:
            if any(client.busy for client in self._clients):
                self._broken = True
            else:
                self._disconnect_all()
                native_threads.wait_for_grpc(NATIVE_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        self._broken = False
        self._lock.release()

    def after_fork_in_child(self) -> None:
        # The lock's owner was a thread of the parent; loop and thread stayed there.
        self._lock = threading.RLock()
        self._loop = self._thread = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._broken:
            raise ClientClosed(
                "this process was forked while its parent had calls under way, and gRPC can't work in it: "
                "start it with multiprocessing's 'spawn', or fork before the first call"
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="themis-client", daemon=True)
            self._thread.start()
        return self._loop

    def _disconnect_all(self) -> None:
        if self._loop is not None:
            for client in list(self._clients):
                asyncio.run_coroutine_threadsafe(client.disconnect(), self._loop).result(CLOSE_TIMEOUT_S)


def _process_loop() -> ProcessLoop:
    loop = ProcessLoop()
    atexit.register(loop.stop)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=loop.before_fork,
            after_in_parent=loop.after_fork_in_parent,
            after_in_child=loop.after_fork_in_child,
        )
    return loop


PROCESS_LOOP = _process_loop()
"""The only state of this package outside objects: a process has one loop whoever asks."""
