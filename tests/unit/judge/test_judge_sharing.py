"""Equal work is done once, and nobody pays for another's deadline."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from tests.unit.judge.fakes import FakeEngine, logs
from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    Labels,
    LabelScores,
    Prompt,
    Usage,
)
from themis_judge.lru import LRU
from themis_judge.sharing import Shared, digest

LABELS = Labels(("1", "2", "3"), ((49,), (50,), (51,)))


def prompt(text: str = "same") -> Prompt:
    return Prompt((tuple(b"head "), tuple(text.encode())), f"head {text}", "")


def held(engine: FakeEngine) -> asyncio.Event:
    engine.gate = asyncio.Event()
    return engine.gate


def asking(shared: Shared, text: str = "same", deadline: Deadline = NO_DEADLINE) -> asyncio.Task[LabelScores]:
    return asyncio.create_task(shared.labels(prompt(text), LABELS, deadline))


async def all_others() -> None:
    """Waits for every other task of this loop to end."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)


async def test_equal_prompts_in_flight_are_computed_once_and_get_equal_bits() -> None:
    engine = FakeEngine()
    gate, shared = held(engine), Shared(engine)
    waiting = [asking(shared) for _ in range(50)]
    await engine.started.wait()
    gate.set()
    found = await asyncio.gather(*waiting)
    assert len(engine.label_calls) == 1
    assert {scores.logprobs for scores in found} == {found[0].logprobs}
    length = len(prompt())
    assert found[0].usage == Usage(prompt_tokens=length)
    assert {scores.usage.cached_tokens for scores in found[1:]} == {length}


async def test_different_prompts_and_labels_are_not_shared() -> None:
    engine = FakeEngine()
    shared = Shared(engine)
    other = Labels(("1", "2"), ((49,), (50,)))
    await asyncio.gather(
        shared.labels(prompt("a"), LABELS, NO_DEADLINE),
        shared.labels(prompt("b"), LABELS, NO_DEADLINE),
        shared.labels(prompt("a"), other, NO_DEADLINE),
    )
    assert len(engine.label_calls) == 3


async def test_recent_scores_are_remembered() -> None:
    engine = FakeEngine()
    shared = Shared(engine)
    first = await shared.labels(prompt(), LABELS, NO_DEADLINE)
    again = await shared.labels(prompt(), LABELS, Deadline.after(0))
    assert len(engine.label_calls) == 1
    assert again.logprobs == first.logprobs
    assert again.usage.cached_tokens == again.usage.prompt_tokens == first.usage.prompt_tokens


async def test_what_is_remembered_has_a_bound() -> None:
    engine = FakeEngine()
    shared = Shared(engine, held=2)
    for text in ("a", "b", "c", "a", "c"):
        await shared.labels(prompt(text), LABELS, NO_DEADLINE)
    assert len(engine.label_calls) == 4


async def test_failures_reach_every_waiter_and_are_not_remembered() -> None:
    failing = True

    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if failing:
            raise EngineOverloaded("full", 2.0)
        return logs(0.2, 0.3, 0.5)

    stray: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    engine = FakeEngine(answer)
    gate, shared = held(engine), Shared(engine)
    waiting = [asking(shared) for _ in range(3)]
    await engine.started.wait()
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [EngineOverloaded] * 3
    failing = False
    assert (await asking(shared)).logprobs == logs(0.2, 0.3, 0.5)
    assert len(engine.label_calls) == 2
    assert stray == []


async def test_the_last_waiter_to_leave_withdraws_the_work() -> None:
    engine = FakeEngine()
    held(engine)
    shared = Shared(engine)
    first, second, third = (asking(shared) for _ in range(3))
    await engine.started.wait()
    for waiting in (first, third):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.cancelled == 0
    assert not second.done()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await all_others()
    assert engine.cancelled == 1


async def test_a_waiter_that_leaves_takes_nothing_from_the_others() -> None:
    engine = FakeEngine()
    gate, shared = held(engine), Shared(engine)
    leaving, staying, elsewhere = asking(shared), asking(shared), asking(shared, "other")
    await engine.started.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    assert (await staying).logprobs
    assert (await elsewhere).logprobs
    assert (len(engine.label_calls), engine.cancelled) == (2, 0)


async def test_a_deadline_is_its_waiters_own() -> None:
    engine = FakeEngine()
    gate, shared = held(engine), Shared(engine)
    hasty, patient = asking(shared, deadline=Deadline.after(0.01)), asking(shared, deadline=Deadline.after(600))
    with pytest.raises(DeadlineExceeded):
        await hasty
    assert not patient.done()
    gate.set()
    assert (await patient).logprobs
    assert (len(engine.label_calls), engine.cancelled) == (1, 0)


async def test_a_deadline_of_the_only_waiter_withdraws_the_work() -> None:
    engine = FakeEngine()
    held(engine)
    with pytest.raises(DeadlineExceeded):
        await asking(Shared(engine), deadline=Deadline.after(0.01))
    await all_others()
    assert (len(engine.label_calls), engine.cancelled) == (1, 1)


async def test_nothing_is_computed_after_the_deadline() -> None:
    engine = FakeEngine()
    with pytest.raises(DeadlineExceeded, match="before the work began"):
        await Shared(engine).labels(prompt(), LABELS, Deadline.after(0))
    await all_others()
    assert engine.label_calls == []


class Reluctant(FakeEngine):
    """Takes its time to give up a call that was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.may_give_up, self.gave_up = asyncio.Event(), asyncio.Event()

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        try:
            return await super().label_logprobs(prompt, labels, deadline)
        except asyncio.CancelledError:
            await self.may_give_up.wait()
            self.gave_up.set()
            raise EngineError("given up") from None


async def test_a_cancelled_flight_can_not_be_joined() -> None:
    """Whoever comes between a call's cancelling and its end starts anew, and is not disturbed by that end."""
    engine = Reluctant()
    gate, shared = held(engine), Shared(engine)
    first = asking(shared)
    await engine.started.wait()
    engine.started.clear()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asking(shared)
    await engine.started.wait()
    assert len(engine.label_calls) == 2
    engine.may_give_up.set()
    await engine.gave_up.wait()
    third = asking(shared)
    gate.set()
    assert (await second).logprobs == (await third).logprobs
    assert (len(engine.label_calls), engine.cancelled) == (2, 1)


def test_a_digest_tells_every_difference() -> None:
    prompts = [
        prompt("a"),
        prompt("b"),
        Prompt((), "ab", "c"),
        Prompt((), "a", "bc"),
        Prompt((), "abc", ""),
    ]
    digests = {digest(each, LABELS) for each in prompts} | {digest(prompt("a"), Labels(("1", "2")))}
    assert len(digests) == 6


def test_a_digest_does_not_depend_on_where_a_prompt_is_cut() -> None:
    assert digest(Prompt(((1, 2), (3,))), LABELS) == digest(Prompt(((1,), (2, 3))), LABELS)


# ----------------------------------------------------------------------------------------------------------- LRU


def test_the_least_recently_used_goes_first() -> None:
    held: LRU[str, int] = LRU(3)
    for key in "abc":
        held.put(key, ord(key))
    assert held.get("a") == 97
    held.put("d", 100)
    assert "b" not in held
    assert all(key in held for key in "acd")


def test_weights_bound_it() -> None:
    held: LRU[str, str] = LRU(10)
    held.put("a", "x", 4)
    held.put("b", "y", 4)
    held.put("a", "z", 6)
    assert (held.get("a"), held.weight, len(held)) == ("z", 10, 2)
    held.put("c", "w", 5)
    assert (held.weight, "b" in held, "a" in held) == (5, False, False)


def test_what_is_heavier_than_all_of_it_is_not_kept_and_costs_nothing() -> None:
    held: LRU[str, int] = LRU(10)
    held.put("a", 1, 5)
    held.put("b", 2, 11)
    assert ("a" in held, "b" in held, held.weight) == (True, False, 5)
    held.put("a", 3, 11)
    assert (held.get("a"), held.weight) == (None, 0)


def test_it_can_be_emptied() -> None:
    held: LRU[str, float] = LRU(10)
    held.put("a", math.pi, 7)
    held.clear()
    assert (len(held), held.weight, held.get("a")) == (0, 0, None)
