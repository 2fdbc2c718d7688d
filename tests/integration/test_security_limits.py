"""What a caller may take, at a real port: refusals with hints, streams that wait, and no job that starves another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.integration.security_parts import bearer, entry, fails_with, guarded, until, write_callers
from tests.integration.sidecar_fakes import FakeJudge, detail, item, statuses, stream_item
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
A, B = "token-a", "token-b"


@pytest.fixture
def callers(tmp_path: Path) -> Path:
    return write_callers(tmp_path / "callers.yaml", entry("a", A), entry("b", B))


@asynccontextmanager
async def limited(judge: FakeJudge, callers: Path, max_queue_tokens: int = 1000, **own: Any) -> AsyncIterator[Any]:
    security = {"callers_file": callers, "caller_limits": own}
    async with (
        guarded(judge, security=security, limits={"max_queue_tokens": max_queue_tokens}) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        yield served, judge_pb2_grpc.JudgeServiceStub(channel)


def score(stub: Any, token: str, *keys: str) -> Any:
    return stub.Score(pb.ScoreRequest(items=[item(key) for key in keys]), metadata=bearer(token))


async def open_stream(stub: Any, token: str, *ids: str) -> Any:
    stream = stub.StreamScores(metadata=bearer(token))
    await stream.write(pb.StreamScoresRequest(options=pb.ScoreOptions()))
    assert (await stream.read()).WhichOneof("kind") == "opened"
    for id in ids:
        await stream.write(stream_item(id))
    return stream


async def answered(stream: Any, count: int) -> list[str]:
    return [(await stream.read()).result.id for _ in range(count)]


def hint_s(error: grpc.aio.AioRpcError) -> float:
    delay = detail(error, error_details_pb2.RetryInfo).retry_delay
    return float(delay.ToMilliseconds() / 1000)


async def test_items_in_flight_by_caller(callers: Path) -> None:
    judge = FakeJudge()
    async with limited(judge, callers, max_items=2) as (_, stub):
        first = asyncio.ensure_future(score(stub, A, "hold 1", "hold 2"))
        await judge.until(lambda: len(judge.started) == 2)
        error = await fails_with(score(stub, A, "more"), EXHAUSTED)
        assert "a has 2 items in flight" in (error.details() or "")
        assert 0 < hint_s(error) <= 60
        assert statuses(await score(stub, B, "other")) == ["OK"]
        judge.released.set()
        assert statuses(await first) == ["OK", "OK"]
        assert statuses(await score(stub, A, "more")) == ["OK"]
        assert statuses(await score(stub, A, "1", "2", "3")) == ["OK"] * 3  # beyond the limit, but alone


async def test_tokens_a_second_by_caller(callers: Path) -> None:
    judge = FakeJudge()
    judge.tokens = 10
    # A rate that gives back one item in a thousand seconds: nothing here waits for it.
    async with limited(judge, callers, tokens_per_s=0.01, burst_s=2000) as (_, stub):
        assert statuses(await score(stub, A, "1")) == ["OK"]
        assert statuses(await score(stub, A, "2")) == ["OK"]
        error = await fails_with(score(stub, A, "3"), EXHAUSTED)
        assert "tokens a second" in (error.details() or "")
        assert hint_s(error) == 60
        assert statuses(await score(stub, B, "other")) == ["OK"]


async def test_streams_wait_for_their_callers_limits(callers: Path) -> None:
    judge = FakeJudge()
    async with limited(judge, callers, max_items=2) as (_, stub):
        stream = await open_stream(stub, A, "hold 1", "hold 2", "3")
        other = await open_stream(stub, B, "4")
        assert await answered(other, 1) == ["4"]
        assert sorted(judge.started) == ["4", "hold 1", "hold 2"]
        judge.released.set()
        assert sorted(await answered(stream, 3)) == ["3", "hold 1", "hold 2"]


async def test_streams_wait_for_their_callers_rate(callers: Path) -> None:
    judge = FakeJudge()
    judge.tokens = 10
    async with limited(judge, callers, tokens_per_s=200, burst_s=0.05) as (_, stub):  # an item every 50 ms
        stream = await open_stream(stub, A, *"abcde")
        assert sorted(await answered(stream, 5)) == list("abcde")


async def test_calls_in_flight_by_caller(callers: Path) -> None:
    async with limited(FakeJudge(), callers, max_calls=2) as (served, stub):
        streams = [await open_stream(stub, A) for _ in range(2)]
        error = await fails_with(score(stub, A, "more"), EXHAUSTED)
        assert hint_s(error) == 1
        assert statuses(await score(stub, B, "other")) == ["OK"]
        await streams[0].done_writing()
        await streams[0].read()
        await until(lambda: len(served.lines("call")) == 2)
        streams[1].cancel()
        await until(lambda: len(served.lines("call")) == 3)
        assert statuses(await score(stub, A, "more")) == ["OK"]


async def test_own_limits_follow_the_file(callers: Path) -> None:
    judge = FakeJudge()
    async with limited(judge, callers, max_items=1) as (served, stub):
        held = asyncio.ensure_future(score(stub, A, "hold"))
        await judge.until(lambda: judge.started == ["hold"])
        await fails_with(score(stub, A, "more"), EXHAUSTED)
        write_callers(callers, entry("a", A, limits={"max_items": 5}), entry("b", B))
        await served.logged("reloaded")
        assert statuses(await score(stub, A, "more")) == ["OK"]
        judge.released.set()
        await held


class SteppingJudge(FakeJudge):
    """Held items end one by one, as an engine's do."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = asyncio.Semaphore(0)

    async def _held(self) -> None:
        await self.steps.acquire()


async def test_a_hungry_stream_cannot_starve_another_callers_calls(callers: Path) -> None:
    judge = SteppingJudge()
    judge.tokens = 10
    async with limited(judge, callers, max_queue_tokens=40) as (_, stub):
        keys = [f"hold {number}" for number in range(20)]
        hungry = await open_stream(stub, A, *keys)
        await judge.until(lambda: len(judge.started) == 4)  # all of the budget, since nobody else asked
        for _ in range(3):
            await fails_with(score(stub, B, "b"), EXHAUSTED)
            judge.steps.release()
            await answered(hungry, 1)  # what that frees is left for the other, although the stream has more to send
            assert statuses(await score(stub, B, "b")) == ["OK"]
        for _ in keys:
            judge.steps.release()
        await answered(hungry, len(keys) - 3)
    assert [key for key in judge.started if key != "b"] == keys
