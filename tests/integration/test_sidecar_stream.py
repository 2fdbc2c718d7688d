"""Streams of scores: the window, who is answered when, and what ends a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from tests.integration.sidecar_fakes import VERSION, FakeJudge, Serving, detail, first_refusal, serving, stream_item
from themis_proto.v1 import judge_pb2 as pb

OPTIONS = pb.StreamScoresRequest(options=pb.ScoreOptions())


async def opened(served: Serving, options: pb.StreamScoresRequest = OPTIONS) -> tuple[Any, pb.StreamOpened]:
    call = served.stub.StreamScores()
    await call.write(options)
    first: Any = await call.read()
    assert first.WhichOneof("kind") == "opened"
    return call, first.opened


async def next_result(call: Any) -> tuple[str, str]:
    response = await call.read()
    assert response.WhichOneof("kind") == "result"
    status = pb.ItemStatus.Name(response.result.result.status).removeprefix("ITEM_STATUS_")
    return response.result.id, status


async def ends(call: Any) -> grpc.aio.AioRpcError:
    async def read_all() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all()
    return caught.value


async def test_items_are_answered_as_they_finish() -> None:
    judge = FakeJudge()
    async with serving(judge, stream_window=3) as served:
        call, first = await opened(served)
        assert (first.window, first.version) == (3, VERSION)
        await call.write(stream_item("slow", key="hold"))
        await call.write(stream_item("fast", key="a"))
        assert await next_result(call) == ("fast", "OK")
        judge.released.set()
        assert await next_result(call) == ("slow", "OK")
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
    [line] = served.lines("call")
    assert (line["method"], line["code"], line["items"], line["ok"]) == ("StreamScores", "OK", 2, 2)


async def test_no_more_than_the_window_is_read() -> None:
    judge = FakeJudge()
    async with serving(judge, stream_window=2) as served:
        call, _ = await opened(served)
        for number in range(5):
            await call.write(stream_item(f"hold {number}"))
        await call.done_writing()
        await judge.until(lambda: len(judge.started) == 2)
        # Another caller's round trip gives the server every chance to read on.
        await served.stub.Describe(pb.DescribeRequest())
        assert len(judge.started) == 2
        judge.released.set()
        answered = {(await next_result(call))[0] for _ in range(5)}
        assert await call.read() is grpc.aio.EOF
    assert answered == {f"hold {number}" for number in range(5)}


async def test_items_beyond_the_budget_wait_and_unary_callers_are_refused() -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=25) as served:
        call, _ = await opened(served)
        for number in range(4):
            await call.write(stream_item(f"hold {number}"))
        await judge.until(lambda: len(judge.started) == 2)
        await served.stub.Describe(pb.DescribeRequest())
        assert len(judge.started) == 2
        judge.released.set()
        results = [await next_result(call) for _ in range(4)]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert sorted(results) == [(f"hold {number}", "OK") for number in range(4)]


async def test_an_item_that_waits_for_room_until_its_time_is_over() -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=15) as served:
        call, _ = await opened(served)
        await call.write(stream_item("hold"))
        await call.write(stream_item("late", timeout_s=0.05))
        assert await next_result(call) == ("late", "DEADLINE_EXCEEDED")
        assert judge.started == ["hold"]
        judge.released.set()
        assert await next_result(call) == ("hold", "OK")


async def test_an_items_own_time_and_others_go_on() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        call, _ = await opened(served)
        await call.write(stream_item("hold 1"))
        await call.write(stream_item("hold 2", timeout_s=0.05))
        assert await next_result(call) == ("hold 2", "DEADLINE_EXCEEDED")
        assert judge.cancelled == ["hold 2"]
        judge.released.set()
        assert await next_result(call) == ("hold 1", "OK")


async def test_faults_of_items_are_answered_under_their_ids() -> None:
    judge = FakeJudge()
    async with serving(judge, max_item_bytes=1000) as served:
        call, _ = await opened(served)
        big = stream_item("big")
        big.item.item.reference = "x" * 2000
        nothing = stream_item("nothing")
        nothing.item.item.messages[0].parts.add()
        cases = [
            (stream_item("", key="a"), "item.id"),
            (stream_item("zero", timeout_s=0), "item.timeout_s"),
            (stream_item("nan", timeout_s=float("nan")), "item.timeout_s"),
            (big, "item.item"),
            (nothing, "item.item.messages[0].parts[1]"),
            (stream_item("invalid"), "item.item.messages[0].role"),
        ]
        for request, field in cases:
            await call.write(request)
            answer = (await call.read()).result
            assert answer.id == request.item.id
            assert answer.result.status == pb.ITEM_STATUS_INVALID
            assert answer.result.error_field == field
            assert answer.result.error.startswith(f"{field}: ")
        await call.write(stream_item("hold"))
        await judge.until(lambda: "hold" in judge.started)
        await call.write(stream_item("hold"))
        repeated = (await call.read()).result
        assert (repeated.id, repeated.result.error_field) == ("hold", "item.id")
        judge.released.set()
        assert await next_result(call) == ("hold", "OK")
        await call.write(stream_item("hold"))
        assert await next_result(call) == ("hold", "OK")


async def test_a_stream_begins_with_options() -> None:
    async with serving(FakeJudge()) as served:
        call = served.stub.StreamScores()
        await call.write(stream_item("a"))
        error = await ends(call)
        [violation] = detail(error, error_details_pb2.BadRequest).field_violations
        assert violation.field == "options"
        empty = served.stub.StreamScores()
        await empty.done_writing()
        assert (await ends(empty)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_options_come_once() -> None:
    async with serving(FakeJudge()) as served:
        call, _ = await opened(served)
        await call.write(OPTIONS)
        assert (await ends(call)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_bad_options_and_unknown_versions() -> None:
    async with serving(FakeJudge()) as served:
        for options, code in [
            (pb.ScoreOptions(reasoning=pb.ReasoningMode(samples=99)), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.ScoreOptions(version="other"), grpc.StatusCode.NOT_FOUND),
        ]:
            call = served.stub.StreamScores()
            await call.write(pb.StreamScoresRequest(options=options))
            assert (await ends(call)).code() is code


async def test_malformed_bytes_in_a_stream() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        raw: Any = served.channel.stream_stream("/themis.v1.JudgeService/StreamScores")
        call = raw()
        await call.write(OPTIONS.SerializeToString())
        await call.read()
        await call.write(stream_item("hold").SerializeToString())
        await judge.until(lambda: judge.started == ["hold"])
        await call.write(b"\xff\xff")
        assert (await ends(call)).code() is grpc.StatusCode.INVALID_ARGUMENT
        await judge.until(lambda: judge.cancelled == ["hold"])


async def test_a_caller_that_vanishes_stops_its_work_and_nobody_elses() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        staying, _ = await opened(served)
        await staying.write(stream_item("hold other"))
        async with grpc.aio.insecure_channel(served.address) as channel:
            raw: Any = channel.stream_stream("/themis.v1.JudgeService/StreamScores")
            leaving = raw()
            for request in (OPTIONS, stream_item("hold 1"), stream_item("hold 2")):
                await leaving.write(request.SerializeToString())
            await judge.until(lambda: len(judge.started) == 3)
        await judge.until(lambda: sorted(judge.cancelled) == ["hold 1", "hold 2"])
        judge.released.set()
        assert await next_result(staying) == ("hold other", "OK")


async def test_callers_that_leave_while_they_are_answered_are_no_incidents() -> None:
    async with serving(FakeJudge()) as served:
        for answers in range(20):
            call, _ = await opened(served)
            for number in range(20):
                await call.write(stream_item(f"{number}"))
            for _ in range(answers):
                await next_result(call)
            call.cancel()
        while len(streams := [line for line in served.lines("call") if line["method"] == "StreamScores"]) < 20:
            await served.stub.Describe(pb.DescribeRequest())
    assert {line["code"] for line in streams} <= {"CANCELLED", "OK"}
    assert {json.loads(line)["event"] for line in served.log.getvalue().splitlines()} == {"call"}


async def test_a_bug_ends_the_stream_as_internal() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        call, _ = await opened(served)
        await call.write(stream_item("hold"))
        await judge.until(lambda: judge.started == ["hold"])
        await call.write(stream_item("raise"))
        assert (await ends(call)).code() is grpc.StatusCode.INTERNAL
        await judge.until(lambda: judge.cancelled == ["hold"])
    assert len(served.lines("incident")) == 1


async def test_the_servers_longest_call_ends_a_stream_after_its_answers() -> None:
    judge = FakeJudge()
    async with serving(judge, max_deadline_s=0.3) as served:
        call, _ = await opened(served)
        await call.write(stream_item("hold"))
        assert await next_result(call) == ("hold", "DEADLINE_EXCEEDED")
        assert (await ends(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_without_options_does_not_stay_for_ever() -> None:
    async with serving(FakeJudge(), max_deadline_s=0.1) as served:
        assert (await ends(served.stub.StreamScores())).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_drain_answers_what_was_read_and_ends_the_stream() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        call, _ = await opened(served)
        await call.write(stream_item("hold"))
        await judge.until(lambda: judge.started == ["hold"])
        draining = asyncio.create_task(served.server.drain())
        assert (await first_refusal(served.stub)).code() is grpc.StatusCode.UNAVAILABLE
        judge.released.set()
        assert await next_result(call) == ("hold", "OK")
        error = await ends(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "draining" in (error.details() or "")
        assert await draining is True
