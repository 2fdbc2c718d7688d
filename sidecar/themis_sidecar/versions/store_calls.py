"""The store's blocking calls: off the event loop, with a deadline each, in threads that hold up no end."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from themis_judge.store import JudgeStore, Manifest, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

CALL_S = 120.0
_THREADS = 4  # as many calls at a time; one that hangs keeps its place until it ends
_SLOWEST_BYTES_PER_S = 1 << 20


class StoreCalls:
    """One store, called from one event loop. Daemon threads of its own: those of a pool are waited for when the
    interpreter ends, and a directory on a network may never answer."""

    def __init__(self, store: JudgeStore, call_s: float = CALL_S) -> None:
        self._store = store
        self._call_s = call_s
        self._free = asyncio.Semaphore(_THREADS)

    async def run(self, method: Callable[Concatenate[JudgeStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`method` of the store. A call that is cancelled or late goes on in its thread, and its result is dropped.
        Raises StoreUnavailable where there is no answer in time."""
        return await self._within(self._call_s, functools.partial(method, self._store, *args, **kwargs))

    async def fetch(self, manifest: Manifest) -> Path:
        """The store's `fetch`, which takes as long as the version is large."""
        limit_s = self._call_s + manifest.bytes / _SLOWEST_BYTES_PER_S
        return await self._within(limit_s, functools.partial(self._store.fetch, manifest.id))

    def keep(self, versions: Iterable[str]) -> None:
        """Of what was fetched only these are used from now on."""
        self._store.keep(frozenset(versions))

    def close(self) -> None:
        """What hangs is not waited for; what is fetched may be thrown out by others from now on."""
        self._store.close()

    async def _within(self, limit_s: float, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def ended(error: BaseException | None, found: Callable[[], T]) -> None:
            self._free.release()
            if not done.done():
                if error is None:
                    done.set_result(found())
                else:
                    done.set_exception(error)

        def work() -> None:
            error, found = None, list[T]()
            try:
                found.append(call())
            except BaseException as raised:  # noqa: BLE001 - it is the caller's, whatever it is
                error = raised
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(ended, error, lambda: found[0])

        try:
            async with asyncio.timeout(limit_s):
                await self._free.acquire()
                threading.Thread(target=work, name="themis-store", daemon=True).start()
                return await done
        except TimeoutError as late:
            raise StoreUnavailable(f"the store gave no answer within {limit_s:.0f} s") from late
