"""Overload, a failed engine, loading, health and reflection."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection_pb2,
    reflection_pb2_grpc,
)

from tests.integration.sidecar_fakes import FakeJudge, detail, item, make_server, serving, statuses, trailer
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import LogConfig
from themis_sidecar.logs import make_logger
from themis_sidecar.watchdog import ENGINE_FAILED, Watchdog

SERVICE = "themis.v1.JudgeService"


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def health(channel: grpc.aio.Channel, service: str = SERVICE) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name


async def test_overload_is_refused_with_a_hint_and_others_go_on() -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=25) as served:
        first = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold 1"), item("hold 2")])))
        await judge.until(lambda: len(judge.started) == 2)
        error = await refused(served.stub.Score(pb.ScoreRequest(items=[item("a")])))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        delay = detail(error, error_details_pb2.RetryInfo).retry_delay
        pushback_ms = int(trailer(error, "grpc-retry-pushback-ms"))
        assert delay.ToMilliseconds() == pushback_ms
        assert 100 <= pushback_ms <= 60_000
        assert "a" not in judge.started
        judge.released.set()
        assert statuses(await first) == ["OK", "OK"]
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item("a")]))) == ["OK"]


async def test_a_call_beyond_the_whole_budget_is_let_in_alone() -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=25) as served:
        big = pb.ScoreRequest(items=[item(f"hold {number}") for number in range(3)])
        first = asyncio.ensure_future(served.stub.Score(big))
        await judge.until(lambda: len(judge.started) == 3)
        assert (await refused(served.stub.Score(big))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        judge.released.set()
        assert statuses(await first) == ["OK"] * 3


async def test_cancelled_work_leaves_the_budget() -> None:
    judge = FakeJudge()
    async with serving(judge, max_queue_tokens=15) as served:
        call = served.stub.Score(pb.ScoreRequest(items=[item("hold")]))
        await judge.until(lambda: judge.started == ["hold"])
        call.cancel()
        await judge.until(lambda: judge.cancelled == ["hold"])
        assert statuses(await served.stub.Score(pb.ScoreRequest(items=[item("a")]))) == ["OK"]


async def test_too_many_calls_are_refused_with_a_hint_but_health_answers() -> None:
    judge = FakeJudge()
    async with serving(judge, max_calls=1) as served:
        first = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold")])))
        await judge.until(lambda: judge.started == ["hold"])
        error = await refused(served.stub.Describe(pb.DescribeRequest()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.seconds == 1
        assert await health(served.channel) == "SERVING"
        judge.released.set()
        await first


async def test_a_hung_engine_fails_its_callers_turns_health_and_ends_the_process() -> None:
    judge = FakeJudge()
    async with serving(judge) as served:
        exits: list[int] = []
        watchdog = Watchdog(
            lambda: judge.engine.failure,
            served.server.fail,
            exits.append,
            make_logger(LogConfig(), served.log),
            poll_s=0.01,
        )
        watching = asyncio.create_task(watchdog.run())
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        calls = [
            asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item(f"hold {number}")])))
            for number in range(3)
        ]
        await judge.until(lambda: len(judge.started) == 3)
        assert exits == []
        judge.fake_engine.fail("no progress for 120 s")
        for call in calls:
            assert (await refused(call)).code() is grpc.StatusCode.UNAVAILABLE
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await watching
        assert exits == [ENGINE_FAILED] == [70]
    [line] = served.lines("engine_failed")
    assert line["reason"] == "no progress for 120 s"


async def test_callers_are_told_while_the_judge_loads() -> None:
    server = make_server(FakeJudge(), make_logger(LogConfig(), io.StringIO()))
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            assert await health(channel) == await health(channel, "") == "NOT_SERVING"
            error = await refused(stub.Score(pb.ScoreRequest(items=[item()])))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "loading" in (error.details() or "")
            await server.serve()
            assert await health(channel) == await health(channel, "") == "SERVING"
    finally:
        await server.stop()


async def test_drain_cuts_off_what_goes_on_too_long() -> None:
    judge = FakeJudge()
    async with serving(judge, drain_s=0.05) as served:
        call = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold")])))
        await judge.until(lambda: judge.started == ["hold"])
        assert await served.server.drain() is False
        assert (await refused(call)).code() is grpc.StatusCode.UNAVAILABLE
        await judge.until(lambda: judge.cancelled == ["hold"])


async def test_a_port_in_use_is_an_error_at_once() -> None:
    async with serving(FakeJudge()) as served:
        config_port = int(served.address.rpartition(":")[2])
        second = make_server(FakeJudge(), make_logger(LogConfig(), io.StringIO()), port=config_port)
        with pytest.raises(OSError, match=str(config_port)):
            await second.start()


async def test_reflection_lists_the_services() -> None:
    async with serving(FakeJudge()) as served:
        stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        response = await call.read()
        await call.done_writing()
    assert SERVICE in {service.name for service in response.list_services_response.service}
