"""Ranks that fail together, over torch's own store; each rank is a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import HashStore

from themis_client.adapters.errors import RankFailed, RanksLost
from themis_client.adapters.ranks import Ranks, Store, torch_job

LONG_S = 60.0


def ranks_of(count: int, wait_s: float = LONG_S) -> list[Ranks]:
    store: Store = HashStore()
    store.set_timeout(timedelta(seconds=LONG_S))  # type: ignore[attr-defined]

    def job(rank: int) -> Callable[[], tuple[Store, int, int]]:
        return lambda: (store, rank, count)

    made = [Ranks(wait_s, job(rank)) for rank in range(count)]
    for one in made:  # threads of one process share its numbers, processes don't
        one._prefix = made[0]._prefix
    return made


def together(calls: list[Callable[[], object]]) -> list[BaseException | None]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.exception() for future in [pool.submit(call) for call in calls]]


def test_nobody_failed() -> None:
    ranks = ranks_of(3)
    for _ in range(5):
        assert together([lambda one=one: one.agree(None) for one in ranks]) == [None] * 3  # type: ignore[misc]


def test_one_fails_and_all_raise_and_may_go_on() -> None:
    ranks = ranks_of(3)
    why = RuntimeError("the judge is away")
    for _ in range(3):
        told = together([lambda: ranks[0].agree(None), lambda: ranks[1].agree(why), lambda: ranks[2].agree(None)])
        assert told[1] is None  # it raises its own error
        for other in (told[0], told[2]):
            assert isinstance(other, RankFailed)
            assert str(other) == "1 of 3 ranks have no rewards: rank 1: RuntimeError: the judge is away"
        assert together([lambda one=one: one.agree(None) for one in ranks]) == [None] * 3  # type: ignore[misc]


def test_a_rank_that_never_comes_is_told() -> None:
    ranks = ranks_of(2, wait_s=0.2)
    with pytest.raises(RanksLost, match=r"did not tell their rewards within 0.2 s"):
        ranks[0].agree(None)


def test_what_rank_0_finds_is_everyones() -> None:
    ranks, found = ranks_of(3), []
    made = [iter(["a"]), iter(["b"]), iter(["c"])]
    calls: list[Callable[[], object]] = [
        lambda one=one, values=values: found.append(one.shared("version", lambda: next(values)))  # type: ignore[misc]
        for one, values in zip(ranks, made, strict=True)
    ]
    assert together(calls) == [None] * 3
    assert found == ["a"] * 3


def test_what_rank_0_does_not_find_fails_everywhere() -> None:
    ranks = ranks_of(2)

    def find() -> str:
        raise RuntimeError("no server")

    told = together([lambda one=one: one.shared("version", find) for one in ranks])  # type: ignore[misc]
    assert isinstance(told[0], RuntimeError)
    assert isinstance(told[1], RankFailed)
    assert "rank 0: RuntimeError: no server" in str(told[1])


def test_a_process_of_its_own_agrees_with_itself() -> None:
    assert torch_job() is None
    alone = Ranks(LONG_S)
    alone.agree(None)
    alone.agree(RuntimeError("told by whoever raises it"))
    assert alone.shared("version", lambda: "mine") == "mine"
