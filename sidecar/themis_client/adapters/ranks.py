"""The ranks of a torch.distributed job, at the end of a call: if one has no rewards, all raise.

A rank that raises alone leaves the others waiting in the trainer's next collective until that times out. What is
exchanged goes through the job's own key-value store: no collective, so that reward functions that run at the same time
can't meet in the wrong order, and a number of requests that does not grow with the ranks.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

from themis_client.adapters.errors import RankFailed, RanksLost

_ORDINALS = itertools.count()
"""All ranks run the same program, so the same reward function has the same number everywhere."""


class Store(Protocol):
    """What is used of torch.distributed.Store."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def add(self, key: str, amount: int) -> int: ...
    def wait(self, keys: list[str], timeout: timedelta) -> None: ...
    def delete_key(self, key: str) -> bool: ...


class Ranks:
    """wait_s: how long to wait for the others. job: gives the store, this rank and the number of ranks; None outside
    a distributed job."""

    def __init__(self, wait_s: float, job: Callable[[], tuple[Store, int, int] | None] | None = None) -> None:
        self._wait = timedelta(seconds=wait_s)
        self._prefix = f"themis/{next(_ORDINALS)}"
        self._job = job or torch_job
        self._calls = 0

    def agree(self, why: BaseException | None) -> None:
        """Waits for the others. why: what went wrong here; None if nothing. Raises RankFailed if it went wrong
        elsewhere, RanksLost if they don't come."""
        job = self._job()
        if job is None:
            return
        store, rank, ranks = job
        key, self._calls = f"{self._prefix}/{self._calls}", self._calls + 1
        if why is not None:
            store.set(f"{key}/why", f"rank {rank}: {type(why).__name__}: {why}")
        store.add(f"{key}/failed", 0 if why is None else 1)
        if store.add(f"{key}/here", 1) == ranks:
            store.set(f"{key}/done", "1")
        self._wait_for(store, f"{key}/done", "their rewards")
        if rank == 0:
            self._forget(store)
        failed = store.add(f"{key}/failed", 0)
        if failed and why is None:
            raise RankFailed(f"{failed} of {ranks} ranks have no rewards: {store.get(f'{key}/why').decode()}")

    def shared(self, name: str, find: Callable[[], str]) -> str:
        """What rank 0 finds, on all ranks; outside a distributed job it is found here. Raises what `find` raises, and
        RankFailed on the other ranks."""
        job = self._job()
        if job is None:
            return find()
        store, rank, _ = job
        key = f"{self._prefix}/shared/{name}"
        if rank == 0:
            try:
                found = find()
            except Exception as error:
                store.set(key, f"!{type(error).__name__}: {error}")
                raise
            store.set(key, f"={found}")
            return found
        self._wait_for(store, key, name)
        told = store.get(key).decode()
        if told.startswith("!"):
            raise RankFailed(f"rank 0: {told[1:]}")
        return told[1:]

    def _wait_for(self, store: Store, key: str, what: str) -> None:
        try:
            store.wait([key], self._wait)
        except RuntimeError as error:  # torch's DistStoreError is one
            raise RanksLost(
                f"the other ranks did not tell {what} within {self._wait.total_seconds():g} s: one may have died"
            ) from error

    def _forget(self, store: Store) -> None:
        """Everyone who is here has left the call before the last one."""
        if self._calls >= 2:
            old = f"{self._prefix}/{self._calls - 2}"
            for name in ("why", "failed", "here", "done"):
                store.delete_key(f"{old}/{name}")


def torch_job() -> tuple[Store, int, int] | None:
    """The distributed job that this process is in, if its trainer made one."""
    torch: Any = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    if distributed.get_world_size() == 1:
        return None
    # No public name reaches the store that a process group was made with.
    store: Store = distributed.distributed_c10d._get_default_store()
    return store, distributed.get_rank(), distributed.get_world_size()
