"""Ranks that fail together, over torch's own store; each rank is a thread with a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import TCPStore

from themis_client.adapters.errors import RankFailed, RanksLost
from themis_client.adapters.ranks import Ranks, Store, torch_job

LONG_S = 60.0
Job = Callable[[], tuple[Store, int, int]]


@pytest.fixture
def jobs() -> list[Job]:
    """Two ranks, one connection each, as processes have them."""
    master = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=LONG_S), wait_for_workers=False)
    other = TCPStore("127.0.0.1", master.port, None, False, timedelta(seconds=LONG_S), wait_for_workers=False)
    return [lambda: (master, 0, 2), lambda: (other, 1, 2)]


def ranks_of(jobs: list[Job], wait_s: float = LONG_S, name: str = "judge") -> list[Ranks]:
    made = [Ranks(name, wait_s, job) for job in jobs]
    for one in made:  # threads of one process share its numbers, processes don't
        one._prefix = made[0]._prefix
    return made


def together(*calls: Callable[[], object]) -> list[BaseException | None]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.exception() for future in [pool.submit(call) for call in calls]]


def test_nobody_failed(jobs: list[Job]) -> None:
    one, other = ranks_of(jobs)
    for _ in range(5):
        assert together(lambda: one.agree(None), lambda: other.agree(None)) == [None] * 2


def test_one_fails_and_all_raise_and_may_go_on(jobs: list[Job]) -> None:
    one, other = ranks_of(jobs)
    why = RuntimeError("the judge is away")
    for _ in range(3):
        told = together(lambda: one.agree(None), lambda: other.agree(why))
        assert told[1] is None  # it raises its own error
        assert isinstance(told[0], RankFailed)
        assert str(told[0]) == "1 of 2 ranks have no rewards: rank 1: RuntimeError: the judge is away"
        assert together(lambda: one.agree(None), lambda: other.agree(None)) == [None] * 2


def test_functions_that_run_at_the_same_time_may_end_in_any_order(jobs: list[Job]) -> None:
    first, second = ranks_of(jobs, name="first"), ranks_of(jobs, name="second")
    done = [threading.Event(), threading.Event()]

    def after(event: threading.Event, ranks: Ranks, then: threading.Event) -> None:
        assert event.wait(LONG_S)
        ranks.agree(None)
        then.set()

    begun, unused = threading.Event(), threading.Event()
    begun.set()
    # Each rank's second function comes to its end only when its first has been through: neither may hold the store.
    assert (
        together(
            lambda: after(begun, first[0], unused),
            lambda: after(begun, second[1], unused),
            lambda: after(begun, second[0], done[0]),
            lambda: after(begun, first[1], done[1]),
        )
        == [None] * 4
    )


def test_a_rank_that_never_comes_is_told_and_one_that_comes_late_is_too(jobs: list[Job]) -> None:
    one, other = ranks_of(jobs, wait_s=0.2)
    with pytest.raises(RanksLost, match=r"not all ranks came to the end of this call within 0\.2 s"):
        one.agree(None)
    with pytest.raises(RanksLost):  # alone in the trainer's next collective it would wait for the one that gave up
        other.agree(None)


def test_a_store_that_is_gone_is_told() -> None:
    master = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=LONG_S), wait_for_workers=False)
    other = TCPStore("127.0.0.1", master.port, None, False, timedelta(seconds=2), wait_for_workers=False)
    ranks = Ranks("judge", 0.2, lambda: (other, 1, 2))
    del master
    with pytest.raises(RanksLost, match="store can't be reached"):
        ranks.agree(None)


def test_what_rank_0_finds_is_everyones(jobs: list[Job]) -> None:
    one, other = ranks_of(jobs)
    found: list[str] = []
    assert (
        together(
            lambda: found.append(one.shared("version", lambda: "mine")),
            lambda: found.append(other.shared("version", lambda: "another")),
        )
        == [None] * 2
    )
    assert found == ["mine"] * 2


def test_what_rank_0_does_not_find_fails_everywhere_and_may_be_found_the_next_time(jobs: list[Job]) -> None:
    one, other = ranks_of(jobs)

    def find() -> str:
        raise RuntimeError("no server")

    told = together(lambda: one.shared("version", find), lambda: other.shared("version", find))
    assert isinstance(told[0], RuntimeError)
    assert isinstance(told[1], RankFailed)
    assert "rank 0: RuntimeError: no server" in str(told[1])
    together(lambda: one.agree(told[0]), lambda: other.agree(told[1]))
    found: list[str] = []
    together(
        lambda: found.append(one.shared("version", lambda: "found")),
        lambda: found.append(other.shared("version", find)),
    )
    assert found == ["found"] * 2


def test_a_rank_0_that_tells_nothing_is_told(jobs: list[Job]) -> None:
    _, other = ranks_of(jobs, wait_s=0.2)
    with pytest.raises(RanksLost, match=r"rank 0 did not tell its version within 0\.2 s"):
        other.shared("version", lambda: "another")


def test_a_process_of_its_own_agrees_with_itself() -> None:
    assert torch_job() is None
    alone = Ranks("judge", LONG_S)
    assert not alone.together
    alone.agree(None)
    alone.agree(RuntimeError("told by whoever raises it"))
    assert alone.shared("version", lambda: "mine") == "mine"
