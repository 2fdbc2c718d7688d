"""One caller's stream over all replicas: each item finds its replica by hash, and its way there by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass

from themis_client import attempts, rpc_errors
from themis_client.attempts import Attempt, Observer, unobserved
from themis_client.batches import Job
from themis_client.calls import SCORE
from themis_client.deadline import Deadline, Runtime
from themis_client.decode import status
from themis_client.errors import DeadlineExceeded, ProtocolError, ThemisError, Unavailable, UnknownVersion
from themis_client.failure import RESENT, Failure, Status
from themis_client.items import ItemLike
from themis_client.lane import Lane, LaneEnded
from themis_client.replicas import Claim, Replica, Replicas
from themis_client.results import Scored
from themis_client.retry import RetryPolicy
from themis_client.rpc_errors import CallFailure
from themis_client.tasks import cancel
from themis_proto.v1 import judge_pb2 as pb

MARGIN_S = 5.0
"""Servers answer a little before a deadline; this close to it, time is really over."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """window: items that one server is expected to hold; what it says when the stream opens goes before it."""

    options: pb.ScoreOptions
    item_bytes: int
    window: int
    deadline: Deadline
    item_timeout_s: float | None


class ScoreStream:
    """Serves one iteration. An item in flight is a task of its own, so that a retry holds nobody else up."""

    def __init__(
        self,
        replicas: Replicas,
        retry: RetryPolicy,
        runtime: Runtime,
        settings: StreamSettings,
        observe: Observer = unobserved,
    ) -> None:
        self._replicas = replicas
        self._retry = retry
        self._runtime = runtime
        self._settings = settings
        self._observe = observe
        self._lanes: dict[str, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Never longer than there is room for: a place is freed when the caller takes the result.
        self._out: asyncio.Queue[tuple[int, Scored] | ThemisError | None] = asyncio.Queue()

    async def results(
        self, items: Iterable[ItemLike] | AsyncIterable[ItemLike]
    ) -> AsyncGenerator[tuple[int, Scored], None]:
        """Yields as items finish; raises what the iterable raises, and what makes going on pointless."""
        await self._replicas.open()
        room = asyncio.Semaphore(self._settings.window * len(self._replicas.addresses))
        feeding = asyncio.create_task(self._feed(items, room))
        feeding.add_done_callback(lambda _: self._out.put_nowait(None))
        try:
            while (found := await self._out.get()) is not None:
                if isinstance(found, ThemisError):
                    raise found
                room.release()
                yield found
            await feeding
            await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
        finally:
            await cancel([feeding, *self._tasks])
            for lane in self._lanes.values():
                await lane.close()

    async def _feed(self, items: Iterable[ItemLike] | AsyncIterable[ItemLike], room: asyncio.Semaphore) -> None:
        try:
            await asyncio.wait_for(self._take_all(items, room), self._settings.deadline.remaining_s)
        except asyncio.TimeoutError as error:
            await self._settle()
            raise DeadlineExceeded("the stream's time ran out before its items ended") from error
        await self._settle()

    async def _take_all(self, items: Iterable[ItemLike] | AsyncIterable[ItemLike], room: asyncio.Semaphore) -> None:
        source = _asynchronous(items)
        index = 0
        while True:
            await room.acquire()
            try:
                item = await source.__anext__()
            except StopAsyncIteration:
                return
            self._start(index, item)
            index += 1

    def _start(self, index: int, item: ItemLike) -> None:
        job = SCORE.job(index, item, self._settings.item_bytes)
        if isinstance(job, Failure):
            self._out.put_nowait((index, job))
            return
        task = asyncio.create_task(self._finish(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _finish(self, job: Job[pb.Item]) -> None:
        try:
            self._out.put_nowait((job.index, await self._score(job)))
        except ThemisError as error:
            self._out.put_nowait(error)

    async def _score(self, job: Job[pb.Item]) -> Scored:
        attempt, missing = 1, frozenset[str]()
        while True:
            replica = self._replicas.pick(job.conversation, 1, missing)
            if replica is None:
                raise UnknownVersion(f"no replica has version {self._settings.options.version!r}")
            reply = await self._attempt(job, replica)
            if isinstance(reply, CallFailure) and isinstance(reply.error, UnknownVersion):
                missing |= {replica.address}
                continue
            result, again, pushback_s = self._weigh(job, reply, replica)
            wait_s = self._retry.wait_s(attempt, pushback_s, self._settings.deadline, self._runtime) if again else None
            if wait_s is None:
                return result
            await self._runtime.sleep(wait_s)
            attempt += 1

    async def _attempt(self, job: Job[pb.Item], replica: Replica) -> pb.Result | CallFailure:
        claim = Claim(replica, 1)
        try:
            if not self._settings.deadline.remaining_s:
                return CallFailure(DeadlineExceeded("the time ran out before the item was sent"), retryable=False)
            reply = await self._lane(replica).score(str(job.index), job.message, self._settings.item_timeout_s)
            self._observe(Attempt(replica.address, (status(reply),)))
            return reply
        except LaneEnded as ended:
            self._observe(attempts.lost(replica.address, 1, ended.failure))
            return ended.failure
        finally:
            claim.release()

    def _lane(self, replica: Replica) -> Lane:
        lane = self._lanes.get(replica.address)
        if lane is None or lane.ended:
            timeout_s = self._settings.deadline.remaining_s
            lane = Lane(replica, self._settings.options, timeout_s, self._replicas.metadata)
            self._lanes[replica.address] = lane
        return lane

    def _weigh(
        self, job: Job[pb.Item], reply: pb.Result | CallFailure, replica: Replica
    ) -> tuple[Scored, bool, float | None]:
        """The item's result as it stands, whether another attempt may better it, and the server's hint in seconds."""
        if isinstance(reply, CallFailure):
            return self._weigh_loss(job, reply, replica)
        found = status(reply)
        if found is Status.OK and reply.version != self._settings.options.version:
            raise ProtocolError(f"{replica.address} judged with {reply.version!r}, which was not asked for")
        if found is Status.UNAVAILABLE:
            self._replicas.avoid(replica)
        early = found is Status.DEADLINE_EXCEEDED and self._early()
        return SCORE.read(reply, job.index), found in RESENT or early, None

    def _weigh_loss(self, job: Job[pb.Item], reply: CallFailure, replica: Replica) -> tuple[Scored, bool, float | None]:
        if not rpc_errors.concerns_items(reply.error):
            raise reply.error
        if isinstance(reply.error, Unavailable):
            self._replicas.avoid(replica)
        early = isinstance(reply.error, DeadlineExceeded) and self._early()
        lost = SCORE.lost(job, reply.error, self._settings.options.version)
        return lost, reply.retryable or early, reply.pushback_s

    def _early(self) -> bool:
        """Whether time ran out on the server only: it may hold streams to a limit of its own, and a new stream goes
        on where that one ended."""
        return self._settings.item_timeout_s is None and self._settings.deadline.remaining_s > MARGIN_S


async def _asynchronous(items: Iterable[ItemLike] | AsyncIterable[ItemLike]) -> AsyncIterator[ItemLike]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
