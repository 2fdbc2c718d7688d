"""How much work may wait for the engine: a budget of tokens over all callers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from themis_judge.engines.base import Deadline
from themis_sidecar.errors import Overloaded
from themis_sidecar.throughput import Throughput

MIN_RETRY_S, MAX_RETRY_S = 0.1, 60.0
UNMEASURED_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    tokens: int
    turn: asyncio.Future[None]


class Admission:
    """Tokens are taken when work is admitted and given back when it is answered.

    Work beyond the budget is refused, or waits its turn where its source can be held back (a stream that is not
    read). Work larger than the whole budget is let in alone, so that nothing is refused for ever.
    """

    def __init__(self, max_tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_tokens = max_tokens
        self._throughput = Throughput(clock)
        self._queued_tokens = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def queued_tokens(self) -> int:
        return self._queued_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """The speed measured; None before anything was."""
        return self._throughput.tokens_per_s

    def admit(self, tokens: int) -> None:
        """Takes `tokens` at once or raises Overloaded; those that wait for their turn go first."""
        if self._waiting or not self._fits(tokens):
            raise Overloaded(
                f"{self._queued_tokens} tokens are queued and this call would add {tokens}; "
                f"the server takes {self._max_tokens}",
                self.retry_after_s(),
            )
        self._take(tokens)

    async def wait(self, tokens: int, deadline: Deadline) -> bool:
        """Takes `tokens` as soon as they fit, in order of arrival; False where the deadline passes before."""
        if not self._waiting and self._fits(tokens):
            self._take(tokens)
            return True
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await asyncio.wait((waiter.turn,), timeout=max(0.0, deadline.remaining_s()))
        except asyncio.CancelledError:
            if not self._withdraw(waiter):
                self.release(tokens, worked=False)
            raise
        return not self._withdraw(waiter)

    def release(self, tokens: int, worked: bool = True) -> None:
        """Gives back what was taken. worked: False for work that was dropped, which says nothing about speed."""
        self._throughput.passed(busy=True)
        if worked:
            self._throughput.done(tokens)
        self._queued_tokens -= tokens
        self._admit_waiting()

    def retry_after_s(self) -> float:
        """When the queue will have been worked off, by the speed measured."""
        speed = self.tokens_per_s
        expected_s = UNMEASURED_RETRY_S if speed is None else self._queued_tokens / speed
        return min(max(expected_s, MIN_RETRY_S), MAX_RETRY_S)

    def _fits(self, tokens: int) -> bool:
        return self._queued_tokens == 0 or self._queued_tokens + tokens <= self._max_tokens

    def _take(self, tokens: int) -> None:
        self._throughput.passed(busy=self._queued_tokens > 0)
        self._queued_tokens += tokens

    def _withdraw(self, waiter: _Waiter) -> bool:
        """Whether `waiter` was still waiting; it no longer is."""
        if waiter.turn.done():
            return False
        self._waiting.remove(waiter)
        self._admit_waiting()
        return True

    def _admit_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0].tokens):
            waiter = self._waiting.popleft()
            self._take(waiter.tokens)
            waiter.turn.set_result(None)
