"""One stream of scores: items are read as long as there is room for them, and answered as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from themis_judge.engines.base import Deadline
from themis_judge.errors import InvalidItem
from themis_judge.items import Result
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.admission import CallerAdmission
from themis_sidecar.batch import Job, check_size, invalid, launch, outcome, timed_out
from themis_sidecar.errors import CallTimeout, InvalidCall, Unavailable

STREAM_ITEM, ITEM = "item", "item.item"  # paths from a StreamScoresRequest
LAST_ANSWERS_S = 1.0  # for a caller to read the answers that tell it that the time is over

Read = Callable[[pb.Item, Deadline], Job[Result]]
Answer = Callable[[pb.StreamItem, str, Result], Awaitable[None]]  # the str: the path of what the result is about


class Closing(Protocol):
    """What may ask streams to wind down, for a reason that it gives once `shut` is set."""

    @property
    def shut(self) -> asyncio.Event: ...
    @property
    def why_closed(self) -> str: ...


class ScoreStream:
    """Holds at most `window` items, from an item's read to its answer's write: a caller that does not read, or an
    engine that is behind, stops the reading, and that stops the caller."""

    def __init__(
        self,
        read: Read,
        answer: Answer,
        admission: CallerAdmission,
        closings: Sequence[Closing],
        deadline: Deadline,
        window: int,
        max_item_bytes: int,
    ) -> None:
        self._read = read
        self._answer = answer
        self._admission = admission
        self._closings = closings
        self._deadline = deadline
        self._max_item_bytes = max_item_bytes
        self._room = asyncio.Semaphore(window)
        self._writing = asyncio.Lock()
        self._ids: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, requests: AsyncIterator[pb.StreamScoresRequest]) -> None:
        """Returns when the caller has sent its last item and got its last answer.

        Raises Unavailable or CallTimeout where the server stops reading before the caller stops sending; what was
        started is answered first.
        """
        reading = asyncio.create_task(self._take_all(requests))
        shut = [asyncio.create_task(closing.shut.wait()) for closing in self._closings]
        try:
            await self._first_of(reading, *shut, timeout_s=self._deadline.remaining_s())
            complete = reading.done()
            if complete:
                reading.result()
            reading.cancel()
            await self._finish()
            if not complete:
                raise self._ended_early()
        finally:
            for task in (reading, *shut, *self._tasks):
                task.cancel()

    async def _take_all(self, requests: AsyncIterator[pb.StreamScoresRequest]) -> None:
        while True:
            await self._room.acquire()
            request = await anext(requests, None)
            if request is None:
                return
            if request.WhichOneof("kind") != "item":
                raise InvalidCall("item", "is missing; after the first message, which held the options, send items")
            await self._take(request.item)

    async def _take(self, item: pb.StreamItem) -> None:
        """Starts an item as soon as the budget has room for it."""
        where = STREAM_ITEM
        try:
            self._check_id(item.id)
            deadline = self._item_deadline(item)
            where = ITEM
            check_size(item.item, self._max_item_bytes)
            job = self._read(item.item, deadline)
        except InvalidItem as error:
            self._start(self._reply(item, where, invalid(Result, error)))
            return
        self._ids.add(item.id)
        if await self._admission.wait(job.tokens, deadline):
            work = launch(job, self._admission)
            self._start(self._judge(item, work, deadline), work)
        else:
            self._ids.discard(item.id)
            self._start(self._reply(item, ITEM, timed_out(Result)))

    def _check_id(self, id: str) -> None:
        if not id:
            raise InvalidItem("id", "is empty; name the item, so that its answer can be told from others")
        if id in self._ids:
            raise InvalidItem("id", "repeats the id of an item in flight")

    def _item_deadline(self, item: pb.StreamItem) -> Deadline:
        if not item.HasField("timeout_s"):
            return self._deadline
        if not item.timeout_s > 0:
            raise InvalidItem("timeout_s", f"is {item.timeout_s}; it must be above 0")
        return min(self._deadline, Deadline.after(item.timeout_s), key=lambda deadline: deadline.at_s)

    async def _judge(self, item: pb.StreamItem, work: asyncio.Task[Result], deadline: Deadline) -> None:
        await asyncio.wait((work,), timeout=max(0.0, deadline.remaining_s()))
        result = outcome(work, Result)
        work.cancel()
        self._ids.discard(item.id)  # before the answer, after which the caller may use the id again
        await self._reply(item, ITEM, result)

    async def _reply(self, item: pb.StreamItem, where: str, result: Result) -> None:
        async with self._writing:
            await self._answer(item, where, result)
        self._room.release()

    def _start(self, coroutine: Coroutine[Any, Any, None], work: asyncio.Task[Result] | None = None) -> None:
        """`work` ends with it. (A `finally` would not do: a task cancelled before its first step never gets there.)"""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if work is not None:
            task.add_done_callback(lambda _: work.cancel())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._error is None:
            self._error = error
            self._broken.set_result(None)

    async def _finish(self) -> None:
        """Waits for what was started; the items' own deadlines bound it, but not a caller that does not read."""
        while self._tasks:
            timeout_s = max(0.0, self._deadline.remaining_s()) + LAST_ANSWERS_S
            if not await self._first_of(*self._tasks, timeout_s=timeout_s):
                raise CallTimeout("the call's time is over, and its last answers were not read")

    async def _first_of(self, *tasks: asyncio.Task[Any], timeout_s: float) -> bool:
        """Waits until a task ends: False where none does in time. Raises what broke the stream."""
        done, _ = await asyncio.wait(
            {*tasks, self._broken}, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED
        )
        if self._error is not None:
            raise self._error
        return bool(done)

    def _ended_early(self) -> Exception:
        for closing in self._closings:
            if closing.shut.is_set():
                return Unavailable(closing.why_closed)
        return CallTimeout("the call's time is over; what was not answered was not judged; open another stream")
