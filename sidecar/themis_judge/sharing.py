"""Equal work is done once: identical prompts in flight share one computation, recent ones are remembered.

GRPO divides by a group's spread, so equal items must get bit-equal scores; and a retry must cost nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from themis_judge.engines.base import Deadline, DeadlineExceeded, Engine, Labels, LabelScores, Prompt, Usage
from themis_judge.lru import LRU

_HELD_SCORES = 8_192


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[LabelScores]
    waiters: int = 0


class SharedLabels:
    """Label scores of one engine, each computed once. One event loop at a time."""

    def __init__(self, engine: Engine, held: int = _HELD_SCORES) -> None:
        self._engine = engine
        self._flights: dict[bytes, _Flight] = {}
        self._held: LRU[bytes, LabelScores] = LRU(held)

    async def get(self, prompt: Prompt, labels: Labels, deadline: Deadline) -> LabelScores:
        """The engine's label_logprobs; usage says which tokens came from a cache."""
        key = digest(prompt, labels)
        held = self._held.get(key)
        if held is not None:
            return replace(held, usage=_all_cached(held.usage))
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._start(key, prompt, labels)
        scores = await self._wait(key, flight, deadline)
        return replace(scores, usage=_all_cached(scores.usage)) if joined else scores

    def _start(self, key: bytes, prompt: Prompt, labels: Labels) -> _Flight:
        task = asyncio.ensure_future(self._engine.label_logprobs(prompt, labels))
        flight = self._flights[key] = _Flight(task)

        def landed(task: asyncio.Task[LabelScores]) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled() and task.exception() is None:
                self._held.put(key, task.result())

        task.add_done_callback(landed)
        return flight

    async def _wait(self, key: bytes, flight: _Flight, deadline: Deadline) -> LabelScores:
        """Waits within the caller's own deadline; the last waiter to leave withdraws the work."""
        flight.waiters += 1
        try:
            return await within(deadline, lambda: asyncio.shield(flight.task))
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._flights.pop(key, None)  # nobody may join what is being cancelled
                flight.task.cancel()


async def within(deadline: Deadline, start: Callable[[], Awaitable[LabelScores]]) -> LabelScores:
    if deadline.passed():
        raise DeadlineExceeded("the deadline passed before the work began")
    loop = asyncio.get_running_loop()
    at = None if deadline.at_s == float("inf") else loop.time() + deadline.remaining_s()
    try:
        async with asyncio.timeout_at(at):
            return await start()
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the work was done") from None


def digest(prompt: Prompt, labels: Labels) -> bytes:
    """Identity of a prompt with its labels."""
    hashed = hashlib.blake2b(digest_size=16)
    if prompt.segments:
        for segment in prompt.segments:
            hashed.update(array("I", segment).tobytes())
    else:
        hashed.update(prompt.text.encode())
        hashed.update(prompt.answer_start.encode())
    hashed.update(repr(labels.texts).encode())
    return hashed.digest()


def _all_cached(usage: Usage) -> Usage:
    return replace(usage, cached_tokens=usage.prompt_tokens)
