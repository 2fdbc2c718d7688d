"""The ranks of a torch.distributed job, at the end of a call: if one has no rewards, all raise.

A rank that raises alone leaves the others waiting in the trainer's next collective until that times out. What is
exchanged goes through the job's own key-value store: no collective, so that reward functions that run at the same time
can't meet in the wrong order, and a number of requests that does not grow with the ranks.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from themis_client.adapters.errors import RankFailed, RanksLost

_ORDINALS: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
"""All ranks run the same program, so the same reward function has the same number among those of its name."""
FIRST_WAIT_S, MOST_WAIT_S = 0.001, 0.05
GRACE_S = 5.0
"""For the word of a rank that settled a call at the moment when this one gave up."""
ALL, LOST = "all", "lost"


class Store(Protocol):
    """What is used of torch.distributed.Store. Not `wait`: it keeps other threads from using the store meanwhile."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def add(self, key: str, amount: int) -> int: ...
    def check(self, keys: list[str]) -> bool: ...
    def delete_key(self, key: str) -> bool: ...


class Ranks:
    """name: of the reward function; wait_s: how long to wait for the others. job: gives the store, this rank and the
    number of ranks; None outside a distributed job."""

    def __init__(
        self, name: str, wait_s: float, job: Callable[[], tuple[Store, int, int] | None] | None = None
    ) -> None:
        self._prefix = f"themis/{name}/{next(_ORDINALS[name])}"
        self._wait_s = wait_s
        self._job = job or torch_job
        self._calls = 0

    @property
    def together(self) -> bool:
        """Whether there are other ranks."""
        return self._job() is not None

    def agree(self, why: BaseException | None) -> None:
        """Waits for the others. why: what went wrong here; None if nothing. Raises RankFailed if it went wrong
        elsewhere, RanksLost if they don't come: on all ranks, those included that come late."""
        job = self._job()
        if job is None:
            return
        try:
            failed = self._exchanged(*job, why)
        except RuntimeError as error:  # torch's DistError is one
            raise RanksLost(f"the job's store can't be reached: {error}") from error
        if failed and why is None:
            raise RankFailed(failed)

    def shared(self, name: str, find: Callable[[], str]) -> str:
        """What rank 0 finds, on all ranks; outside a distributed job it is found here. At most once between two calls
        of `agree`. Raises what `find` raises, and RankFailed on the other ranks."""
        job = self._job()
        if job is None:
            return find()
        store, rank, _ = job
        key = f"{self._prefix}/{self._calls}/shared"
        if rank == 0:
            try:
                found = find()
            except Exception as error:
                store.set(key, f"!{type(error).__name__}: {error}")
                raise
            store.set(key, f"={found}")
            return found
        if not _appears(store, key, self._wait_s):
            raise RanksLost(f"rank 0 did not tell its {name} within {self._wait_s:g} s: it may have died")
        told = store.get(key).decode()
        if told.startswith("!"):
            raise RankFailed(f"rank 0: {told[1:]}")
        return told[1:]

    def _exchanged(self, store: Store, rank: int, ranks: int, why: BaseException | None) -> str:
        """What went wrong on some rank; empty if nothing."""
        key, self._calls = f"{self._prefix}/{self._calls}", self._calls + 1
        if why is not None:
            store.set(f"{key}/why", f"rank {rank}: {type(why).__name__}: {why}")
        store.add(f"{key}/failed", 0 if why is None else 1)
        if store.add(f"{key}/here", 1) == ranks:
            _settle(store, key, ALL)
        if not _appears(store, f"{key}/end", self._wait_s):
            _settle(store, key, LOST)
        if not _appears(store, f"{key}/end", GRACE_S) or store.get(f"{key}/end").decode() == LOST:
            raise RanksLost(
                f"not all ranks came to the end of this call within {self._wait_s:g} s: one may have died, or be slow"
            )
        if rank == 0:
            self._forget(store)
        failed = store.add(f"{key}/failed", 0)
        return f"{failed} of {ranks} ranks have no rewards: {store.get(f'{key}/why').decode()}" if failed else ""

    def _forget(self, store: Store) -> None:
        """Everyone who is here has left the call before the last one."""
        if self._calls >= 2:
            old = f"{self._prefix}/{self._calls - 2}"
            for name in ("why", "failed", "here", "settled", "end", "shared"):
                store.delete_key(f"{old}/{name}")


def _settle(store: Store, key: str, how: str) -> None:
    """Says how a call ended, unless somebody else said it: whoever comes later follows the first."""
    if store.add(f"{key}/settled", 1) == 1:
        store.set(f"{key}/end", how)


def _appears(store: Store, key: str, within_s: float) -> bool:
    until_s, wait_s = time.monotonic() + within_s, FIRST_WAIT_S
    while not store.check([key]):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(wait_s, left_s))
        wait_s = min(2 * wait_s, MOST_WAIT_S)
    return True


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
