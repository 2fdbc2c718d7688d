"""A judge that does what an item's key says, and a server around it in this process."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]

from themis_judge.engines.base import NO_DEADLINE, Deadline, Engine, EngineInfo, Usage
from themis_judge.items import (
    Classification,
    CompareResult,
    Comparison,
    Difficulty,
    Distribution,
    Item,
    Message,
    Options,
    Orders,
    Preference,
    ReasoningPolicy,
    Result,
    Status,
    TokenLikelihood,
    Verdict,
)
from themis_judge.judge import Judge
from themis_judge.scenarios import load_scenarios
from themis_judge.version import JudgeVersion
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import EngineConfig, LimitsConfig, ListenConfig, LogConfig, ServerConfig
from themis_sidecar.logs import Logger, make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

VERSION = "fake-0123456789ab"
USAGE = Usage(prompt_tokens=40, cached_tokens=10, completion_tokens=2, queued_s=0.5, computed_s=0.25)


class FakeEngine:
    """Nothing but a state; the judge around it never asks it anything."""

    info = EngineInfo(name="fake", model="fake", context_tokens=100)
    tokenizer = None

    def __init__(self) -> None:
        self.failure: str | None = None
        self.failed = asyncio.Event()
        self.unloaded = False

    def fail(self, reason: str) -> None:
        self.failure = reason
        self.failed.set()


class FakeJudge(Judge):
    """Keys that begin with "hold" wait for `released`, with "raise" meet a bug, with "drop" get cancelled by the
    judge itself; "after hold" is answered once "hold" is at work; with "invalid", "overloaded" and "unavailable" they
    get that status; all others are rated."""

    def __init__(self) -> None:
        self.fake_engine = FakeEngine()
        self.engine: Engine = self.fake_engine  # type: ignore[assignment]
        self.scenarios = load_scenarios()
        self.released = asyncio.Event()
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.deadlines: list[Deadline] = []
        self.options: list[Options | None] = []
        self.tokens = 10
        self.load_blocked: asyncio.Event | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def version(self) -> JudgeVersion:
        return JudgeVersion(
            id=VERSION,
            base_model="fake",
            engine="fake",
            weights_digest="w" * 64,
            template_digest="t" * 64,
            data_order="cached",
            verdict_order="rating_first",
            label_mass_threshold=0.5,
            context_tokens=100,
            dtype="float32",
            reference_scenarios=("math",),
        )

    async def load(self) -> None:
        if self.load_blocked is not None:
            await self.load_blocked.wait()

    async def unload(self) -> None:
        self.fake_engine.unloaded = True

    def cost(self, item: Item | Comparison | tuple[Message, ...], options: Options | None = None) -> int:
        return self.tokens

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as something that happened in here made the condition true."""
        if condition():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, turn))
        await turn

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        self.options.append(options)
        status, error, field = await self._handle(item.key, deadline)
        if status is not Status.OK:
            return Result(status=status, error=error, error_field=field)
        return Result(
            status=Status.OK,
            verdict=Verdict(Distribution((1, 2), (0.25, 0.75), 0.9, 1.75, 2), score=0.75, entropy=0.5),
            scenario="math",
            scenario_probability=0.8,
            usage=USAGE,
            tokenised_s=0.125,
            prompt="shown" if options and options.return_prompt else None,
        )

    async def compare_one(
        self,
        comparison: Comparison,
        orders: Orders = Orders.BOTH,
        reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP,
        return_prompt: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> CompareResult:
        status, error, field = await self._handle(comparison.key, deadline)
        verdict = Preference("B", (0.2, 0.7, 0.1), 0.05 if orders is Orders.BOTH else None, 0.95)
        return CompareResult(
            status=status, error=error, error_field=field, verdict=verdict if status is Status.OK else None
        )

    async def classify_one(self, messages: tuple[Message, ...], deadline: Deadline = NO_DEADLINE) -> Classification:
        await self._handle("", deadline)
        probabilities = (1.0, *[0.0] * (len(self.scenarios) - 1))
        return Classification(Status.OK, scenario=next(iter(self.scenarios)), probabilities=probabilities)

    async def difficulty_one(
        self,
        prompt: Item | tuple[Message, ...],
        answer: str,
        return_tokens: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> Difficulty:
        await self._handle("", deadline)
        if not answer:
            return Difficulty(Status.INVALID, error="answer: is empty", error_field="answer")
        if answer == "bad prompt":
            return Difficulty(Status.INVALID, error="messages[0].role: is bad", error_field="messages[0].role")
        tokens = (TokenLikelihood(0, -1.0, -2.0),) if return_tokens else ()
        return Difficulty(Status.OK, conditional=-1.0, unconditional=-2.0, answer_tokens=1, tokens=tokens)

    async def _handle(self, key: str, deadline: Deadline) -> tuple[Status, str, str]:
        self.deadlines.append(deadline)
        self.started.append(key)
        self._changed()
        try:
            if key.startswith("hold"):
                await self._held()
            if key == "after hold":
                await self.until(lambda: "hold" in self.started)
            if key.startswith("raise"):
                raise ValueError(f"can't read {key}")
            if key.startswith("drop"):
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            self.cancelled.append(key)
            self._changed()
            raise
        if self.engine.failure is not None or key.startswith("unavailable"):
            return Status.UNAVAILABLE, "the engine is gone", ""
        if key.startswith("overloaded"):
            return Status.OVERLOADED, "the engine's queue is full", ""
        if key.startswith("invalid"):
            return Status.INVALID, "messages[0].role: is bad", "messages[0].role"
        return Status.OK, "", ""

    async def _held(self) -> None:
        ends = [asyncio.create_task(event.wait()) for event in (self.released, self.fake_engine.failed)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def _changed(self) -> None:
        for condition, turn in self._waiting:
            if not turn.done() and condition():
                turn.set_result(None)


@dataclass
class Serving:
    """A running server and a channel to it."""

    judge: FakeJudge
    server: Server
    address: str
    channel: grpc.aio.Channel
    stub: judge_pb2_grpc.JudgeServiceAsyncStub
    log: io.StringIO

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def serving(judge: FakeJudge, log_text: bool = False, **limits: Any) -> AsyncIterator[Serving]:
    log = io.StringIO()
    server = make_server(judge, make_logger(LogConfig(log_text=log_text), log), **limits)
    address = await server.start()
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
            stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            yield Serving(judge, server, address, channel, stub, log)
    finally:
        await server.stop()


def make_server(judge: Judge, logger: Logger, **limits: Any) -> Server:
    config, telemetry = make_config(**limits), Telemetry.untraced("1.2.3")
    parts = Fixed.make(judge, config, logger, telemetry)
    parts.supply.admit()
    return Server(parts, config, logger, "1.2.3", telemetry)


def make_config(port: int = 0, **limits: Any) -> ServerConfig:
    limits = {"drain_notice_s": 0, "flush_s": 5, "answer_margin_s": 0} | limits
    return ServerConfig(
        listen=ListenConfig(port=port), engine=EngineConfig(model="fake"), limits=LimitsConfig(**limits)
    )


def item(key: str = "", text: str = "an answer", **fields: Any) -> pb.Item:
    return pb.Item(
        key=key,
        messages=[pb.Message(role="user", parts=[pb.Part(text="a question")])],
        response=pb.Response(messages=[pb.Message(role="assistant", parts=[pb.Part(text=text)])]),
        **fields,
    )


def stream_item(id: str, key: str = "", **fields: Any) -> pb.StreamScoresRequest:
    return pb.StreamScoresRequest(item=pb.StreamItem(id=id, item=item(key or id), **fields))


def statuses(response: pb.ScoreResponse) -> Sequence[str]:
    return [pb.ItemStatus.Name(result.status).removeprefix("ITEM_STATUS_") for result in response.results]


async def first_refusal(stub: Any) -> grpc.aio.AioRpcError:
    """How new calls are refused, as soon as they are."""
    while True:
        outcome: Any = (await asyncio.gather(stub.Describe(pb.DescribeRequest()), return_exceptions=True))[0]
        if isinstance(outcome, grpc.aio.AioRpcError):
            return outcome


def detail(error: grpc.aio.AioRpcError, kind: type[Any]) -> Any:
    """The one detail of an error's google.rpc.Status."""
    status = status_pb2.Status.FromString(trailer(error, "grpc-status-details-bin"))
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    [packed] = status.details
    message = kind()
    assert packed.Unpack(message)
    return message


def trailer(error: grpc.aio.AioRpcError, key: str) -> Any:
    return dict(error.trailing_metadata())[key]
