"""The server as a process: signals, exit codes, the ready file, the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.integration.sidecar_fakes import first_refusal, item, statuses
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

ROOT = Path(__file__).parents[2]
CANARY = "canary-93aa"
FAST = ["--limits.drain_notice_s", "0.2", "--limits.flush_s", "5", "--listen.port", "0", "--engine.model", "fake"]
NOBODY = ["--engine.openai.base_url", "http://127.0.0.1:9/v1", "--listen.port", "0"]


@dataclass
class Process:
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def event(self, name: str) -> dict[str, Any]:
        """The next line of that event."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == name:
                return self.lines[-1]
        raise AssertionError(f"ended without {name}: {self.lines}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "tests.integration.sidecar_process", *FAST, *arguments]
    started = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=os.environ | environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Process(started)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


def stub_of(channel: grpc.aio.Channel) -> Any:
    return judge_pb2_grpc.JudgeServiceStub(channel)


async def in_flight(stub: Any) -> asyncio.Future[pb.ScoreResponse]:
    """A call that is held at work."""
    held: asyncio.Future[pb.ScoreResponse] = asyncio.ensure_future(
        stub.Score(pb.ScoreRequest(items=[item("hold", text=CANARY)]))
    )
    await stub.Score(pb.ScoreRequest(items=[item("after hold")]))
    return held


async def test_sigterm_lets_calls_finish_and_turns_new_ones_away(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    async with process("--ready-file", str(ready_file)) as server:
        address = (await server.event("serving"))["address"]
        async with grpc.aio.insecure_channel(address) as channel:
            stub = stub_of(channel)
            held = await in_flight(stub)
            assert ready_file.read_text() == f"{address}\n"
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            server.send(signal.SIGTERM)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert not ready_file.exists()
            error = await first_refusal(stub)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "draining" in (error.details() or "")
            assert not held.done()
            server.send(signal.SIGUSR1)
            assert statuses(await held) == ["OK"]
        stopped = await server.event("stopped")
        assert stopped["calls_cut_off"] is False
        assert await server.process.wait() == 0
    assert CANARY not in json.dumps(server.lines)


async def test_a_second_signal_stops_at_once() -> None:
    async with process() as server:
        address = (await server.event("serving"))["address"]
        async with grpc.aio.insecure_channel(address) as channel:
            held = await in_flight(stub_of(channel))
            server.send(signal.SIGINT)
            await server.event("draining")
            server.send(signal.SIGTERM)
            assert await server.process.wait() == 128 + signal.SIGTERM
            with pytest.raises(grpc.aio.AioRpcError):
                await held


async def test_a_failed_engine_ends_the_process_with_70(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    async with process("--ready-file", str(ready_file)) as server:
        address = (await server.event("serving"))["address"]
        async with grpc.aio.insecure_channel(address) as channel:
            held = await in_flight(stub_of(channel))
            server.send(signal.SIGUSR2)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await held
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            await server.event("engine_failed")
            assert await server.process.wait() == 70
            assert not ready_file.exists()


async def test_a_signal_ends_a_server_that_still_loads() -> None:
    async with process(FAKE_JUDGE="block-load") as server:
        await server.event("loading")
        server.send(signal.SIGTERM)
        assert (await server.event("stopped"))["phase"] == "loading"
        assert await server.process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--limits.max_items"),
        (["--limits.max_itemz", "3"], 2, "max_itemz"),
        (["--engine.model", "x", "--limits.max_items", "0"], 2, "limits.max_items: Input should be greater than 0"),
        ([], 2, "themis-sidecar: engine.model: is needed, or store.url in its place"),
        (["--engine.model", "x", "--store.url", "/nowhere"], 2, "set engine.model or store.url"),
        (["--engine.model", "x", "--config", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (["--engine.model", "x", "--judge.scenario_dirs", "/nowhere"], 1, "/nowhere"),
        (["--engine.kind", "openai", "--engine.model", "x", *NOBODY], 1, "http://127.0.0.1:9/v1"),
    ],
)
async def test_command_line(arguments: list[str], code: int, said: str) -> None:
    started = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "themis_sidecar", *arguments],
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await started.communicate()
    assert started.returncode == code
    assert said in output.decode()
    assert "Traceback" not in output.decode()
