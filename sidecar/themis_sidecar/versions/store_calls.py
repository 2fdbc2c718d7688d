"""The store's blocking calls, kept off the event loop and in threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from themis_judge.store import JudgeStore

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4  # a store that hangs holds up these, and no engine's loading


class StoreCalls:
    """One store, called from one event loop."""

    def __init__(self, store: JudgeStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="themis-store")

    async def run(self, method: Callable[Concatenate[JudgeStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`method` of the store. A cancelled call goes on in its thread, and its result is dropped."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: method(self._store, *args, **kwargs))

    def close(self) -> None:
        """What hangs is not waited for; what is fetched may be thrown out by others from now on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._store.close()
