"""The engine's queue, with a backend that computes when the test says so."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from themis_judge.engines import batching
from themis_judge.engines.base import (
    NO_DEADLINE,
    Batch,
    BatchObserver,
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineUnavailable,
    Unsupported,
    unobserved,
)
from themis_judge.engines.batching import Batcher, Pace

WAIT_S = 20.0  # no test takes as long unless it has failed


@dataclass(eq=False)
class Job:
    """tokens beside those of `part`, which jobs share; steps: how many it takes after the start; errors: what its
    starts raise, one each, before they succeed; error_alone: what its start raises in a batch of its own."""

    name: str = "job"
    tokens: int = 1
    part: str | None = None
    part_tokens: int = 0
    steps: int = 0
    errors: list[BaseException] = field(default_factory=list)
    error_alone: Exception | None = None
    counting_error: Exception | None = None
    step_error: Exception | None = None


class Backend:
    """Notes what it is asked to compute. While `gated`, each start and each step waits for one `go`."""

    def __init__(self, gated: bool = False) -> None:
        self.gated = gated
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.batches: list[list[str]] = []
        self.dropped: list[str] = []
        self.unfinished: dict[int, Job] = {}
        self.threads: set[str] = set()

    def distinct_tokens(self, job: Job, seen: set[object]) -> int:
        if job.counting_error:
            raise job.counting_error
        fresh = job.part is not None and job.part not in seen
        seen.add(job.part)
        return job.tokens + (job.part_tokens if fresh else 0)

    def start(self, jobs: Sequence[Job]) -> list[str | None]:
        self.threads.add(threading.current_thread().name)
        self.batches.append([job.name for job in jobs])
        self._wait()
        for job in jobs:  # a batch that fails may have begun some of its jobs
            if job.errors:
                raise job.errors.pop(0)
            if job.error_alone and len(jobs) == 1:
                raise job.error_alone
            if job.steps:
                self.unfinished[id(job)] = job
        return [None if job.steps else job.name.upper() for job in jobs]

    def step(self) -> list[tuple[Job, str | Exception]]:
        self._wait()
        done: list[tuple[Job, str | Exception]] = []
        for job in list(self.unfinished.values()):
            if job.step_error:
                raise job.step_error
            job.steps -= 1
            if job.steps == 0:
                del self.unfinished[id(job)]
                done.append((job, job.name.upper()))
        return done

    def drop(self, jobs: Sequence[Job]) -> None:
        self.dropped += [job.name for job in jobs]
        for job in jobs:
            self.unfinished.pop(id(job), None)

    def _wait(self) -> None:
        self.entered.release()
        if self.gated:
            assert self.go.acquire(timeout=WAIT_S), "the test forgot its backend"

    async def busy(self) -> None:
        """Until the next start or step has been entered."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=WAIT_S), "nothing was computed"

    def free(self) -> None:
        """Lets everything through from now on."""
        self.gated = False
        self.go.release()


Queue: TypeAlias = Batcher[Job, str]


@asynccontextmanager
async def queue(
    backend: Backend,
    *,
    max_batch_tokens: int = 1_000_000,
    max_batch_s: float = 1e9,
    stuck_after_s: float = WAIT_S,
    finish: Callable[[str, float, float], str] = lambda result, _queued, _computed: result,
    observe: BatchObserver = unobserved,
) -> AsyncIterator[Queue]:
    made: Queue = Batcher(
        backend,
        max_batch_tokens=max_batch_tokens,
        max_batch_s=max_batch_s,
        stuck_after_s=stuck_after_s,
        finish=finish,
        observe=observe,
    )
    try:
        yield made
    finally:
        backend.free()
        await asyncio.to_thread(made.close)


async def sent(queue: Queue, *jobs: Job, deadline: Deadline = NO_DEADLINE) -> list[asyncio.Task[str]]:
    """Tasks of jobs that are in the queue when this returns."""
    tasks = [asyncio.ensure_future(queue.submit(job, deadline)) for job in jobs]
    await asyncio.sleep(0)  # each runs up to its wait
    return tasks


async def occupied(queue: Queue, backend: Backend, job: Job | None = None) -> asyncio.Task[str]:
    """A batch of one job that computes until the backend is told to go on. It weighs nothing, so that no pace is
    measured by it."""
    (task,) = await sent(queue, job or Job("first", tokens=0))
    await backend.busy()
    return task


# ---------------------------------------------------------------------------------------------------- batches


async def test_a_batch_forms_while_the_last_one_computes() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        first = await occupied(batcher, backend)
        others = await sent(batcher, Job("a"), Job("b"), Job("c"))
        backend.free()
        assert await asyncio.gather(first, *others) == ["FIRST", "A", "B", "C"]
    assert backend.batches == [["first"], ["a", "b", "c"]]
    assert backend.threads == {"themis-engine"}


async def test_a_batch_is_bounded_by_its_distinct_tokens() -> None:
    backend = Backend(gated=True)
    async with queue(backend, max_batch_tokens=100) as batcher:
        first = await occupied(batcher, backend)
        shared = [Job(name, tokens=15, part="head", part_tokens=50) for name in "abcde"]
        others = await sent(batcher, *shared, Job("f", tokens=45), Job("g", tokens=10))
        backend.free()
        await asyncio.gather(first, *others)
    # 50 + 3 * 15 = 95, then the head again: 50 + 2 * 15 = 80, then what didn't fit.
    assert backend.batches == [["first"], ["a", "b", "c"], ["d", "e"], ["f", "g"]]


async def test_a_batch_is_bounded_by_its_expected_seconds() -> None:
    backend = Backend(gated=True)
    guess = Pace().tokens_per_s
    async with queue(backend, max_batch_s=100 / guess) as batcher:
        first = await occupied(batcher, backend)
        others = await sent(batcher, Job("a", tokens=60), Job("b", tokens=60))
        backend.free()
        await asyncio.gather(first, *others)
    assert backend.batches == [["first"], ["a"], ["b"]]


async def test_the_expectation_follows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=lambda: now[0]))
    backend = Backend(gated=True)
    async with queue(backend, max_batch_s=1.0, stuck_after_s=1e6) as batcher:
        first = await occupied(batcher, backend, Job("first", tokens=400))
        others = await sent(batcher, *(Job(name, tokens=80) for name in "abcde"))
        now[0] += 2.0  # 400 tokens in 2 s: 200 a second
        backend.free()
        await asyncio.gather(first, *others)
    assert backend.batches[:2] == [["first"], ["a", "b"]]


def test_a_pace_is_first_measured_and_then_followed() -> None:
    pace = Pace().after(1000, 1.0)
    assert pace == Pace(1000.0, 1)
    assert pace.after(2000, 1.0) == Pace(1300.0, 2)


async def test_one_job_beyond_every_bound_still_runs() -> None:
    backend = Backend(gated=True)
    async with queue(backend, max_batch_tokens=10, max_batch_s=0.001) as batcher:
        first = await occupied(batcher, backend)
        others = await sent(batcher, Job("small"), Job("huge", tokens=100_000), Job("tiny"))
        backend.free()
        assert await asyncio.gather(first, *others) == ["FIRST", "SMALL", "HUGE", "TINY"]
    assert ["huge"] in backend.batches


async def test_times_come_with_the_result() -> None:
    told: list[tuple[float, float]] = []

    def finish(result: str, queued_s: float, computed_s: float) -> str:
        told.append((queued_s, computed_s))
        return result + "!"

    backend = Backend()
    async with queue(backend, finish=finish) as batcher:
        assert await batcher.submit(Job("a"), NO_DEADLINE) == "A!"
        assert await batcher.submit(Job("b", steps=3), NO_DEADLINE) == "B!"
    assert len(told) == 2
    assert all(queued_s >= 0 and computed_s >= 0 for queued_s, computed_s in told)


async def test_each_batch_is_told_once_whatever_became_of_it() -> None:
    told: list[Batch] = []
    backend = Backend(gated=True)
    async with queue(backend, observe=told.append) as batcher:
        first = await occupied(batcher, backend)
        poisonous = Job("b", tokens=4, errors=[ValueError(), ValueError()])
        others = await sent(batcher, Job("a", tokens=3, part="p", part_tokens=2), poisonous, Job("c", part="p"))
        backend.free()
        await asyncio.gather(first, *others, return_exceptions=True)
        assert await batcher.submit(Job("text", steps=2), NO_DEADLINE) == "TEXT"
    # The part that two share counts once; going on one by one, or step by step, makes no further batch.
    assert [(batch.items, batch.tokens) for batch in told] == [(1, 0), (3, 3 + 2 + 4 + 1), (1, 1)]
    assert all(batch.seconds >= 0 for batch in told)


async def test_batches_go_on_between_the_steps_of_a_long_text() -> None:
    backend = Backend()
    async with queue(backend) as batcher:
        (long,) = await sent(batcher, Job("long", steps=10**9))
        assert await batcher.submit(Job("short"), NO_DEADLINE) == "SHORT"
        assert not long.done()
        long.cancel()
        await asyncio.wait([long])


# ---------------------------------------------------------------------------------------------------- leaving


async def test_withdrawn_jobs_are_never_computed() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        first = await occupied(batcher, backend)
        stays, leaves, stays_too = await sent(batcher, Job("stays"), Job("leaves"), Job("stays too"))
        leaves.cancel()
        await asyncio.wait([leaves])
        assert leaves.cancelled()
        backend.free()
        await asyncio.gather(first, stays, stays_too)
    assert backend.batches == [["first"], ["stays", "stays too"]]


async def test_a_withdrawn_text_is_written_no_further() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        text = await occupied(batcher, backend, Job("text", steps=10**9))
        backend.go.release()
        await backend.busy()  # its first step
        text.cancel()
        await asyncio.wait([text])
        backend.free()
        assert await batcher.submit(Job("next"), NO_DEADLINE) == "NEXT"
        assert backend.dropped == ["text"]
        assert not backend.unfinished


async def test_a_job_overdue_in_the_queue_is_rejected() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        first = await occupied(batcher, backend)
        (late,) = await sent(batcher, Job("late"), deadline=Deadline.after(0.0))
        (timely,) = await sent(batcher, Job("timely"), deadline=Deadline.after(WAIT_S))
        backend.free()
        with pytest.raises(DeadlineExceeded):
            await late
        assert [await first, await timely] == ["FIRST", "TIMELY"]
    assert backend.batches == [["first"], ["timely"]]


async def test_a_text_overdue_while_it_is_written_is_rejected() -> None:
    passed = threading.Event()

    class WhenTold(Deadline):
        def passed(self) -> bool:
            return passed.is_set()

    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        (text,) = await sent(batcher, Job("text", steps=10**9), deadline=WhenTold())
        await backend.busy()
        passed.set()
        backend.free()
        with pytest.raises(DeadlineExceeded):
            await text
        assert backend.dropped == ["text"]


# ---------------------------------------------------------------------------------------------------- poison


async def test_a_poisonous_job_fails_alone() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        first = await occupied(batcher, backend)
        poison = Job("poison", errors=[ValueError("no"), ValueError("still no")])
        before, failed, after = await sent(batcher, Job("before"), poison, Job("after", steps=2))
        backend.free()
        assert [await first, await before, await after] == ["FIRST", "BEFORE", "AFTER"]
        with pytest.raises(EngineError, match="ValueError") as caught:
            await failed
        assert not isinstance(caught.value, EngineUnavailable)
        assert batcher.failure is None
        assert await batcher.submit(Job("later"), NO_DEADLINE) == "LATER"
    assert backend.batches == [["first"], ["before", "poison", "after"], ["before"], ["poison"], ["after"], ["later"]]


async def test_an_error_of_the_seam_reaches_its_caller_as_it_is() -> None:
    backend = Backend()
    async with queue(backend) as batcher:
        with pytest.raises(Unsupported, match="not here"):
            await batcher.submit(Job(errors=[Unsupported("not here")]), NO_DEADLINE)


async def test_a_text_begun_by_a_batch_that_failed_does_not_haunt_the_others() -> None:
    """Begun once, then failed when tried alone: nothing of it may be left when the others go on."""
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        first = await occupied(batcher, backend)
        haunting = Job("haunting", steps=1, error_alone=MemoryError("alone"))
        breaker = Job("breaker", errors=[MemoryError("together")])
        failed, broken, text = await sent(batcher, haunting, breaker, Job("text", steps=3))
        backend.free()
        assert await text == "TEXT"
        assert [await first, await broken] == ["FIRST", "BREAKER"]
        with pytest.raises(EngineError, match="MemoryError"):
            await failed


async def test_a_step_that_fails_fails_what_is_being_written_and_no_more() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        text = await occupied(batcher, backend, Job("text", steps=5, step_error=RuntimeError("no")))
        backend.free()
        with pytest.raises(EngineError, match="RuntimeError"):
            await text
        assert await batcher.submit(Job("next", steps=2), NO_DEADLINE) == "NEXT"
        assert batcher.failure is None


# ---------------------------------------------------------------------------------------------------- failure


class Panic(BaseException):
    """As the bindings of Rust libraries raise: no Exception."""


@pytest.mark.parametrize("steps", [0, 5], ids=["in a batch", "in a step"])
async def test_a_stuck_backend_fails_everybody(steps: int) -> None:
    backend = Backend(gated=True)
    async with queue(backend, stuck_after_s=0.2) as batcher:
        first = await occupied(batcher, backend, Job("first", steps=steps))
        if steps:
            backend.go.release()
            await backend.busy()
        (waiting,) = await sent(batcher, Job("waiting"))
        for task in (first, waiting):
            with pytest.raises(EngineUnavailable, match="stuck"):
                await task
        assert batcher.failure is not None
        with pytest.raises(EngineUnavailable, match="stuck"):
            await batcher.submit(Job("new"), NO_DEADLINE)
        backend.free()  # it comes back after all: too late
        await asyncio.to_thread(batcher.close)
        assert batcher.failure is not None
        assert "stuck" in batcher.failure
    assert ["waiting"] not in backend.batches


@pytest.mark.parametrize(
    "job",
    [Job("bad", counting_error=RuntimeError("miscounted")), Job("bad", errors=[Panic("in the depths")])],
    ids=["while a batch forms", "while it computes"],
)
async def test_a_thread_that_ends_fails_everybody(job: Job) -> None:
    backend = Backend(gated=True)
    async with queue(backend, max_batch_tokens=2, stuck_after_s=1e6) as batcher:
        first = await occupied(batcher, backend)
        bad, waiting = await sent(batcher, job, Job("waiting", tokens=5))
        backend.free()
        assert await first == "FIRST"
        for task in (bad, waiting):
            with pytest.raises(EngineUnavailable):
                await asyncio.wait_for(task, 5)
        assert batcher.failure is not None
        with pytest.raises(EngineUnavailable):
            await batcher.submit(Job("new"), NO_DEADLINE)


async def test_closing_ends_the_batch_in_hand_and_fails_the_rest() -> None:
    backend = Backend(gated=True)
    before = set(threading.enumerate())
    async with queue(backend) as batcher:
        ours = set(threading.enumerate()) - before
        first = await occupied(batcher, backend)
        (waiting,) = await sent(batcher, Job("waiting"))
        batcher.close(timeout_s=0.0)
        with pytest.raises(EngineUnavailable, match="closed"):
            await batcher.submit(Job("new"), NO_DEADLINE)
        backend.free()
        assert await first == "FIRST"
        with pytest.raises(EngineUnavailable, match="closed"):
            await waiting
        assert batcher.failure is None
        await asyncio.to_thread(batcher.close)
        assert len(ours) == 2
        assert not any(thread.is_alive() for thread in ours)
    assert backend.batches == [["first"]]


async def test_closing_fails_texts_that_are_being_written() -> None:
    backend = Backend(gated=True)
    async with queue(backend) as batcher:
        text = await occupied(batcher, backend, Job("text", steps=10**9))
        batcher.close(timeout_s=0.0)
        backend.free()
        with pytest.raises(EngineUnavailable, match="closed"):
            await text


# ---------------------------------------------------------------------------------------------------- loops


async def test_jobs_of_two_event_loops_reach_their_own_callers() -> None:
    backend = Backend()

    async def many(batcher: Queue, who: str) -> list[str]:
        return await asyncio.gather(*(batcher.submit(Job(f"{who}{n}"), NO_DEADLINE) for n in range(300)))

    async with queue(backend, max_batch_tokens=7) as batcher:
        here, there = await asyncio.gather(
            many(batcher, "h"), asyncio.to_thread(lambda: asyncio.run(many(batcher, "t")))
        )
    assert here == [f"H{n}" for n in range(300)]
    assert there == [f"T{n}" for n in range(300)]


async def test_a_caller_whose_loop_is_closed_disturbs_nobody() -> None:
    backend = Backend(gated=True)

    async def leaving(batcher: Queue) -> Any:
        (task,) = await sent(batcher, Job("left", tokens=0))
        return task

    def elsewhere(batcher: Queue) -> Any:
        loop = asyncio.new_event_loop()
        task = loop.run_until_complete(leaving(batcher))
        loop.close()  # with the task pending
        return task

    async with queue(backend) as batcher:
        abandoned = await asyncio.to_thread(elsewhere, batcher)
        await backend.busy()
        (next_one,) = await sent(batcher, Job("next"))
        backend.free()
        assert await next_one == "NEXT"
        assert batcher.failure is None
        assert not abandoned.done()
        abandoned.get_coro().close()


@pytest.mark.parametrize("seed", range(2))
async def test_thousands_of_callers_of_whom_many_leave_are_all_forgotten(seed: int) -> None:
    chance = random.Random(seed)
    backend = Backend()
    alive: weakref.WeakSet[Job] = weakref.WeakSet()

    def job(number: int) -> Job:
        made = Job(f"j{number}", tokens=chance.randint(1, 9), steps=chance.choice((0, 0, 0, 1, 4)))
        if chance.random() < 0.02:
            made.errors += [ValueError("no")] * 2
        alive.add(made)
        return made

    outcomes: dict[str, int] = {"result": 0, "cancelled": 0, "error": 0}

    async def caller(number: int) -> None:
        try:
            assert await batcher.submit(job(number), NO_DEADLINE) == f"J{number}"
            outcomes["result"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
            raise
        except EngineError:
            outcomes["error"] += 1

    async with queue(backend, max_batch_tokens=60) as batcher:
        callers: list[asyncio.Task[None]] = []
        for number in range(5000):
            callers.append(asyncio.create_task(caller(number)))
            if chance.random() < 0.05:
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(callers[-40:]).cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        last = Job("last")
        assert await batcher.submit(last, NO_DEADLINE) == "LAST"
        assert batcher.failure is None
        callers.clear()
        # Texts whose callers left are dropped by the next step, at the latest by a batch's end.
        while backend.unfinished:
            assert await batcher.submit(last, NO_DEADLINE) == "LAST"
        await batcher.submit(last, NO_DEADLINE)
        gc.collect()
        assert list(alive) == []
    assert min(outcomes.values()) > 0, outcomes
