"""Callers that leave, do not read or are cut off, in numbers: nothing of them may stay behind."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import io
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc
import psutil
import pytest

from tests.integration.sidecar_fakes import FakeJudge, Serving, item, make_server, serving, statuses, stream_item
from tests.integration.sidecar_running import ROOT
from themis_client import AsyncClient, DeadlineExceeded, Item, RetryPolicy
from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_judge.items import Item as JudgedItem
from themis_judge.items import Options, Result
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import LogConfig
from themis_sidecar.logs import make_logger

STREAMS, WARM_UP, AT_A_TIME = 10_000, 2_000, 50
MOST_GROWTH_BYTES = 24 << 20
"""Of memory, for 8,000 streams after the warm-up: 3 KB each. A stream that stayed behind whole would be far above."""
PROMPT_BYTES, MOST_UNREAD_BYTES = 100_000, 8 << 20
"""Of answers that nobody reads, as much as gRPC takes off the server's hands before its windows are full (4 MB)."""
OPTIONS = pb.StreamScoresRequest(options=pb.ScoreOptions(return_prompt=True))


class Forgetful(FakeJudge):
    """Counts instead of keeping: its own notes would look like a leak."""

    def __init__(self, prompt: str = "") -> None:
        super().__init__()
        self.at_work = self.begun = 0
        self.prompt = prompt

    async def score_one(
        self, item: JudgedItem, options: Options | None = None, deadline: Deadline = NO_DEADLINE
    ) -> Result:
        self.at_work += 1
        self.begun += 1
        try:
            result = await super().score_one(item, options, deadline)
            return dataclasses.replace(result, prompt=self.prompt or None)
        finally:
            self.at_work -= 1
            for notes in (self.started, self.cancelled, self.deadlines, self.options):
                notes.clear()


@asynccontextmanager
async def quiet(judge: FakeJudge, **limits: Any) -> AsyncIterator[Serving]:
    """A server that logs errors only."""
    log = io.StringIO()
    server = make_server(judge, make_logger(LogConfig(level="error"), log), **limits)
    address = await server.start()
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            yield Serving(judge, server, address, channel, stub, log)
    finally:
        await server.stop()


async def left_alone(served: Serving, number: int) -> None:
    """One stream, given up at one of five moments."""
    call: Any = served.stub.StreamScores(timeout=60)
    moment = number % 5
    if moment > 0:
        await call.write(OPTIONS)
    if moment > 1:
        await call.read()
        await call.write(stream_item(f"hold {number}"))
    if moment > 2:
        await call.write(stream_item(f"fast {number}"))
    if moment > 3:
        assert (await call.read()).result.id == f"fast {number}"
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def settled(judge: Forgetful) -> tuple[int, int, int]:
    """Tasks, file descriptors and resident bytes, when nothing is at work any more."""
    while judge.at_work:  # noqa: ASYNC110 - it changes in other tasks; the test's own time-out ends what never does
        await asyncio.sleep(0.01)
    before = -1
    while (tasks := len(asyncio.all_tasks())) != before:
        before = tasks
        await asyncio.sleep(0.1)
    gc.collect()
    process = psutil.Process()
    return tasks, process.num_fds(), process.memory_info().rss


async def test_ten_thousand_cancelled_streams_leave_nothing_behind() -> None:
    judge = Forgetful()
    budget = judge.tokens * 2 * AT_A_TIME
    async with quiet(judge, max_queue_tokens=budget, max_calls=AT_A_TIME + 1) as served:

        async def leave(numbers: range) -> None:
            for first in numbers[::AT_A_TIME]:
                await asyncio.gather(*(left_alone(served, first + one) for one in range(AT_A_TIME)))
                while judge.at_work:  # noqa: ASYNC110 - or the next ones would be refused for lack of room
                    await asyncio.sleep(0)

        await leave(range(WARM_UP))
        tasks, files, resident_bytes = await settled(judge)
        await leave(range(WARM_UP, STREAMS))
        tasks_after, files_after, resident_after_bytes = await settled(judge)
        assert tasks_after <= tasks
        assert files_after <= files
        assert resident_after_bytes - resident_bytes < MOST_GROWTH_BYTES
        # Exactly the whole budget and all places are free again: so much is let in, and no more.
        held = [
            asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold 1"), item("hold 2")])))
            for _ in range(AT_A_TIME)
        ]
        while judge.at_work < 2 * AT_A_TIME:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub.Score(pb.ScoreRequest(items=[item("one too many")]))
        assert f"{budget} tokens are queued" in (refused.value.details() or "")
        judge.released.set()
        assert {tuple(statuses(await call)) for call in held} == {("OK", "OK")}
        assert await served.server.drain() is True
        assert served.log.getvalue() == ""


async def test_streams_that_the_client_gives_up_leave_nothing_in_the_client() -> None:
    judge = Forgetful()
    async with quiet(judge) as served, AsyncClient(served.address) as client:
        await client.score([Item("a question", "an answer")])

        async def give_up(number: int) -> None:
            keys = [f"fast {number}", *(f"hold {number}.{one}" for one in range(5))]
            results = client.stream([Item("a question", "an answer", key=key) for key in keys])
            async for index, result in results:
                assert (index, result.ok) == (0, True)
                break
            await results.aclose()

        await give_up(0)
        tasks, files, _ = await settled(judge)
        for first in range(1, 301, 20):
            await asyncio.gather(*(give_up(first + one) for one in range(20)))
        tasks_after, files_after, _ = await settled(judge)
        assert tasks_after == tasks
        while files_after > files:  # gRPC's own threads close theirs a little later; never is told by the time-out
            _, files_after, _ = await settled(judge)
        assert served.log.getvalue() == ""


# ------------------------------------------------------------------------------------------------- who doesn't read


async def test_callers_that_do_not_read_hold_up_nobody_and_are_ended() -> None:
    """Each holds one window of answers, and no tokens of the budget; others go on as if they weren't there."""
    judge = Forgetful(prompt="x" * PROMPT_BYTES)
    window, deaf, heard = 16, 20, 50
    async with serving(judge, stream_window=window, max_deadline_s=2.0, max_queue_tokens=10 * window) as served:
        calls: list[Any] = []
        for _ in range(deaf):
            calls.append(served.stub.StreamScores())
            await calls[-1].write(OPTIONS)

        async def push(call: Any) -> None:
            for number in count():
                await call.write(stream_item(f"{number}"))

        pushing = [asyncio.create_task(push(call)) for call in calls]
        async with AsyncClient(served.address) as client:
            for _ in range(heard):
                assert (await client.score([Item("a question", "an answer")], timeout_s=30))[0].ok
        # Their time comes, read or not.
        assert await asyncio.wait_for(served.server.drain(), 60) is True
        ends = await asyncio.gather(*pushing, return_exceptions=True)
        assert {isinstance(end, grpc.aio.AioRpcError | asyncio.InvalidStateError) for end in ends} == {True}
        # As the server ended them: a client that can't write any more need not have heard how.
        ended = [line["code"] for line in served.lines("call") if line["method"] == "StreamScores"]
        assert ended == ["DEADLINE_EXCEEDED"] * deaf
        assert judge.begun <= heard + deaf * (window + MOST_UNREAD_BYTES // PROMPT_BYTES)
        assert judge.at_work == 0


# ------------------------------------------------------------------------------------------------ who is cut off

CLIENT = """
import sys
from themis_client import Client, Item
items = [Item("a question", "an answer", key=f"hold {n}") for n in range(8)]
with Client(sys.argv[1]) as client:
    if sys.argv[2] == "stream":
        list(client.stream(items))
    else:
        client.score(items)
"""


@pytest.mark.parametrize("how", ["score", "stream"])
async def test_the_work_of_a_client_that_is_killed_stops(how: str) -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=judge.tokens * 8) as served:
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, served.address, how, cwd=ROOT)
        await judge.until(lambda: len(judge.started) == 8)
        client.send_signal(signal.SIGKILL)
        await client.wait()
        await judge.until(lambda: len(judge.cancelled) == 8)
        judge.released.set()
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item(f"{n}") for n in range(8)]))) == ["OK"] * 8
        assert await served.server.drain() is True


class Cable:
    """Between a client and a server; pulled out, it passes nothing on and tells nobody."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def pull_out(self) -> None:
        self._whole.clear()

    @asynccontextmanager
    async def plugged(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass_on(one, other))
            self._tasks.add(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


async def test_half_of_a_connection_ends_at_its_deadline_on_both_sides() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        cable = Cable(served.address)
        async with cable.plugged() as address, AsyncClient(address, retry=RetryPolicy(attempts=1)) as client:
            assert (await client.score([Item("a question", "an answer")]))[0].ok
            hanging = asyncio.create_task(
                client.score([Item("a question", "an answer", key=f"hold {n}") for n in range(4)], timeout_s=1.0)
            )
            await judge.until(lambda: len(judge.started) == 5)
            cable.pull_out()
            with pytest.raises(DeadlineExceeded):
                await hanging
            await judge.until(lambda: len(judge.cancelled) == 4)
            assert await served.server.drain() is True  # no call is left open by the half that never hears of it
