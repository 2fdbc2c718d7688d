"""What an observer is told: every attempt, those included that retries make good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.unit.client.clocks import Clock
from tests.unit.client.judge_double import Abort, JudgeDouble, failed, judged, serving
from themis_client import AsyncClient, Item, Refused, RetryPolicy
from themis_client.attempts import Attempt
from themis_client.failure import Status
from themis_client.results import Scored
from themis_proto.v1 import judge_pb2 as pb

FULL = Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "1500"),))
GONE = Abort(grpc.StatusCode.UNAVAILABLE)
ITEMS = [Item("q", "0.5", key="one"), Item("q", "0.25", key="other")]

Send = Callable[[AsyncClient], Awaitable[list[Scored]]]


async def called(client: AsyncClient) -> list[Scored]:
    return list(await client.score(ITEMS))


async def streamed(client: AsyncClient) -> list[Scored]:
    found = {index: result async for index, result in client.stream(ITEMS)}
    return [found[index] for index in range(len(ITEMS))]


@asynccontextmanager
async def observed(
    judge: JudgeDouble,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
) -> AsyncIterator[tuple[AsyncClient, list[Attempt], str]]:
    seen: list[Attempt] = []
    async with serving(judge) as address:
        client = AsyncClient(address, runtime=Clock().runtime, retry=retry, observe=seen.append)
        async with client:
            yield client, seen, address


async def test_a_refused_call_and_its_hint() -> None:
    async with observed(JudgeDouble(aborts=[FULL, GONE])) as (client, seen, address):
        assert all(result.ok for result in await called(client))
    assert seen == [
        Attempt(address, (Status.OVERLOADED,) * 2, 1.5),
        Attempt(address, (Status.UNAVAILABLE,) * 2),
        Attempt(address, (Status.OK,) * 2),
    ]


async def test_items_that_are_sent_again_by_themselves() -> None:
    def result(item: pb.Item, version: str, before: int) -> pb.Result:
        refused = item.key == "other" and before == 0
        return failed(item, version, pb.ITEM_STATUS_OVERLOADED) if refused else judged(item, version)

    async with observed(JudgeDouble(result=result)) as (client, seen, address):
        assert all(result.ok for result in await called(client))
    assert seen == [Attempt(address, (Status.OK, Status.OVERLOADED)), Attempt(address, (Status.OK,))]


async def test_a_stream_item_by_item() -> None:
    def result(item: pb.Item, version: str, before: int) -> pb.Result:
        refused = item.key == "other" and before == 0
        return failed(item, version, pb.ITEM_STATUS_ENGINE_ERROR) if refused else judged(item, version)

    async with observed(JudgeDouble(result=result)) as (client, seen, address):
        assert all(result.ok for result in await streamed(client))
    assert sorted(seen, key=lambda attempt: attempt.statuses[0].value) == [
        Attempt(address, (Status.OK,)),
        Attempt(address, (Status.OK,)),
        Attempt(address, (Status.ENGINE_ERROR,)),
    ]


async def test_a_stream_that_is_refused() -> None:
    async with observed(JudgeDouble(aborts=[FULL])) as (client, seen, address):
        assert all(result.ok for result in await streamed(client))
    assert seen.count(Attempt(address, (Status.OVERLOADED,), 1.5)) == 2
    assert seen.count(Attempt(address, (Status.OK,))) == 2


@pytest.mark.parametrize("send", [called, streamed])
async def test_an_error_that_is_about_no_item(send: Send) -> None:
    judge = JudgeDouble(aborts=[Abort(grpc.StatusCode.PERMISSION_DENIED)])
    async with observed(judge) as (client, seen, _):
        with pytest.raises(Refused):
            await send(client)
    assert {status for attempt in seen for status in attempt.statuses} == {Status.UNKNOWN}
