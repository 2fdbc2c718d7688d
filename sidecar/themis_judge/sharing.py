"""Equal work is done once: identical prompts in flight share one computation, recent ones are remembered.

GRPO divides by a group's spread, so equal items must get bit-equal scores; and a retry must cost nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    Engine,
    Generation,
    Labels,
    LabelScores,
    Prompt,
    Sampling,
    Usage,
)
from themis_judge.lru import LRU

_HELD_ANSWERS = 8_192
_CHARACTERS_PER_ANSWER = 256  # what a text weighs beside label scores

A = TypeVar("A", LabelScores, Generation)


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[LabelScores | Generation]
    waiters: int = 0


class Shared:
    """One engine's answers, each computed once. One event loop at a time."""

    def __init__(self, engine: Engine, held: int = _HELD_ANSWERS) -> None:
        self._engine = engine
        self._flights: dict[bytes, _Flight] = {}
        self._held: LRU[bytes, LabelScores | Generation] = LRU(held)

    async def labels(self, prompt: Prompt, labels: Labels, deadline: Deadline) -> LabelScores:
        """The engine's label_logprobs; usage says which tokens came from a cache."""
        return await self._once(
            digest(prompt, labels.texts), lambda: self._engine.label_logprobs(prompt, labels), deadline
        )

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline) -> Generation:
        """The engine's generate, likewise; seeded sampling is as repeatable as greedy."""
        return await self._once(digest(prompt, sampling), lambda: self._engine.generate(prompt, sampling), deadline)

    async def _once(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, A]], deadline: Deadline) -> A:
        held = self._held.get(key)
        if held is not None:
            return cast(A, _again(held))
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._start(key, ask)
        answer = await self._wait(key, flight, deadline)
        return cast(A, _again(answer) if joined else answer)

    def _start(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, LabelScores | Generation]]) -> _Flight:
        task = asyncio.ensure_future(ask())
        flight = self._flights[key] = _Flight(task)

        def landed(task: asyncio.Task[LabelScores | Generation]) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled() and task.exception() is None:
                self._held.put(key, task.result(), _weight(task.result()))

        task.add_done_callback(landed)
        return flight

    async def _wait(self, key: bytes, flight: _Flight, deadline: Deadline) -> LabelScores | Generation:
        """Waits within the caller's own deadline; the last waiter to leave withdraws the work."""
        flight.waiters += 1
        try:
            return await _within(deadline, flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._flights.pop(key, None)  # nobody may join what is being cancelled
                flight.task.cancel()


async def _within(deadline: Deadline, task: asyncio.Task[LabelScores | Generation]) -> LabelScores | Generation:
    if deadline.passed():
        raise DeadlineExceeded("the deadline passed before the work began")
    loop = asyncio.get_running_loop()
    at = None if deadline.at_s == float("inf") else loop.time() + deadline.remaining_s()
    try:
        async with asyncio.timeout_at(at):
            return await asyncio.shield(task)
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the work was done") from None


def digest(prompt: Prompt, asked: object) -> bytes:
    """Identity of a prompt and of what is asked about it (whose repr() tells all of it)."""
    hashed = hashlib.blake2b(digest_size=16)
    if prompt.segments:
        for segment in prompt.segments:
            hashed.update(array("I", segment).tobytes())
    else:
        hashed.update(repr((prompt.text, prompt.answer_start)).encode())
    hashed.update(repr(asked).encode())
    return hashed.digest()


def _weight(answer: LabelScores | Generation) -> int:
    return 1 + len(answer.text) // _CHARACTERS_PER_ANSWER if isinstance(answer, Generation) else 1


def _again(answer: LabelScores | Generation) -> LabelScores | Generation:
    """The same answer, which this time cost nothing."""
    usage: Usage = answer.usage
    return replace(answer, usage=replace(usage, cached_tokens=usage.prompt_tokens))
