"""The budget between callers: shares, rates, and who goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_sidecar.admission import Admission
from themis_sidecar.errors import Overloaded
from themis_sidecar.security.limits import CallerLimits, TokenBucket

SOON = Deadline.after(3600)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def limited(limits: CallerLimits) -> Callable[[str], CallerLimits]:
    return lambda _: limits


async def started(*waits: asyncio.Task[bool]) -> list[bool]:
    """Which of them have their turn by now."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [wait.done() for wait in waits]


def test_a_caller_alone_takes_all_and_two_share() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    for _ in range(10):
        admission.admit(10, "a")
    with pytest.raises(Overloaded, match="equal shares"):
        admission.admit(10, "b")
    admission.release(10, caller="a")
    with pytest.raises(Overloaded):
        admission.admit(10, "a")  # it would fit, but another was turned away
    admission.admit(10, "b")
    admission.release(10, caller="a")
    admission.admit(10, "a")  # nobody else wants more now


def test_a_refused_caller_is_expected_for_a_while_only() -> None:
    clock = Clock()
    admission = Admission(100, clock)
    admission.admit(90, "a")
    with pytest.raises(Overloaded) as caught:
        admission.admit(20, "b")
    with pytest.raises(Overloaded):
        admission.admit(10, "a")
    clock.now_s = caught.value.retry_after_s + 10
    admission.admit(10, "a")


def test_a_caller_with_nothing_here_gets_one_call_of_any_size() -> None:
    admission = Admission(100, Clock(), limited(CallerLimits(queue_share=0.1, max_items=2)))
    admission.admit(60, "a", items=5)
    with pytest.raises(Overloaded):
        admission.admit(1, "a")
    admission.admit(30, "b")


def test_a_share_of_its_own_holds_even_for_a_caller_alone() -> None:
    admission = Admission(100, Clock(), limited(CallerLimits(queue_share=0.5)))
    admission.admit(30, "a")
    admission.admit(20, "a")
    with pytest.raises(Overloaded):
        admission.admit(1, "a")


async def test_of_those_that_wait_whoever_holds_least_goes_first() -> None:
    admission = Admission(100)
    for caller, tokens in (("z", 70), ("a", 20), ("b", 10)):
        admission.admit(tokens, caller)
    first = asyncio.create_task(admission.wait(10, SOON, "a"))
    second = asyncio.create_task(admission.wait(10, SOON, "b"))
    assert await started(first, second) == [False, False]
    admission.release(10, caller="z")
    assert await started(first, second) == [False, True]
    admission.release(10, caller="z")
    assert await first


async def test_those_beyond_their_share_do_not_stand_in_the_way_of_others() -> None:
    admission = Admission(100)
    admission.admit(80, "a")
    hungry = asyncio.create_task(admission.wait(40, SOON, "a"))
    assert await started(hungry) == [False]
    with pytest.raises(Overloaded):
        admission.admit(30, "b")
    admission.release(20, caller="a")
    admission.admit(30, "b")
    admission.release(60, caller="a")
    assert await hungry


async def test_all_callers_together_keep_the_budget() -> None:
    admission = Admission(100)
    waits = [asyncio.create_task(admission.wait(10, SOON, f"caller {number % 7}")) for number in range(100)]
    done = 0
    while done < len(waits):
        assert admission.queued_tokens <= 100
        flags = await started(*waits)
        assert sum(flags) > done  # somebody always goes on
        for number, flag in enumerate(flags):
            if flag and waits[number].get_name() != "released":
                waits[number].set_name("released")
                admission.release(10, caller=f"caller {number % 7}")
                done += 1
    assert admission.queued_tokens == 0


def test_a_rate_refuses_with_the_time_until_there_is_enough() -> None:
    clock = Clock()
    admission = Admission(10_000, clock, limited(CallerLimits(tokens_per_s=10, burst_tokens=100)))
    admission.admit(100, "a")
    with pytest.raises(Overloaded, match="10 tokens a second") as caught:
        admission.admit(50, "a")
    assert caught.value.retry_after_s == pytest.approx(5)
    admission.admit(100, "b")
    clock.now_s = 5
    admission.admit(50, "a")
    with pytest.raises(Overloaded):
        admission.admit(1, "a")


async def test_a_waiter_that_its_rate_holds_back_comes_by_itself() -> None:
    limits = {"a": CallerLimits(tokens_per_s=1000, burst_tokens=10)}
    admission = Admission(10_000, limits_of=lambda name: limits.get(name, CallerLimits()))
    admission.admit(20, "a")
    held_back = asyncio.create_task(admission.wait(10, SOON, "a"))
    assert await started(held_back) == [False]
    admission.admit(9000, "b")  # a caller that waits for its own rate keeps nobody to a share
    assert await admission.wait(500, SOON, "b")
    assert await held_back


async def test_rates_end_at_deadlines_too() -> None:
    admission = Admission(100, limits_of=limited(CallerLimits(tokens_per_s=0.001, burst_tokens=1)))
    assert await admission.wait(5, NO_DEADLINE, "a")
    assert not await admission.wait(5, Deadline.after(0.01), "a")


def test_work_larger_than_the_burst_leaves_a_debt() -> None:
    clock = Clock()
    limits = CallerLimits(tokens_per_s=10, burst_tokens=100)
    bucket = TokenBucket(clock)
    assert bucket.wait_s(1000, limits) == 0
    bucket.take(1000, limits)
    assert bucket.wait_s(10, limits) == pytest.approx(91)
    assert bucket.wait_s(1000, limits) == pytest.approx(100)
    clock.now_s = 1000
    assert bucket.full(limits)
    assert bucket.wait_s(100, limits) == 0


def test_callers_that_are_gone_are_forgotten() -> None:
    clock = Clock()
    admission = Admission(100, clock, limited(CallerLimits(tokens_per_s=1, burst_tokens=10)))
    for number in range(1000):
        admission.admit(10, f"caller {number}")
        admission.release(10, caller=f"caller {number}")
        clock.now_s += 1
    assert len(admission._accounts._accounts) <= 12  # those whose buckets are not full again yet
