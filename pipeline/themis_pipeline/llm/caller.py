"""Asks one endpoint until it answers: its turn, the fleet's limit, the budget, the breaker, one deadline over all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from themis_judge.engines.base import Deadline
from themis_pipeline.llm.accounts import Totals
from themis_pipeline.llm.answers import Answer
from themis_pipeline.llm.breaker import Breaker, Way
from themis_pipeline.llm.budget import Budget, Reservation
from themis_pipeline.llm.calls import Request
from themis_pipeline.llm.endpoints import Endpoint
from themis_pipeline.llm.errors import (
    EndpointUnavailable,
    LLMError,
    Overloaded,
    RateLimited,
    Refused,
)
from themis_pipeline.llm.limits import Limits
from themis_pipeline.llm.wire import AttemptFailed, Wire


class Caller:
    """For one event loop. Whoever asks ends it at the deadline; here the deadline only says what is not worth waiting
    for. sleep and clock in seconds, clock is the deadlines'; random in [0, 1)."""

    def __init__(
        self,
        endpoint: Endpoint,
        wire: Wire,
        limits: Limits,
        breaker: Breaker,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._endpoint, self._wire, self._limits = endpoint, wire, limits
        self.breaker = breaker
        self._sleep, self._clock, self._random = sleep, clock, random
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self.waiting = 0

    async def close(self) -> None:
        await self._wire.close()

    async def ask(self, request: Request, deadline: Deadline, totals: Totals, budget: Budget) -> Answer:
        """Raises LLMError."""
        if self._slots.locked() and self.waiting >= self._endpoint.waiting:
            raise Overloaded(f"{self._endpoint.name}: {self.waiting} calls wait already", self._endpoint.timeout_s)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        try:
            # A call that waits to try again keeps its slot: an endpoint in trouble gets fewer requests.
            return await self._until_answered(request, deadline, totals, budget)
        finally:
            self._slots.release()

    async def _until_answered(self, request: Request, deadline: Deadline, totals: Totals, budget: Budget) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            await self._pause(deadline)
            try:
                return await self._attempt(request, deadline, totals, budget)
            except AttemptFailed as failed:
                totals.attempts[failed.how] += 1
                wait_s = self._wait_s(attempt, failed)
                late = self._clock() + wait_s >= deadline.at_s
                if not failed.again or attempt >= self._endpoint.attempts or wait_s > self._endpoint.max_wait_s or late:
                    raise self._given_up(failed, wait_s) from None
            totals.retries += 1
            await self._sleep(wait_s)

    async def _attempt(self, request: Request, deadline: Deadline, totals: Totals, budget: Budget) -> Answer:
        """Raises AttemptFailed, and LLMError where nothing was sent."""
        self._check_breaker()
        await self._limits.take(self._endpoint.likely_tokens(request), deadline)
        reservation = await budget.set_aside(self._endpoint.most_micros(request))
        way = self.breaker.enter()  # waiting for limits and budget took its time
        if way is None:
            reservation.settle(0)
            raise self._left_alone()
        begun_s = self._clock()
        try:
            answer = await self._sent(request, reservation, way, totals)
        finally:
            totals.took(self._clock() - begun_s)
        self.breaker.succeeded()
        totals.attempts["answered"] += 1
        reservation.settle(self._endpoint.cost_micros(answer.prompt_tokens, answer.completion_tokens))
        return answer

    async def _sent(self, request: Request, reservation: Reservation, way: Way, totals: Totals) -> Answer:
        try:
            return await self._wire.post(self._endpoint.body(request))
        except AttemptFailed as failed:
            if failed.billed:
                _count_unsure(totals, reservation)
            else:
                reservation.settle(0)
            self._judge(failed, way)
            raise
        except BaseException:  # cancelled, or late: the endpoint may bill it, and nothing is known about its health
            self.breaker.left(way)
            totals.attempts["cancelled"] += 1
            _count_unsure(totals, reservation)
            raise

    def _check_breaker(self) -> None:
        if self.breaker.closed_for_s() > 0:
            raise self._left_alone()

    def _left_alone(self) -> EndpointUnavailable:
        why = f"{self._endpoint.name}: failed too often, and is left alone"
        return EndpointUnavailable(why, self.breaker.closed_for_s())

    def _judge(self, failed: AttemptFailed, way: Way) -> None:
        if failed.blame == "endpoint":
            self.breaker.failed(way)
        else:
            self.breaker.succeeded()
        if failed.told_s is not None:
            self.breaker.pause(failed.told_s)

    async def _pause(self, deadline: Deadline) -> None:
        while (paused_s := self.breaker.paused_for_s()) > 0:
            if paused_s > self._endpoint.max_wait_s or self._clock() + paused_s >= deadline.at_s:
                why = f"{self._endpoint.name}: asks to be spared for longer than this call can wait"
                raise RateLimited(why, paused_s)
            await self._sleep(paused_s + self._random() * self._endpoint.backoff_base_s)

    def _wait_s(self, attempt: int, failed: AttemptFailed) -> float:
        endpoint = self._endpoint
        if failed.told_s is not None:  # callers told the same don't come back at the same moment
            return failed.told_s + self._random() * endpoint.backoff_base_s
        return self._random() * min(endpoint.backoff_cap_s, endpoint.backoff_base_s * 2.0 ** (attempt - 1))

    def _given_up(self, failed: AttemptFailed, wait_s: float) -> LLMError:
        if failed.blame == "request":
            return Refused(failed.why)
        if failed.blame is None:
            return RateLimited(failed.why, wait_s)
        return EndpointUnavailable(failed.why, max(wait_s, self.breaker.closed_for_s()))


def _count_unsure(totals: Totals, reservation: Reservation) -> None:
    """The reservation stays as it is: it counts as spent."""
    totals.unsure += 1
    totals.unsure_micros += reservation.micros
