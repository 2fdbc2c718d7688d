"""One stream to one replica: sends items within the server's window, and hands each sender its answer."""

from __future__ import annotations

import asyncio
import contextlib

import grpc.aio

from themis_client import rpc_errors
from themis_client.dispatch import Metadata
from themis_client.errors import ProtocolError, Unavailable
from themis_client.gate import Gate
from themis_client.replicas import Replica
from themis_client.rpc_errors import CallFailure
from themis_client.tasks import cancel
from themis_proto.v1 import judge_pb2 as pb

GOODBYE_S = 1.0
"""How long a server may take to end a stream that has nothing left in it."""


class LaneEnded(Exception):
    """The stream is over; the item may not have been scored. Never leaves this package."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


class Lane:
    """Opens at once. When it ends, everyone who waits in score() gets LaneEnded."""

    def __init__(self, replica: Replica, options: pb.ScoreOptions, timeout_s: float, metadata: Metadata) -> None:
        self._replica = replica
        self._options = options
        self._call = replica.stub.StreamScores(timeout=timeout_s, metadata=metadata)
        self._window = Gate(0)  # shut until the server has said how wide it is
        self._writing = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[pb.Result]] = {}
        self._reading = asyncio.create_task(self._read())
        self._failure: CallFailure | None = None

    @property
    def ended(self) -> bool:
        return self._failure is not None

    async def score(self, name: str, item: pb.Item, timeout_s: float | None) -> pb.Result:
        """Waits for room in the window, then for the answer."""
        async with self._window:
            if self._failure is not None:
                raise LaneEnded(self._failure)
            answer: asyncio.Future[pb.Result] = asyncio.get_running_loop().create_future()
            self._waiting[name] = answer
            try:
                await self._write(pb.StreamScoresRequest(item=pb.StreamItem(id=name, item=item, timeout_s=timeout_s)))
                return await answer
            finally:
                self._waiting.pop(name, None)

    async def finish(self) -> None:
        """Says that no more items come, and lets the server end the call."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.done_writing()
        await asyncio.wait([self._reading], timeout=GOODBYE_S)
        await self.close()

    async def close(self) -> None:
        """Cancels the call: the server stops what it still had."""
        self._call.cancel()
        await cancel([self._reading])

    async def _write(self, request: pb.StreamScoresRequest) -> None:
        # A call that has ended says so to its reader, who tells everyone; the writer need not.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.write(request)

    async def _read(self) -> None:
        try:
            await self._write(pb.StreamScoresRequest(options=self._options))
            async for message in self._call:
                self._take(message)
            failure = CallFailure(Unavailable(f"{self._replica.address}: the server ended the stream"), retryable=True)
        except grpc.aio.AioRpcError as error:
            failure = rpc_errors.read(error, self._replica.address)
        except ProtocolError as error:
            self._call.cancel()
            failure = CallFailure(error, retryable=False)
        self._end(failure)

    def _take(self, message: pb.StreamScoresResponse) -> None:
        if message.HasField("opened"):
            opened = message.opened
            if opened.window < 1 or opened.version != self._options.version:
                raise ProtocolError(f"{self._replica.address} opened a stream that was not asked for: {opened}")
            self._window.widen(opened.window)
            return
        answer = self._waiting.get(message.result.id)
        if answer is None or answer.done():
            raise ProtocolError(f"{self._replica.address} answered {message.result.id!r}, which is not in flight")
        answer.set_result(message.result.result)

    def _end(self, failure: CallFailure) -> None:
        self._failure = failure
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LaneEnded(failure))
        self._window.remove()
