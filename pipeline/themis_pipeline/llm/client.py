"""Calls to LLMs: asked once, paid once, within limits, budget and deadline, or an error that says why not."""

from __future__ import annotations

import asyncio
import random as standard_random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.answers import Answer
from themis_pipeline.llm.breaker import Breaker
from themis_pipeline.llm.budget import Budgets
from themis_pipeline.llm.caller import Caller
from themis_pipeline.llm.calls import CallContext, CallKey, Completion, Finish, Request, request_digest
from themis_pipeline.llm.endpoints import Endpoint, Endpoints, check_teacher
from themis_pipeline.llm.errors import (
    CutShort,
    DeadlinePassed,
    EmptyAnswer,
    LLMError,
    NoText,
    SharedStoreUnavailable,
    Withheld,
)
from themis_pipeline.llm.journal import Entry, Journal
from themis_pipeline.llm.ledger import Ledger
from themis_pipeline.llm.limits import LeasedLimits
from themis_pipeline.llm.recording import Recording
from themis_pipeline.llm.wire import Wire

_RETRY_AFTER_S = 5.0
_NO_TEXT: dict[Finish, tuple[type[NoText], str]] = {
    "length": (CutShort, "the answer was cut short"),
    "withheld": (Withheld, "the answer was withheld"),
    "empty": (EmptyAnswer, "the answer has no text"),
}


class LLM(Protocol):
    """What stages depend on."""

    async def complete(self, request: Request, context: CallContext) -> Completion:
        """A whole text. Raises LLMError, by kind: TryLater, Refused, NoText, CorruptRecord."""
        ...


@dataclass(frozen=True, slots=True)
class Time:
    """sleep: seconds; clock: monotonic seconds, the deadlines' own; wall: seconds since 1970; random: in [0, 1)."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = standard_random.random


class JournaledLLM:
    """Implements `LLM`, for one event loop. judge_lineage: of the version that is current when a teacher is asked;
    None: any may teach."""

    def __init__(
        self,
        endpoints: Endpoints,
        journal: Journal,
        ledger: Ledger,
        budgets: Budgets,
        judge_lineage: Callable[[], Collection[str]] | None,
        accounts: Accounts,
        times: Time | None = None,
    ) -> None:
        self._endpoints, self._recording, self.budgets = endpoints, Recording(journal), budgets
        self._judge_lineage, self._accounts = judge_lineage, accounts
        self._times = times or Time()
        self._asking: WeakValueDictionary[tuple[CallKey, str], asyncio.Lock] = WeakValueDictionary()
        self._answering: dict[str, str] = {}  # endpoint: the model that its last answer named
        self._callers = {endpoint.name: self._caller(endpoint, ledger) for endpoint in endpoints}

    async def close(self) -> None:
        """Call it when no call is in flight: what is leased of the budget goes back."""
        for caller in self._callers.values():
            await caller.close()
        await self._recording.close()
        await self.budgets.close()

    def waiting(self) -> Mapping[str, int]:
        """How many calls wait for their turn, by endpoint."""
        return {name: caller.waiting for name, caller in self._callers.items()}

    def left_alone(self) -> Mapping[str, bool]:
        """Whether the circuit breaker keeps calls away, by endpoint."""
        return {name: caller.breaker.closed_for_s() > 0 for name, caller in self._callers.items()}

    async def complete(self, request: Request, context: CallContext) -> Completion:
        endpoint = self._endpoints[request.endpoint]
        totals = self._accounts.of(context.key.stage, endpoint.name)
        try:
            completion = await self._in_time(endpoint, request, context)
        except LLMError as error:
            totals.answers[type(error).__name__] += 1
            raise
        totals.answers["text"] += 1
        return completion

    async def _in_time(self, endpoint: Endpoint, request: Request, context: CallContext) -> Completion:
        """The one deadline over every wait: for the store, its turn, limits, budget, the endpoint."""
        try:
            async with asyncio.timeout(context.deadline.at_s - self._times.clock()):
                return await self._completion(endpoint, request, context)
        except TimeoutError:
            raise DeadlinePassed(f"{endpoint.name}: no answer by the deadline", _RETRY_AFTER_S) from None

    async def _completion(self, endpoint: Endpoint, request: Request, context: CallContext) -> Completion:
        self._check_role(request, endpoint, self._answering.get(endpoint.name))
        digest = request_digest(endpoint.name, endpoint.body(request))
        # Of equal calls in flight one pays, and the others are told from the journal.
        async with self._asking.setdefault((context.key, digest), asyncio.Lock()):
            entry = await self._recording.find(context.key, digest)
            if entry is not None:
                self._accounts.of(context.key.stage, endpoint.name).from_journal += 1
                completion = _told(entry, True)
            else:
                completion = await self._paid(endpoint, request, context, digest)
        self._check_role(request, endpoint, completion.model)
        if completion.finish in _NO_TEXT:
            kind, why = _NO_TEXT[completion.finish]
            raise kind(f"{endpoint.name}: {why} after {completion.completion_tokens} tokens", completion)
        return completion

    def _check_role(self, request: Request, endpoint: Endpoint, model: str | None) -> None:
        if request.role == "teacher" and self._judge_lineage is not None:
            check_teacher(endpoint, self._judge_lineage(), model)

    async def _paid(self, endpoint: Endpoint, request: Request, context: CallContext, digest: str) -> Completion:
        totals = self._accounts.of(context.key.stage, endpoint.name)
        await self._recording.check()
        budget = self.budgets.of(context.key.stage)
        answer = await self._callers[endpoint.name].ask(request, context.deadline, totals, budget)
        self._answering[endpoint.name] = answer.model
        entry = _entry(answer, endpoint, context, digest)
        totals.paid += 1
        totals.prompt_tokens += answer.prompt_tokens
        totals.completion_tokens += answer.completion_tokens
        totals.cost_micros += entry.cost_micros
        try:
            stands = await self._recording.record(entry)
        except SharedStoreUnavailable:
            # The answer is here and paid; refusing it would pay for it again.
            totals.unjournaled += 1
            return _told(entry, False)
        # Whoever paid first is right, so that both give the same text.
        totals.doubled += stands != entry
        return _told(stands, False)

    def _caller(self, endpoint: Endpoint, ledger: Ledger) -> Caller:
        times = self._times
        limits = LeasedLimits(
            endpoint.name, endpoint.limit, ledger, sleep=times.sleep, wall=times.wall, clock=times.clock
        )
        breaker = Breaker(endpoint.failures_to_open, endpoint.open_s, times.clock)
        wire = Wire(endpoint, times.wall)
        return Caller(endpoint, wire, limits, breaker, times.sleep, times.clock, times.random)


def _entry(answer: Answer, endpoint: Endpoint, context: CallContext, digest: str) -> Entry:
    key = context.key
    return Entry(
        input_id=key.input_id,
        stage=key.stage,
        index=key.index,
        attempt=key.attempt,
        digest=digest,
        text=answer.text,
        finish=answer.finish,
        endpoint=endpoint.name,
        model=answer.model,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_micros=endpoint.cost_micros(answer.prompt_tokens, answer.completion_tokens),
    )


def _told(entry: Entry, from_journal: bool) -> Completion:
    return Completion(
        text=entry.text,
        finish=entry.finish,
        endpoint=entry.endpoint,
        model=entry.model,
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        cost_micros=entry.cost_micros,
        from_journal=from_journal,
    )
