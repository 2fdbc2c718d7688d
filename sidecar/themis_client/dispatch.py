"""Sends a call's items to the replicas in batches, and again where that may help, until its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

import grpc.aio

from themis_client import attempts, rpc_errors
from themis_client.attempts import Attempt, Observer, unobserved
from themis_client.batches import Batch, BatchLimits, Job, plan
from themis_client.deadline import Deadline, Runtime
from themis_client.decode import Answer, status
from themis_client.errors import DeadlineExceeded, Overloaded, ProtocolError, ThemisError, Unavailable, UnknownVersion
from themis_client.failure import RESENT, Status
from themis_client.replicas import Replica, Replicas
from themis_client.retry import RetryPolicy
from themis_client.rpc_errors import CallFailure
from themis_client.tasks import all_or_cancel

MessageT = TypeVar("MessageT")
AnswerT = TypeVar("AnswerT", bound=Answer)
ReplyT = TypeVar("ReplyT")

Metadata: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rpc(Generic[MessageT, AnswerT]):
    """One kind of call: takes a replica, items, a time-out in seconds and metadata; gives one answer per item."""

    name: str
    send: Callable[[Replica, Sequence[MessageT], float, Metadata], Awaitable[Sequence[AnswerT]]]


@dataclass(slots=True)
class Work(Generic[MessageT, AnswerT]):
    """A call under way. answers: the last one that each item got, by index; lost: why the others have none."""

    rpc: Rpc[MessageT, AnswerT]
    limits: BatchLimits
    deadline: Deadline
    version: str
    answers: dict[int, AnswerT] = field(default_factory=dict)
    lost: dict[int, ThemisError] = field(default_factory=dict)


class Dispatcher:
    """One per client: it holds nothing but its collaborators."""

    def __init__(
        self, replicas: Replicas, retry: RetryPolicy, runtime: Runtime, observe: Observer = unobserved
    ) -> None:
        self._replicas = replicas
        self._retry = retry
        self._runtime = runtime
        self._observe = observe

    async def run(self, work: Work[MessageT, AnswerT], jobs: Sequence[Job[MessageT]]) -> None:
        """Fills in the work's answers. Raises if nothing at all came back, or if the call itself is at fault."""
        if not jobs:
            return
        await self._replicas.open()
        await self._round(work, jobs, 1, frozenset())
        if not work.answers and work.lost:
            raise next(iter(work.lost.values()))

    async def ask(self, call: Callable[[Replica, float, Metadata], Awaitable[ReplyT]], deadline: Deadline) -> ReplyT:
        """A call that carries no items, to any replica."""
        attempt = 1
        while True:
            reply = await self._ask_once(call, deadline)
            if not isinstance(reply, CallFailure):
                return reply
            wait_s = self._wait_s(reply, attempt, deadline)
            if wait_s is None:
                raise reply.error
            await self._runtime.sleep(wait_s)
            attempt += 1

    async def _ask_once(
        self, call: Callable[[Replica, float, Metadata], Awaitable[ReplyT]], deadline: Deadline
    ) -> ReplyT | CallFailure:
        try:
            await self._replicas.open()
        except Unavailable as error:
            return CallFailure(error, retryable=True)
        replica = self._replicas.pick(b"", 0)
        if replica is None:
            raise Unavailable("there is no replica")
        try:
            return await call(replica, deadline.remaining_s, self._replicas.metadata)
        except grpc.aio.AioRpcError as error:
            failed = rpc_errors.read(error, replica.address)
        self._note(replica, failed)
        return failed

    async def _round(
        self, work: Work[MessageT, AnswerT], jobs: Sequence[Job[MessageT]], attempt: int, excluded: frozenset[str]
    ) -> None:
        batches = plan(jobs, self._replicas, work.limits, excluded)
        if batches is None:
            raise UnknownVersion(f"no replica has version {work.version!r}; asked: {', '.join(sorted(excluded))}")
        try:
            await all_or_cancel(self._batch(work, batch, attempt, excluded) for batch in batches)
        finally:
            # A task that is cancelled before its first step runs none of its own clean-up.
            for batch in batches:
                batch.claim.release()

    async def _batch(
        self, work: Work[MessageT, AnswerT], batch: Batch[MessageT], attempt: int, excluded: frozenset[str]
    ) -> None:
        failed = await self._attempt(work, batch)
        if failed is not None and isinstance(failed.error, UnknownVersion):
            # Not an attempt: in the middle of a roll-out only some replicas hold the version yet.
            await self._round(work, batch.jobs, attempt, excluded | {batch.replica.address})
            return
        left = self._left(work, batch, failed)
        if not left:
            return
        wait_s = self._wait_s(failed, attempt, work.deadline)
        if wait_s is not None:
            await self._runtime.sleep(wait_s)
            await self._round(work, left, attempt + 1, excluded)

    async def _attempt(self, work: Work[MessageT, AnswerT], batch: Batch[MessageT]) -> CallFailure | None:
        try:
            async with batch.replica.gate:
                return await self._send(work, batch)
        finally:
            batch.claim.release()

    async def _send(self, work: Work[MessageT, AnswerT], batch: Batch[MessageT]) -> CallFailure | None:
        replica, timeout_s = batch.replica, work.deadline.remaining_s
        if not timeout_s:
            return CallFailure(DeadlineExceeded("the time ran out before the items were sent"), retryable=False)
        try:
            messages = [job.message for job in batch.jobs]
            answers = await work.rpc.send(replica, messages, timeout_s, self._replicas.metadata)
        except grpc.aio.AioRpcError as error:
            failed = rpc_errors.read(error, replica.address)
            self._note(replica, failed)
            self._observe(attempts.lost(replica.address, len(batch.jobs), failed))
            return failed
        if len(answers) != len(batch.jobs):
            raise ProtocolError(f"{replica.address}: {len(batch.jobs)} items in {work.rpc.name}, {len(answers)} out")
        replica.gate.succeeded()
        for job, answer in zip(batch.jobs, answers, strict=True):
            self._keep(work, job, answer, replica)
        self._observe(Attempt(replica.address, tuple(status(answer) for answer in answers)))
        return None

    def _keep(self, work: Work[MessageT, AnswerT], job: Job[MessageT], answer: AnswerT, replica: Replica) -> None:
        found = status(answer)
        if found is Status.OK and answer.version != work.version:
            raise ProtocolError(f"{replica.address} judged with {answer.version!r}, not with {work.version!r}")
        if found is Status.UNAVAILABLE:
            self._replicas.avoid(replica)
        elif found is Status.OVERLOADED:
            replica.gate.overloaded()
        work.answers[job.index] = answer

    def _left(
        self, work: Work[MessageT, AnswerT], batch: Batch[MessageT], failed: CallFailure | None
    ) -> list[Job[MessageT]]:
        """The jobs that are worth another attempt."""
        if failed is None:
            return [job for job in batch.jobs if status(work.answers[job.index]) in RESENT]
        if not rpc_errors.concerns_items(failed.error):
            raise failed.error
        work.lost.update((job.index, failed.error) for job in batch.jobs)
        return list(batch.jobs) if failed.retryable else []

    def _wait_s(self, failed: CallFailure | None, attempt: int, deadline: Deadline) -> float | None:
        if failed is not None and not failed.retryable:
            return None
        pushback_s = None if failed is None else failed.pushback_s
        return self._retry.wait_s(attempt, pushback_s, deadline, self._runtime)

    def _note(self, replica: Replica, failed: CallFailure) -> None:
        if isinstance(failed.error, Unavailable):
            self._replicas.avoid(replica)
        elif isinstance(failed.error, Overloaded):
            replica.gate.overloaded()
