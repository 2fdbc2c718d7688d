"""Streams over real gRPC: order, windows, retries, and ends of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from tests.unit.client.clocks import Clock
from tests.unit.client.judge_double import Abort, JudgeDouble, failed, judged, serving
from themis_client import (
    AsyncClient,
    BadRequest,
    DeadlineExceeded,
    Failure,
    Item,
    ProtocolError,
    RetryPolicy,
    Scored,
    ScoreOptions,
    Status,
    UnknownVersion,
)
from themis_client.deadline import Runtime
from themis_proto.v1 import judge_pb2 as pb

Code = grpc.StatusCode


def numbered(count: int) -> list[Item]:
    return [Item(f"question {i % 7}", str(i / 1000), key=str(i)) for i in range(count)]


async def collect(results: AsyncIterator[tuple[int, Scored]]) -> dict[int, Scored]:
    found = [pair async for pair in results]
    assert len({index for index, _ in found}) == len(found)
    return dict(found)


async def test_every_item_is_answered_once_in_any_order() -> None:
    judge = JudgeDouble(limits=pb.Limits(stream_window=4), stream_batch=4)
    order: list[int] = []
    async with serving(judge) as address, AsyncClient(address) as client:
        async for index, score in client.stream(numbered(40)):
            assert float(score) == index / 1000  # type: ignore[arg-type]
            order.append(index)
    assert sorted(order) == list(range(40))
    assert order != sorted(order)


async def test_the_servers_window_is_kept() -> None:
    judge = JudgeDouble(limits=pb.Limits(stream_window=5), stream_batch=5)
    async with serving(judge) as address, AsyncClient(address) as client:
        assert len(await collect(client.stream(numbered(50)))) == 50
    assert judge.most_in_flight == 5


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for item in numbered(100):
            taken += 1
            yield item

    judge = JudgeDouble(limits=pb.Limits(stream_window=4))
    async with serving(judge) as address, AsyncClient(address) as client:
        results = client.stream(items())
        async for _ in results:
            break
        for _ in range(1000):
            await asyncio.sleep(0)
        assert taken <= 5
        await results.aclose()


async def test_items_may_come_from_an_asynchronous_source() -> None:
    async def items() -> AsyncIterator[Item]:
        for item in numbered(10):
            await asyncio.sleep(0)
            yield item

    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        assert len(await collect(client.stream(items()))) == 10


async def test_results_come_while_the_source_waits() -> None:
    answered = asyncio.Event()

    async def items() -> AsyncIterator[Item]:
        yield Item("q", "0.1")
        await answered.wait()
        yield Item("q", "0.2")

    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        async for _ in client.stream(items()):
            answered.set()


async def test_no_items() -> None:
    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        assert await collect(client.stream([])) == {}


async def test_bad_items_fail_alone() -> None:
    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        found = await collect(client.stream([Item("q", "0.1"), Item("q", "\ud800"), {"messages": "q"}]))
    assert found[0].ok
    assert isinstance(found[1], Failure)
    assert isinstance(found[2], Failure)
    assert found[2].field == "items[2].response"


async def test_fields_are_counted_from_the_callers_first_item() -> None:
    def result(item: pb.Item, version: str, _: int) -> pb.Result:
        return failed(item, version, pb.ITEM_STATUS_INVALID, "item.messages[0].role")

    async with serving(JudgeDouble(result=result)) as address, AsyncClient(address) as client:
        found = await collect(client.stream(numbered(2)))
    assert isinstance(found[1], Failure)
    assert found[1].field == "items[1].messages[0].role"


async def test_items_with_a_transient_status_are_sent_again() -> None:
    def result(item: pb.Item, version: str, before: int) -> pb.Result:
        return failed(item, version, pb.ITEM_STATUS_OVERLOADED) if before < 2 else judged(item, version)

    judge = JudgeDouble(result=result)
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        assert all(score.ok for score in (await collect(client.stream(numbered(10)))).values())
    assert set(judge.times.values()) == {3}


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED])
async def test_a_broken_stream_is_opened_again(code: grpc.StatusCode) -> None:
    judge = JudgeDouble(stream_ends=[Abort(code), Abort(code)])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        assert all(score.ok for score in (await collect(client.stream(numbered(10)))).values())
    assert len(judge.calls("StreamScores")) == 3


async def test_attempts_end() -> None:
    judge = JudgeDouble(aborts=[Abort(Code.UNAVAILABLE)] * 9)
    retry = RetryPolicy(attempts=3)
    async with serving(judge) as address, AsyncClient(address, retry=retry, runtime=Clock().runtime) as client:
        (found,) = (await collect(client.stream(numbered(1)))).values()
    assert isinstance(found, Failure)
    assert found.status is Status.UNAVAILABLE
    assert len(judge.calls("StreamScores")) == 3


async def test_wrong_options_end_it() -> None:
    judge = JudgeDouble(aborts=[Abort(Code.INVALID_ARGUMENT, "samples")])
    async with serving(judge) as address, AsyncClient(address) as client:
        with pytest.raises(BadRequest, match="samples"):
            await collect(client.stream(numbered(10)))


async def test_an_unknown_version_ends_it() -> None:
    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        with pytest.raises(UnknownVersion):
            await collect(client.stream(numbered(10), options=ScoreOptions(version="v9")))


async def test_an_answer_from_another_version_ends_it() -> None:
    judge = JudgeDouble(result=lambda item, _version, _before: judged(item, "v2"))
    async with serving(judge) as address, AsyncClient(address) as client:
        with pytest.raises(ProtocolError, match="'v2'"):
            await collect(client.stream(numbered(3)))


async def test_an_error_of_the_source_is_the_callers() -> None:
    def items() -> Iterator[Item]:
        yield Item("q", "0.5")
        raise LookupError("no more rollouts")

    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        with pytest.raises(LookupError, match="no more rollouts"):
            await collect(client.stream(items()))


async def test_time_that_runs_out_while_the_source_waits() -> None:
    async def items() -> AsyncIterator[Item]:
        yield Item("q", "0.5")
        await asyncio.Event().wait()

    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        results = client.stream(items(), timeout_s=0.3)
        index, _ = await anext(results)
        assert index == 0
        with pytest.raises(DeadlineExceeded, match="before its items ended"):
            await anext(results)


async def test_time_that_runs_out_on_the_server() -> None:
    judge = JudgeDouble(stream_batch=99)
    async with serving(judge) as address, AsyncClient(address) as client:
        found = await collect(client.stream(numbered(3), timeout_s=0.3))
    assert {result.status for result in found.values() if isinstance(result, Failure)} == {Status.DEADLINE_EXCEEDED}
    assert len(found) == 3


async def test_each_item_carries_its_own_time_out() -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address) as client:
        await collect(client.stream(numbered(2), item_timeout_s=7.0))
    assert {call.request.timeout_s for call in judge.calls("item")} == {7.0}


async def test_leaving_early_cancels_what_is_under_way() -> None:
    judge = JudgeDouble(stream_batch=2, limits=pb.Limits(stream_window=3))
    async with serving(judge) as address, AsyncClient(address, runtime=Runtime()) as client:
        results = client.stream(numbered(100))
        async with contextlib.aclosing(results):
            async for _ in results:
                break
        assert len((await client.score(numbered(3))).ok) == 3
    assert len(judge.calls("item")) < 20
