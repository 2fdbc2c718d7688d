"""Retries, what endpoints ask for, the breaker, one deadline over all, places to wait: against a real endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.pipeline.llm_endpoint import Reply, Silence, answer, misbehaving, refusal
from tests.unit.pipeline.llm_parts import Moments, asked, near, put_together
from themis_judge.store.local import LocalFiles
from themis_pipeline.llm.breaker import Breaker
from themis_pipeline.llm.calls import CallKey
from themis_pipeline.llm.errors import DeadlinePassed, EndpointUnavailable, Overloaded, RateLimited
from themis_pipeline.llm.journal import Entry, FileJournal


async def test_an_endpoint_gets_the_time_it_asks_for(tmp_path: Path) -> None:
    with misbehaving(refusal(429, retry_after="7"), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            begun_s = parts.moments.now_s
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"
            assert parts.moments.now_s - begun_s == 7.25  # and half of backoff_base_s
    assert server.calls == 2
    assert parts.totals.attempts == {"status_429": 1, "answered": 1}


async def test_others_heed_what_one_call_was_told(tmp_path: Path) -> None:
    with misbehaving(refusal(429, retry_after="40"), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, attempts=1)) as parts:
            with pytest.raises(RateLimited):
                await parts.llm.complete(asked(), parts.context())
            with pytest.raises(RateLimited, match="asks to be spared") as raised:
                await parts.llm.complete(asked(), parts.context(seconds=30))
            assert raised.value.retry_after_s == 40.0
            assert server.calls == 1
            assert (await parts.llm.complete(asked(), parts.context(seconds=60))).text == "yes"
            assert parts.moments.slept == [40.25]


async def test_an_endpoint_that_asks_for_too_much_gets_no_retry(tmp_path: Path) -> None:
    with misbehaving(refusal(503, retry_after="61")) as server:
        async with put_together(tmp_path, near(server.url, max_wait_s=60.0)) as parts:
            with pytest.raises(EndpointUnavailable) as raised:
                await parts.llm.complete(asked(), parts.context())
    assert server.calls == 1
    assert raised.value.retry_after_s >= 61
    assert parts.moments.slept == []


async def test_a_year_of_patience_is_asked_for_in_vain(tmp_path: Path) -> None:
    with misbehaving(refusal(429, retry_after="31536000"), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            with pytest.raises(RateLimited):
                await parts.llm.complete(asked(), parts.context())
            parts.moments.now_s += 901
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"


@pytest.mark.parametrize("told", ["9" * 400, "Mon, 99999999999999999999 Nov 2026 00:00:00 GMT", "soon", "-1", "1e3"])
async def test_patience_beyond_all_measure_is_no_number_that_breaks_others(tmp_path: Path, told: str) -> None:
    with misbehaving(refusal(429, retry_after=told), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, attempts=1)) as parts:
            with pytest.raises(RateLimited) as raised:
                await parts.llm.complete(asked(), parts.context())
    assert 0 <= raised.value.retry_after_s <= 901


async def test_patience_that_is_asked_for_meanwhile_is_given_too(tmp_path: Path) -> None:
    asleep, wake, held = asyncio.Event(), asyncio.Event(), threading.Event()

    def late(_: object) -> Reply:
        assert held.wait(60)
        return refusal(429, retry_after="100")

    with misbehaving(late, refusal(429, retry_after="40"), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, attempts=1)) as parts:

            async def sleep(seconds: float) -> None:
                asleep.set()
                await asyncio.wait_for(wake.wait(), 60)
                parts.moments.now_s += seconds

            parts.moments.sleeper = sleep
            first = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            await _until(lambda: server.calls == 1)
            with pytest.raises(RateLimited):
                await parts.llm.complete(asked(), parts.context(index=1))
            patient = asyncio.ensure_future(parts.llm.complete(asked(), parts.context(index=2)))
            await asyncio.wait_for(asleep.wait(), 60)
            held.set()
            with pytest.raises(RateLimited):
                await first
            wake.set()
            assert (await asyncio.wait_for(patient, 60)).text == "yes"
            assert parts.moments.now_s >= 1_000_100
    assert server.calls == 3


async def test_waiting_grows_up_to_its_ceiling(tmp_path: Path) -> None:
    with misbehaving(refusal(500)) as server:
        endpoint = near(server.url, attempts=6, backoff_base_s=2.0, backoff_cap_s=10.0, failures_to_open=9)
        async with put_together(tmp_path, endpoint) as parts:
            with pytest.raises(EndpointUnavailable):
                await parts.llm.complete(asked(), parts.context())
    assert server.calls == 6
    assert parts.moments.slept == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_no_attempt_is_made_after_the_deadline(tmp_path: Path) -> None:
    with misbehaving(refusal(500)) as server:
        endpoint = near(server.url, attempts=9, backoff_base_s=8.0, failures_to_open=99)
        async with put_together(tmp_path, endpoint) as parts:
            until_s = parts.moments.now_s + 20
            with pytest.raises(EndpointUnavailable):
                await parts.llm.complete(asked(), parts.context(seconds=20))
            assert parts.moments.now_s < until_s
            assert server.calls == 3  # at 0, 4 and 12 s; the next would be at 22
            with pytest.raises(DeadlinePassed):
                await parts.llm.complete(asked(), parts.context(seconds=0))
    assert server.calls == 3


async def test_an_attempt_ends_with_the_deadline_though_it_might_take_longer(tmp_path: Path) -> None:
    with misbehaving(Silence()) as server:
        async with put_together(tmp_path, near(server.url, timeout_s=250.0, failures_to_open=1)) as parts:
            for index in range(2):  # which doesn't open the breaker
                with pytest.raises(DeadlinePassed):
                    await parts.llm.complete(asked(), parts.context(index=index, seconds=0.3))
    assert parts.totals.attempts == {"cancelled": 2}
    assert parts.totals.unsure == 2


async def test_a_failing_endpoint_is_left_alone_then_tried_with_one_call(tmp_path: Path) -> None:
    bad, good = [refusal(500)] * 3, answer("yes")
    with misbehaving(*bad, good) as server:
        async with put_together(tmp_path, near(server.url, attempts=1, failures_to_open=2, open_s=10.0)) as parts:
            for index in range(2):
                with pytest.raises(EndpointUnavailable):
                    await parts.llm.complete(asked(), parts.context(index=index))
            for _ in range(5):
                with pytest.raises(EndpointUnavailable, match="left alone") as raised:
                    await parts.llm.complete(asked(), parts.context())
                assert raised.value.retry_after_s == 10.0
            assert server.calls == 2
            parts.moments.now_s += 10  # the trial fails, and the time doubles
            with pytest.raises(EndpointUnavailable, match="500"):
                await parts.llm.complete(asked(), parts.context())
            with pytest.raises(EndpointUnavailable, match="left alone") as raised:
                await parts.llm.complete(asked(), parts.context())
            assert raised.value.retry_after_s == 20.0
            parts.moments.now_s += 20
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"
            assert (await parts.llm.complete(asked(), parts.context(index=1))).text == "yes"
    assert server.calls == 5


async def test_limits_that_are_reached_do_not_open_the_breaker(tmp_path: Path) -> None:
    with misbehaving(*[refusal(429)] * 4, answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, attempts=5, failures_to_open=1)) as parts:
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"


def test_one_trial_at_a_time() -> None:
    moments = Moments()
    breaker = Breaker(1, 10.0, moments.clock)
    assert breaker.enter() == "usual"
    breaker.failed("usual")
    assert breaker.enter() is None
    moments.now_s += 10
    assert breaker.enter() == "trial"
    assert breaker.enter() is None
    breaker.left("trial")  # a trial that was cancelled says nothing: the next call is one
    assert breaker.enter() == "trial"
    breaker.succeeded()
    assert breaker.enter() == "usual"
    assert breaker.enter() == "usual"


def test_what_was_under_way_before_says_nothing_about_a_trial() -> None:
    moments = Moments()
    breaker = Breaker(1, 10.0, moments.clock)
    assert [breaker.enter() for _ in range(3)] == ["usual"] * 3
    breaker.failed("usual")
    moments.now_s += 10
    assert breaker.enter() == "trial"
    breaker.left("usual")
    assert breaker.enter() is None
    breaker.failed("usual")
    assert breaker.enter() is None
    assert breaker.closed_for_s() == 10.0  # as long as the trial may need, not the next, longer time
    breaker.succeeded()
    assert breaker.enter() == "usual"


async def test_a_store_that_hangs_holds_nobody_beyond_the_deadline(tmp_path: Path) -> None:
    answered = threading.Event()

    class Hanging(FileJournal):
        def find(self, key: CallKey, digest: str) -> Entry | None:
            assert answered.wait(60)
            return None

    with misbehaving(answer("yes")) as server:
        async with put_together(tmp_path, near(server.url), journal=Hanging(LocalFiles(tmp_path))) as parts:
            call = asyncio.ensure_future(parts.llm.complete(asked(), parts.context(seconds=0.2)))
            done, _ = await asyncio.wait([call], timeout=20)
            answered.set()
            assert done
            with pytest.raises(DeadlinePassed):
                await call
    assert server.calls == 0


def test_a_breaker_stays_open_for_a_bounded_time() -> None:
    moments = Moments()
    breaker = Breaker(1, 10.0, moments.clock)
    for _ in range(20):
        way = breaker.enter()
        assert way
        breaker.failed(way)
        moments.now_s += breaker.closed_for_s()
    assert breaker.enter() == "trial"
    breaker.failed("trial")
    assert breaker.closed_for_s() == 320.0


async def test_concurrency_and_places_to_wait_are_bounded(tmp_path: Path) -> None:
    with misbehaving(Silence()) as server:
        async with put_together(tmp_path, near(server.url, concurrency=2, waiting=1, timeout_s=250.0)) as parts:
            calls = [asyncio.ensure_future(parts.llm.complete(asked(), parts.context(index=i))) for i in range(3)]
            await _until(lambda: server.calls == 2 and parts.llm.waiting()["near"] == 1)
            with pytest.raises(Overloaded):
                await parts.llm.complete(asked(), parts.context(index=9))
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
    assert server.calls == 2


async def test_a_call_that_nobody_waits_for_stops_and_counts_as_spent(tmp_path: Path) -> None:
    with misbehaving(Silence(), answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, concurrency=1, timeout_s=250.0)) as parts:
            call = asyncio.ensure_future(parts.llm.complete(asked(), parts.context()))
            await _until(lambda: server.calls == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            most = near(server.url).most_micros(asked())
            assert (parts.totals.attempts["cancelled"], parts.totals.unsure_micros) == (1, most)
            # Its place is free again.
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"
    assert parts.ledger.taken("budget-all") == (most + 20,)


async def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + seconds
    while not holds():
        assert loop.time() < until_s
        await asyncio.sleep(0.005)
