"""Replicas over one store: in this process around real engines, or as processes of their own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from themis_judge.engines.base import BatchObserver, Engine
from themis_judge.items import Item, Message, Response
from themis_judge.store import DesiredState, Draft, HealthPrompt, JudgeStore, Manifest
from themis_judge.version import JudgeSettings
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc, versions_pb2_grpc
from themis_proto.v1 import versions_pb2 as vpb
from themis_sidecar.config import (
    EngineConfig,
    LimitsConfig,
    ListenConfig,
    LogConfig,
    SecurityConfig,
    ServerConfig,
    StoreConfig,
    TransformersConfig,
    VersionsConfig,
)
from themis_sidecar.engines import build_engine
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import BuildEngine, Followed
from themis_sidecar.versions.triggers import listening

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0
# Random weights put little probability on labels; what matters here is whose rating it is.
ANY_MASS = JudgeSettings(label_mass_threshold=0.0)
TRIAL = Item((Message.of("user", "Why is the sky blue?"),), Response.of("Scattering."), scenario="math")
ENGINE = TransformersConfig(dtype="float32", threads=1)
FLAGS = [
    *("--engine.transformers.dtype", "float32", "--engine.transformers.threads", "1"),
    *("--listen.port", "0", "--limits.drain_notice_s", "0", "--versions.poll_s", "0.2"),
]


def open_store(root: Path) -> JudgeStore:
    return JudgeStore.open(str(root), root.parent / "cache")


def publish(store: JudgeStore, model: Path, name: str = "tiny", **fields: Any) -> Manifest:
    drafted: dict[str, Any] = {"settings": ANY_MASS, "base_model": "random"} | fields
    return store.publish(Draft(name, model, **drafted))


def health(low: float | None = None, high: float | None = None) -> tuple[HealthPrompt, ...]:
    return (HealthPrompt(TRIAL, low, high),)


def state(number: int, current: str, *others: str, previous: str | None = None) -> DesiredState:
    at = "2026-01-01T00:00:00Z"
    return DesiredState(number, current, (current, *others), None, previous, "a test", at, "")


@dataclass
class Replica:
    """A replica in this process and channels to it."""

    parts: Followed
    server: Server
    telemetry: Telemetry
    address: str
    judge: judge_pb2_grpc.JudgeServiceAsyncStub
    versions: versions_pb2_grpc.VersionServiceAsyncStub
    log: io.StringIO
    loading: asyncio.Task[None]

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def ready(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.loading), WITHIN_S)

    async def serving(self, version: str) -> None:
        """Returns when `version` is current here and the state that says so is reached."""

        async def current() -> bool:
            listed = await self.versions.List(vpb.ListRequest())
            desired = listed.fleet.desired.number
            return listed.answering.current == version and listed.answering.applied == desired

        await until(current)


def make_config(
    root: Path,
    name: str,
    engine: TransformersConfig,
    limits: dict[str, Any],
    security: SecurityConfig,
    versions: dict[str, Any],
) -> ServerConfig:
    return ServerConfig(
        listen=ListenConfig(port=0),
        engine=EngineConfig(transformers=engine),
        limits=LimitsConfig(**{"drain_notice_s": 0, "answer_margin_s": 0} | limits),
        security=security,
        store=StoreConfig(url=str(root)),
        versions=VersionsConfig(**{"replica": name, "poll_s": 0.05, "report_s": 0.2} | versions),
    )


@asynccontextmanager
async def replica(
    root: Path,
    name: str = "one",
    limits: dict[str, Any] | None = None,
    engine: TransformersConfig = ENGINE,
    build: BuildEngine = build_engine,
    security: SecurityConfig = SecurityConfig(),  # noqa: B008 - frozen
    **versions: Any,
) -> AsyncIterator[Replica]:
    """A server that follows the store; JudgeService is let in as soon as what is asked for is loaded."""
    config, log = make_config(root, name, engine, limits or {}, security, versions), io.StringIO()
    logger = make_logger(LogConfig(), log)
    telemetry = Telemetry.untraced("1.2.3")
    parts = Followed.make(open_store(root), config, logger, telemetry, build)
    server = Server(parts, config, logger, "1.2.3", telemetry)
    address = await server.start()

    async def load() -> None:
        await parts.supply.load()
        await server.serve()

    loading = asyncio.create_task(load())
    kafka = config.versions.kafka
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            judge: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            managing: Any = versions_pb2_grpc.VersionServiceStub(channel)
            found = Replica(parts, server, telemetry, address, judge, managing, log, loading)
            if kafka.bootstrap_servers:
                with listening(kafka, parts.supply.wake, logger):
                    yield found
            else:
                yield found
    finally:
        loading.cancel()
        await asyncio.wait((loading,))
        await server.stop()
        await parts.supply.unload()


def taking_turns() -> BuildEngine:
    """For replicas that share a process, as they never do elsewhere: transformers can't load two models at a time."""
    turns = asyncio.Lock()

    def build(config: EngineConfig, stuck_after_s: float, observe: BatchObserver) -> Engine:
        engine = build_engine(config, stuck_after_s, observe)
        load = engine.load

        async def load_alone() -> None:
            async with turns:
                await load()

        engine.load = load_alone  # type: ignore[method-assign]
        return engine

    return build


@dataclass
class ReplicaProcess:
    """A replica as its users run it."""

    name: str
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def event(self, name: str) -> dict[str, Any]:
        """The next line of that event."""
        assert self.process.stderr is not None
        while line := await asyncio.wait_for(self.process.stderr.readline(), WITHIN_S):
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == name:
                return self.lines[-1]
        raise AssertionError(f"{self.name} ended without {name}: {self.lines}")

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def replica_process(root: Path, name: str, *arguments: str) -> AsyncIterator[ReplicaProcess]:
    command = [sys.executable, "-m", "themis_sidecar", "--store.url", str(root), "--versions.replica", name]
    started = await asyncio.create_subprocess_exec(
        *command, *FLAGS, *arguments, cwd=ROOT, env=os.environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield ReplicaProcess(name, started)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = WITHIN_S) -> None:
    """Asks again and again; fails when the time is over."""
    end_s = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < end_s, "it did not come true in time"
        await asyncio.sleep(0.02)


def call(count: int = 1, version: str = "", tag: str = "") -> pb.ScoreRequest:
    """Items whose ratings differ between versions."""
    return pb.ScoreRequest(
        options=pb.ScoreOptions(version=version),
        items=[
            pb.Item(
                key=str(index),
                scenario="math",
                messages=[pb.Message(role="user", parts=[pb.Part(text=f"Question {tag} {index}?")])],
                response=pb.Response(messages=[pb.Message(role="assistant", parts=[pb.Part(text=f"It is {index}.")])]),
            )
            for index in range(count)
        ],
    )


def versions_in(results: Sequence[pb.Result]) -> set[str]:
    """Of results that are all OK."""
    assert {result.status for result in results} == {pb.ITEM_STATUS_OK}, [result.error for result in results]
    return {result.version for result in results}


async def refused(calling: Awaitable[Any]) -> grpc.aio.AioRpcError:
    try:
        await calling
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("it was not refused")


def standing(listed: vpb.ListResponse, version: str) -> vpb.ResidentVersion:
    """Of the replica that answers."""
    return next(
        (one for one in listed.answering.residents if one.version == version), vpb.ResidentVersion(version=version)
    )
