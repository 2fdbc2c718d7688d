"""What a fleet shares: the ledger, the limits drawn from it, the budget."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.llm_endpoint import answer, misbehaving
from tests.unit.pipeline.llm_parts import Moments, asked, ended, near, put_together
from themis_judge.engines.base import Deadline
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.budget import Budget
from themis_pipeline.llm.endpoints import RateLimit
from themis_pipeline.llm.errors import (
    BudgetSpent,
    CorruptRecord,
    DeadlinePassed,
    RateLimited,
    Refused,
    SharedStoreUnavailable,
)
from themis_pipeline.llm.ledger import Amounts, FileLedger, Ledger, MemoryLedger
from themis_pipeline.llm.limits import LeasedLimits

LEDGERS = ["memory", "file"]


@pytest.fixture(params=LEDGERS)
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ledger]:
    """Each call: the ledger as another member sees it."""
    if request.param == "file":
        return lambda: FileLedger(LocalFiles(tmp_path))
    shared = MemoryLedger()
    return lambda: shared


def test_what_is_granted_lies_between_least_and_wish(ledgers: Callable[[], Ledger]) -> None:
    ledger, other = ledgers(), ledgers()
    assert ledger.taken("a/1") == ()
    assert ledger.take("a/1", (1, 10), (5, 50), (8, 100)) == (5, 50)
    assert other.take("a/1", (1, 10), (5, 50), (8, 100)) == (3, 50)
    assert ledger.take("a/1", (1, 0), (5, 50), (8, 100)) is None
    assert ledger.take("a/1", (0, 0), (0, 0), (8, 100)) == (0, 0)
    other.give_back("a/1", (2, 30))
    assert ledger.take("a/1", (1, 30), (5, 50), (8, 100)) == (2, 30)
    assert ledger.taken("a/1") == other.taken("a/1") == (8, 100)


def test_a_smaller_bound_grants_nothing_and_takes_nothing_back(ledgers: Callable[[], Ledger]) -> None:
    ledger = ledgers()
    assert ledger.take("a/1", (9,), (9,), (10,)) == (9,)
    assert ledger.take("a/1", (1,), (9,), (5,)) is None
    assert ledger.taken("a/1") == (9,)


def test_old_accounts_are_forgotten_and_no_others(ledgers: Callable[[], Ledger]) -> None:
    ledger, other = ledgers(), ledgers()
    for name in ("a/001", "a/002", "a/003", "b/001"):
        ledger.take(name, (1,), (1,), (9,))
    other.forget("a", "003")
    fresh = ledgers()
    assert [fresh.taken(name) for name in ("a/001", "a/002", "a/003", "b/001")] == [(), (), (1,), (1,)]


def test_a_member_forgets_what_another_one_dropped(ledgers: Callable[[], Ledger]) -> None:
    ledger, other = ledgers(), ledgers()
    ledger.take("a/001", (1,), (1,), (9,))
    other.forget("a", "003")
    ledger.forget("a", "003")
    assert ledger.taken("a/001") == ()


def test_forgetting_much_is_done_bit_by_bit(tmp_path: Path) -> None:
    ledger = FileLedger(LocalFiles(tmp_path))
    for number in range(100):
        ledger.take(f"a/{number:03}", (1,), (1,), (9,))
    ledger.forget("a", "100")
    assert len(list((tmp_path / "a").iterdir())) > 50  # a call waits for it
    for _ in range(20):
        ledger.forget("a", "100")
    assert not list((tmp_path / "a").iterdir())


def test_threads_never_take_more_than_there_is(ledgers: Callable[[], Ledger]) -> None:
    def taker(_: int) -> int:
        ledger, got = ledgers(), 0
        while (granted := ledger.take("a/1", (1,), (7,), (100,))) is not None:
            got += granted[0]
        return got

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(taker, range(8))) == 100


def test_a_damaged_account_is_an_error_that_names_it(tmp_path: Path) -> None:
    ledger = FileLedger(LocalFiles(tmp_path))
    ledger.take("a/1", (1,), (1,), (9,))
    (tmp_path / "a/1/00000001.json").write_bytes(b'{"totals": ["many"]}')
    with pytest.raises(CorruptRecord, match=r"a/1/00000001\.json"):
        FileLedger(LocalFiles(tmp_path)).taken("a/1")


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    ledger = FileLedger(LocalFiles(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(SharedStoreUnavailable):
        ledger.take("a/1", (1,), (1,), (9,))


# ------------------------------------------------------------------------------------------------- limits


def _limits(moments: Moments, ledger: Ledger, limit: RateLimit) -> LeasedLimits:
    return LeasedLimits("near", limit, ledger, sleep=moments.sleep, wall=moments.clock, clock=moments.clock)


@given(
    needs=st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    members=st.integers(1, 3),
    slices=st.integers(1, 12),
)
def test_no_window_passes_more_than_its_share(needs: list[int], members: int, slices: int) -> None:
    limit = RateLimit(requests_per_minute=30, tokens_per_minute=6000, window_s=10.0, slices=slices)
    moments, ledger = Moments(), MemoryLedger()
    fleet = [_limits(moments, ledger, limit) for _ in range(members)]
    passed: dict[int, list[int]] = {}

    async def run() -> None:
        for index, need in enumerate(needs):
            await fleet[index % members].take(need, Deadline(moments.now_s + 1e6))
            passed.setdefault(int(moments.now_s // 10), []).append(need)

    asyncio.run(run())
    assert all(len(window) <= 5 and sum(window) <= 1000 for window in passed.values())
    assert sum(map(len, passed.values())) == len(needs)


async def test_a_limit_that_comes_free_after_the_deadline_is_an_error_at_once(ledgers: Callable[[], Ledger]) -> None:
    moments = Moments()
    limits = _limits(moments, ledgers(), RateLimit(requests_per_minute=6, window_s=10.0))
    await limits.take(1, Deadline(moments.now_s + 5))
    with pytest.raises(RateLimited) as raised:
        await limits.take(1, Deadline(moments.now_s + 5))
    assert raised.value.retry_after_s == 10.0
    assert moments.slept == []
    await limits.take(1, Deadline(moments.now_s + 11))
    assert moments.slept == [10.0]


async def test_a_caller_behind_a_patient_one_keeps_its_own_deadline(tmp_path: Path) -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    limit = RateLimit(requests_per_minute=6, window_s=10.0)
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, limit=limit)) as parts:
            parts.moments.sleeper = sleep
            await parts.llm.complete(asked(), parts.context())
            patient = asyncio.ensure_future(parts.llm.complete(asked(), parts.context(index=1)))
            await asyncio.wait_for(asleep.wait(), 60)
            with pytest.raises(DeadlinePassed):
                await parts.llm.complete(asked(), parts.context(index=2, seconds=0.2))
            patient.cancel()
            with pytest.raises(asyncio.CancelledError):
                await patient
            parts.moments.now_s += 10  # and its place is free
            await parts.llm.complete(asked(), parts.context(index=3, seconds=5))
    assert server.calls == 2


async def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_a_window() -> None:
    moments = Moments()
    wall_s = [moments.now_s]

    class Back(MemoryLedger):
        def take(self, *args: Any) -> Amounts | None:
            wall_s[0] -= 3600
            return None

    limit = RateLimit(requests_per_minute=6, window_s=10.0)
    limits = LeasedLimits("near", limit, Back(), sleep=moments.sleep, wall=lambda: wall_s[0], clock=moments.clock)
    with pytest.raises(RateLimited) as raised:
        await limits.take(1, Deadline(moments.now_s + 5))
    assert raised.value.retry_after_s <= 10.0


async def test_members_with_windows_of_other_lengths_leave_each_others_alone(tmp_path: Path) -> None:
    moments = Moments()
    ledger = FileLedger(LocalFiles(tmp_path))
    long = _limits(moments, ledger, RateLimit(requests_per_minute=6, window_s=60.0))
    short = _limits(moments, ledger, RateLimit(requests_per_minute=6, window_s=10.0))
    await long.take(1, Deadline(moments.now_s + 5))
    before = _written(tmp_path)
    await short.take(1, Deadline(moments.now_s + 5))
    assert before <= _written(tmp_path)


async def test_a_request_that_no_window_can_hold_is_refused(ledgers: Callable[[], Ledger]) -> None:
    moments = Moments()
    limits = _limits(moments, ledgers(), RateLimit(tokens_per_minute=600, window_s=10.0))
    await limits.take(100, Deadline(moments.now_s + 5))
    with pytest.raises(Refused, match="raise window_s"):
        await limits.take(101, Deadline(moments.now_s + 500))


async def test_windows_long_past_leave_nothing_behind(tmp_path: Path) -> None:
    moments = Moments()
    limits = _limits(moments, FileLedger(LocalFiles(tmp_path)), RateLimit(requests_per_minute=6, window_s=10.0))
    for _ in range(100):
        await limits.take(1, Deadline(moments.now_s + 11))
    windows = sorted(int(path.name) for path in (tmp_path / "limits-near").iterdir())
    assert windows[-1] == int(moments.now_s // 10) * 10
    assert windows[-1] - windows[0] <= 900


async def test_calls_wait_for_the_fleets_limit(tmp_path: Path) -> None:
    limit = RateLimit(requests_per_minute=12, window_s=10.0)
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, limit=limit)) as parts:
            for index in range(5):
                await parts.llm.complete(asked(), parts.context(index=index))
            assert parts.moments.slept == [10.0, 10.0]
            await parts.llm.complete(asked(), parts.context(index=5, seconds=5))
            with pytest.raises(RateLimited):
                await parts.llm.complete(asked(), parts.context(index=6, seconds=5))
    assert server.calls == 6


def _written(folder: Path) -> set[Path]:
    return set(folder.glob("limits-near/*/*"))


# ------------------------------------------------------------------------------------------------- budget


async def test_spending_stops_within_the_budget(tmp_path: Path) -> None:
    most = near("http://near").most_micros(asked())
    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), total_micros=4 * most, slice_micros=50) as parts:
            ends = [await ended(parts, index) for index in range(100)]
            spent = parts.totals.cost_micros
            assert spent == 20 * server.calls
            # The next call might have cost `most`.
            assert 3 * most < spent <= 4 * most
            assert (await parts.llm.complete(asked(), parts.context())).from_journal
    assert parts.ledger.taken("budget-all") == (spent,)
    assert ends == ["text"] * server.calls + ["BudgetSpent"] * (100 - server.calls)


async def test_calls_at_once_do_not_overspend(tmp_path: Path) -> None:
    most = near("http://near").most_micros(asked())
    with misbehaving(answer("yes", prompt=most // 2, completion=0)) as server:
        endpoint = near(server.url, concurrency=20)
        async with put_together(tmp_path, endpoint, total_micros=5 * most) as parts:
            calls = [parts.llm.complete(asked(), parts.context(index=index)) for index in range(40)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert parts.totals.cost_micros <= 5 * most
    assert {type(end).__name__ for end in ends} == {"Completion", "BudgetSpent"}
    assert parts.ledger.taken("budget-all") == (parts.totals.cost_micros,)


async def test_an_endpoint_that_bills_more_than_allowed_is_paid_and_stops_the_rest(tmp_path: Path) -> None:
    with misbehaving(answer("yes", completion=100_000)) as server:
        async with put_together(tmp_path, near(server.url), total_micros=1000) as parts:
            await parts.llm.complete(asked(), parts.context())
            with pytest.raises(BudgetSpent):
                await parts.llm.complete(asked(), parts.context(index=1))
    assert server.calls == 1
    assert parts.totals.cost_micros == 200_010
    assert parts.ledger.taken("budget-all") == (200_010,)


async def test_a_slice_of_a_member_that_died_counts_as_spent(ledgers: Callable[[], Ledger]) -> None:
    dead, alive = Budget("all", 1000, 600, ledgers()), Budget("all", 1000, 600, ledgers())
    await dead.set_aside(10)
    (await alive.set_aside(400)).settle(100)
    with pytest.raises(BudgetSpent):
        await alive.set_aside(301)
    await alive.close()
    assert ledgers().taken("budget-all") == (700,)
    await Budget("all", 1000, 600, ledgers()).set_aside(300)


class Slow(MemoryLedger):
    """Takes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = threading.Event(), threading.Event()

    def take(self, account: str, least: Amounts, wish: Amounts, bound: Amounts) -> Amounts | None:
        self.asked.set()
        assert self.let.wait(60)
        return super().take(account, least, wish, bound)


async def test_a_slice_arrives_though_the_call_that_asked_for_it_is_cancelled() -> None:
    ledger = Slow()
    budget = Budget("all", 1000, 600, ledger)
    call = asyncio.ensure_future(budget.set_aside(10))
    await asyncio.to_thread(ledger.asked.wait, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    ledger.let.set()
    (await budget.set_aside(600)).settle(100)
    await budget.close()
    assert ledger.taken("budget-all") == (100,)


async def test_a_share_of_a_window_arrives_though_the_call_that_asked_for_it_is_cancelled() -> None:
    moments, ledger = Moments(), Slow()
    limits = _limits(moments, ledger, RateLimit(requests_per_minute=6, window_s=10.0))
    call = asyncio.ensure_future(limits.take(1, Deadline(moments.now_s + 5)))
    await asyncio.to_thread(ledger.asked.wait, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    ledger.let.set()
    await limits.take(1, Deadline(moments.now_s + 5))


async def test_what_is_settled_twice_counts_once(ledgers: Callable[[], Ledger]) -> None:
    budget = Budget("all", 1000, 1, ledgers())
    reservation = await budget.set_aside(900)
    reservation.settle(100)
    reservation.settle(0)
    await budget.close()
    assert ledgers().taken("budget-all") == (100,)


async def test_what_costs_nothing_needs_no_budget(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        free = near(server.url, prompt_price=0.0, completion_price=0.0)
        async with put_together(tmp_path, free, total_micros=0) as parts:
            assert (await parts.llm.complete(asked(), parts.context())).cost_micros == 0
