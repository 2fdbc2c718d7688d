"""A judge that answers at once: real gRPC around a few lines of arithmetic. A response's text is its score."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc

SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"


def text_of(response: pb.Response) -> str:
    return response.messages[-1].parts[0].text


def verdict(score: float) -> pb.Verdict:
    low = int(1 + 4 * score)
    ratings = [pb.RatingProbability(rating=rating, probability=float(rating == low)) for rating in range(1, 6)]
    return pb.Verdict(
        expected_rating=1 + 4 * score, rating=low, score=score, probabilities=ratings, label_mass=0.9, entropy=0.0
    )


def judged(item: pb.Item, version: str) -> pb.Result:
    return pb.Result(
        key=item.key,
        group=item.group,
        status=pb.ITEM_STATUS_OK,
        verdict=verdict(float(text_of(item.response))),
        scenario=item.scenario or "open_qa",
        version=version,
        template_digest="t1",
        tokens=pb.TokenCounts(prompt=10, cached=4),
        timings=pb.Timings(queued_s=0.1, computed_s=0.2),
    )


def failed(item: pb.Item, version: str, status: pb.ItemStatus.ValueType, field: str = "") -> pb.Result:
    error = f"{field}: it went wrong" if field else "it went wrong"
    return pb.Result(key=item.key, group=item.group, status=status, version=version, error=error, error_field=field)


@dataclass(frozen=True, slots=True)
class Abort:
    """A call that fails as a whole."""

    code: grpc.StatusCode
    details: str = "no"
    trailing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as the server saw it."""

    method: str
    request: Any
    time_remaining_s: float | None
    metadata: dict[str, Any]


@dataclass
class JudgeDouble(judge_pb2_grpc.JudgeServiceServicer):
    """aborts: what the next calls (Describe excepted) fail with, in order. result: one item's answer, given how often
    it was seen before. versions: those it holds. stream_batch: items that a stream holds before it answers them.
    stream_ends: what streams fail with after one more item."""

    versions: tuple[str, ...] = ("v1",)
    current: str = "v1"
    limits: pb.Limits = field(default_factory=pb.Limits)
    aborts: list[Abort] = field(default_factory=list)
    describe_aborts: list[Abort] = field(default_factory=list)
    result: Callable[[pb.Item, str, int], pb.Result] = lambda item, version, _: judged(item, version)
    health: bytes = SERVING
    drop_last_result: bool = False
    stream_batch: int = 1
    stream_ends: list[Abort] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Seen] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self.answering.set()

    def calls(self, method: str) -> list[Seen]:
        return [call for call in self.seen if call.method == method]

    def _see(self, method: str, request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.seen.append(Seen(method, request, context.time_remaining(), metadata))

    async def _enter(self, method: str, request: Any, version: str, context: Any) -> None:
        self._see(method, request, context)
        if self.aborts:
            abort = self.aborts.pop(0)
            await context.abort(abort.code, abort.details, abort.trailing)
        if version not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no version {version}")
        await self.answering.wait()

    def _judge(self, item: pb.Item, options: pb.ScoreOptions) -> pb.Result:
        name = item.key or text_of(item.response)
        self.times[name] += 1
        result = self.result(item, options.version, self.times[name] - 1)
        if options.return_prompt:
            result.prompt = "the prompt"
        return result

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        self._see("Describe", request, context)
        if self.describe_aborts:
            abort = self.describe_aborts.pop(0)
            await context.abort(abort.code, abort.details, abort.trailing)
        return pb.DescribeResponse(
            current=self.current,
            versions=[pb.Version(id=version, engine="double") for version in self.versions],
            scenarios=[pb.Scenario(id="open_qa", name="Open QA", criteria=[pb.Criterion(text="It is right.")])],
            limits=self.limits,
            software_version="0.0.1",
        )

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._enter("Score", request, request.options.version, context)
        finally:
            self.in_flight -= 1
        results = [self._judge(item, request.options) for item in request.items]
        return pb.ScoreResponse(results=results[:-1] if self.drop_last_result else results)

    async def StreamScores(self, requests: Any, context: Any) -> AsyncIterator[pb.StreamScoresResponse]:
        options = (await anext(requests)).options
        await self._enter("StreamScores", options, options.version, context)
        window = self.limits.stream_window or 8
        yield pb.StreamScoresResponse(opened=pb.StreamOpened(window=window, version=options.version))
        held: list[pb.StreamItem] = []
        async for request in requests:
            self._see("item", request.item, context)
            held.append(request.item)
            self.most_in_flight = max(self.most_in_flight, len(held))
            if len(held) >= self.stream_batch:
                while held:  # the newest first, so that no order is promised
                    yield self._streamed(held.pop(), options)
            if self.stream_ends:
                abort = self.stream_ends.pop(0)
                await context.abort(abort.code, abort.details, abort.trailing)

    def _streamed(self, item: pb.StreamItem, options: pb.ScoreOptions) -> pb.StreamScoresResponse:
        result = pb.StreamResult(id=item.id, result=self._judge(item.item, options))
        return pb.StreamScoresResponse(result=result)

    async def Compare(self, request: pb.CompareRequest, context: Any) -> pb.CompareResponse:
        await self._enter("Compare", request, request.options.version, context)
        return pb.CompareResponse(results=[self._compared(one, request.options) for one in request.comparisons])

    def _compared(self, pair: pb.Comparison, options: pb.CompareOptions) -> pb.CompareResult:
        a, b = float(text_of(pair.response_a)), float(text_of(pair.response_b))
        preference = pb.PREFERENCE_TIE if a == b else pb.PREFERENCE_A if a > b else pb.PREFERENCE_B
        found = pb.PreferenceVerdict(
            preference=preference, probability_a=a, probability_b=b, probability_tie=1 - a - b, order_disagreement=0.1
        )
        return pb.CompareResult(
            key=pair.key, status=pb.ITEM_STATUS_OK, verdict=found, version=options.version, prompts=["one", "two"]
        )

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        await self._enter("Classify", request, request.version, context)
        return pb.ClassifyResponse(
            results=[
                pb.ClassifyResult(
                    key=one.key,
                    status=pb.ITEM_STATUS_OK,
                    scenario="math",
                    probabilities=[pb.ScenarioProbability(scenario="math", probability=1.0)],
                    version=request.version,
                )
                for one in request.conversations
            ]
        )

    async def Difficulty(self, request: pb.DifficultyRequest, context: Any) -> pb.DifficultyResponse:
        await self._enter("Difficulty", request, request.version, context)
        return pb.DifficultyResponse(
            results=[
                pb.DifficultyResult(
                    key=one.key,
                    status=pb.ITEM_STATUS_OK,
                    conditional=-1.0,
                    unconditional=-2.0,
                    answer_tokens=len(one.answer),
                    version=request.version,
                )
                for one in request.items
            ]
        )

    async def Check(self, request: bytes, context: Any) -> bytes:
        self._see("Check", request, context)
        return self.health


@asynccontextmanager
async def serving(judge: JudgeDouble, port: int = 0) -> AsyncIterator[str]:
    """Serves it, and its health; gives its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    judge_pb2_grpc.add_JudgeServiceServicer_to_server(judge, server)
    check: Any = grpc.unary_unary_rpc_method_handler(judge.Check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        judge.answering.set()
        await server.stop(None)
