"""The budget: who is let in, who waits, when others may come back."""

from __future__ import annotations

import asyncio

import pytest

from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_sidecar.admission import Admission
from themis_sidecar.errors import Overloaded
from themis_sidecar.throughput import Throughput

SOON = Deadline.after(3600)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_work_beyond_the_budget_is_refused_whole() -> None:
    admission = Admission(100)
    admission.admit(60)
    with pytest.raises(Overloaded, match="60 tokens are queued"):
        admission.admit(41)
    admission.admit(40)
    admission.release(60)
    assert admission.queued_tokens == 40


def test_work_larger_than_the_budget_gets_in_alone() -> None:
    admission = Admission(100)
    admission.admit(1000)
    with pytest.raises(Overloaded):
        admission.admit(1)
    admission.release(1000)
    admission.admit(1)


def test_the_hint_is_the_queue_over_the_measured_speed() -> None:
    clock = Clock()
    admission = Admission(100_000, clock)
    assert admission.retry_after_s() == 1.0
    admission.admit(1000)
    admission.admit(3000)
    clock.now_s = 2.0
    admission.release(1000)
    assert admission.retry_after_s() == pytest.approx(3000 / 500)


def test_the_hint_is_kept_within_bounds() -> None:
    clock = Clock()
    admission = Admission(10**9, clock)
    admission.admit(10**8)
    admission.admit(1)
    clock.now_s = 1.0
    admission.release(1)
    assert admission.retry_after_s() == 60.0
    admission.release(10**8)
    assert admission.retry_after_s() == 0.1


def test_dropped_work_says_nothing_about_speed() -> None:
    clock = Clock()
    admission = Admission(10_000, clock)
    admission.admit(100)
    admission.admit(5000)
    clock.now_s = 1.0
    admission.release(5000, worked=False)
    admission.release(100)
    admission.admit(1000)
    assert admission.retry_after_s() == pytest.approx(10.0)


def test_idle_time_does_not_slow_the_measured_speed() -> None:
    clock = Clock()
    speed = Throughput(clock)
    assert speed.tokens_per_s is None
    clock.now_s = 1.0
    speed.passed(busy=True)
    speed.done(100)
    clock.now_s = 1000.0
    speed.passed(busy=False)
    assert speed.tokens_per_s == pytest.approx(100)


def test_the_speed_follows_what_happens() -> None:
    clock = Clock()
    speed = Throughput(clock, half_life_s=10)
    for _ in range(100):
        clock.now_s += 1
        speed.passed(busy=True)
        speed.done(100)
    before = speed.tokens_per_s
    for _ in range(100):
        clock.now_s += 1
        speed.passed(busy=True)
        speed.done(10)
    after = speed.tokens_per_s
    assert before == pytest.approx(100, rel=0.05)
    assert after == pytest.approx(10, rel=0.1)


async def test_waiting_work_gets_its_turn_in_order() -> None:
    admission = Admission(100)
    admission.admit(100)
    turns: list[str] = []

    async def wait(name: str, tokens: int) -> None:
        assert await admission.wait(tokens, SOON)
        turns.append(name)

    large, small = asyncio.create_task(wait("large", 90)), asyncio.create_task(wait("small", 5))
    await asyncio.sleep(0)
    admission.release(50)
    with pytest.raises(Overloaded):
        admission.admit(1)  # it would fit, but others were first
    assert turns == []
    admission.release(50)
    await asyncio.gather(large, small)
    assert turns == ["large", "small"]
    assert admission.queued_tokens == 95


async def test_waiting_ends_at_the_deadline_and_lets_others_through() -> None:
    admission = Admission(100)
    admission.admit(50)
    late = asyncio.create_task(admission.wait(90, Deadline.after(0.01)))
    await asyncio.sleep(0)
    behind = asyncio.create_task(admission.wait(40, SOON))
    assert await late is False
    assert await behind is True
    assert admission.queued_tokens == 90


async def test_without_a_queue_nobody_waits() -> None:
    assert await Admission(100).wait(500, NO_DEADLINE)


async def test_a_waiter_that_leaves_takes_nothing_with_it() -> None:
    admission = Admission(100)
    admission.admit(100)
    early, granted = asyncio.create_task(admission.wait(60, SOON)), asyncio.create_task(admission.wait(70, SOON))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.wait([early])
    admission.release(100)  # grants the other its turn, which it does not live to take
    granted.cancel()
    await asyncio.wait([granted])
    assert granted.cancelled()
    assert admission.queued_tokens == 0
    admission.admit(100)
