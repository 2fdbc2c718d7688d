"""JudgeService: each method checks its call, has its items judged, and writes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message as WireMessage

from themis_judge.engines.base import Deadline
from themis_judge.errors import InvalidItem
from themis_judge.items import (
    Classification,
    CompareResult,
    Difficulty,
    Message,
    Options,
    Orders,
    ReasoningPolicy,
    Result,
    Status,
)
from themis_judge.validation import check_options
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar import batch, convert
from themis_sidecar.batch import Job
from themis_sidecar.config import LimitsConfig
from themis_sidecar.errors import CallerGone, CallTimeout, InvalidCall, Overloaded, Unavailable
from themis_sidecar.gate import Gate
from themis_sidecar.stream import ScoreStream
from themis_sidecar.versions.assembly import Judging
from themis_sidecar.versions.residents import Resident

MARGIN_SHARE = 0.1  # of a short deadline, where the configured margin would leave no time to judge

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class _Outcome(Protocol):
    @property
    def status(self) -> Status: ...
    @property
    def error(self) -> str: ...


Wire = TypeVar("Wire", bound=batch.Keyed)
Outcome = TypeVar("Outcome", bound=_Outcome)
T = TypeVar("T")


class JudgeService(judge_pb2_grpc.JudgeServiceServicer):
    """The contract's methods over the resident judges; a call keeps the one it began with. Errors of a call are raised
    as CallError, for the interceptor."""

    def __init__(
        self,
        judging: Judging,
        limits: LimitsConfig,
        gate: Gate,
        software_version: str,
    ) -> None:
        self._residents = judging.residents
        self._holding = judging.holding
        self._shadow = judging.shadow
        self._limits = limits
        self._admission = judging.admission
        self._gate = gate
        self._records = judging.records
        self._software_version = software_version

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        return await self.score(request, context.time_remaining())

    async def score(self, request: pb.ScoreRequest, remaining_s: float | None) -> pb.ScoreResponse:
        """For whatever edge the call came by; remaining_s: until its caller gives up, None for never."""
        async with self._call(request, request.options.version, "options.version", remaining_s) as judged:
            resident, deadline = judged
            options = _read_score_options(request.options)

            def read(item: pb.Item) -> Job[Result]:
                return self._score_job(resident, item, options, deadline)

            results = await self._run("items", request.items, read, Result, deadline)
            written = [
                convert.write_result(item, f"items[{index}]", result, resident.version)
                for index, (item, result) in enumerate(zip(request.items, results, strict=True))
            ]
            return pb.ScoreResponse(results=written)

    # The generated type knows only generators; a coroutine that writes is cancelled inside its own code for certain.
    async def StreamScores(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.StreamScoresRequest], context: Context
    ) -> None:
        with self._gate.call():
            deadline = self._deadline(context.time_remaining())
            first = await _first_message(request_iterator, deadline)
            await self._holding.wait(first, deadline, self._records.current.caller.name)
            with self._use(first.version, "options.version") as resident:
                await self._stream(resident, _read_score_options(first), request_iterator, context, deadline)

    async def _stream(
        self,
        resident: Resident,
        options: Options,
        requests: AsyncIterator[pb.StreamScoresRequest],
        context: Context,
        deadline: Deadline,
    ) -> None:
        record = self._records.current

        async def answer(item: pb.StreamItem, where: str, result: Result) -> None:
            record.items += 1
            record.answered(result)
            written = convert.write_result(item.item, where, result, resident.version)
            await _write(context, pb.StreamScoresResponse(result=pb.StreamResult(id=item.id, result=written)))

        window = self._limits.stream_window
        await _write(context, pb.StreamScoresResponse(opened=pb.StreamOpened(window=window, version=resident.id)))
        await ScoreStream(
            read=lambda item, until: self._score_job(resident, item, options, until),
            answer=answer,
            admission=self._admission.of(record.caller.name),
            closings=(self._gate, resident),
            deadline=deadline,
            window=window,
            max_item_bytes=self._limits.max_item_bytes,
        ).run(requests)

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        async with self._call(request, request.options.version, "options.version", context.time_remaining()) as (
            resident,
            deadline,
        ):
            orders, policy = _read_compare_options(request.options)
            return_prompt, judge = request.options.return_prompt, resident.judge

            def read(item: pb.Comparison) -> Job[CompareResult]:
                comparison = convert.read_comparison(item)
                return Job(
                    judge.cost(comparison),
                    lambda: judge.compare_one(comparison, orders, policy, return_prompt, deadline),
                )

            results = await self._run("comparisons", request.comparisons, read, CompareResult, deadline)
            written = [
                convert.write_comparison(item, f"comparisons[{index}]", result, resident.version)
                for index, (item, result) in enumerate(zip(request.comparisons, results, strict=True))
            ]
            return pb.CompareResponse(results=written)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        async with self._call(request, request.version, "version", context.time_remaining()) as (resident, deadline):
            judge = resident.judge

            def read(item: pb.Conversation) -> Job[Classification]:
                messages = convert.read_messages(item.messages, "messages")
                return Job(judge.cost(messages), lambda: judge.classify_one(messages, deadline))

            results = await self._run("conversations", request.conversations, read, Classification, deadline)
            written = [
                convert.write_classification(item, f"conversations[{index}]", result, resident.version, judge.scenarios)
                for index, (item, result) in enumerate(zip(request.conversations, results, strict=True))
            ]
            return pb.ClassifyResponse(results=written)

    async def Difficulty(self, request: pb.DifficultyRequest, context: Context) -> pb.DifficultyResponse:
        async with self._call(request, request.version, "version", context.time_remaining()) as (resident, deadline):
            return_tokens, judge = request.return_tokens, resident.judge

            def read(item: pb.DifficultyItem) -> Job[Difficulty]:
                prompt, answer = convert.read_difficulty_prompt(item), item.answer
                answer_tokens = judge.cost((Message.of("assistant", answer),))
                return Job(
                    judge.cost(prompt) + 2 * answer_tokens,  # after the prompt, and alone
                    lambda: judge.difficulty_one(prompt, answer, return_tokens, deadline),
                )

            results = await self._run("items", request.items, read, Difficulty, deadline)
            written = [
                convert.write_difficulty(item, f"items[{index}]", result, resident.version)
                for index, (item, result) in enumerate(zip(request.items, results, strict=True))
            ]
            return pb.DifficultyResponse(results=written)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        async with self._call(request, "", "", context.time_remaining()) as (current, _):
            return pb.DescribeResponse(
                current=current.id,
                versions=[convert.write_version(one.version) for one in self._residents.all if not one.leaving],
                scenarios=[convert.write_scenario(scenario) for scenario in current.judge.scenarios.values()],
                limits=convert.write_limits(self._limits),
                software_version=self._software_version,
            )

    def check_open(self) -> None:
        """For a call that has nothing to judge. Raises Unavailable or Overloaded where no call is let in."""
        with self._gate.call():
            pass

    @asynccontextmanager
    async def _call(
        self, request: WireMessage, asked: str, field: str, remaining_s: float | None
    ) -> AsyncIterator[tuple[Resident, Deadline]]:
        """A call that was let in, with the judge that it keeps to its end, and its deadline."""
        with self._gate.call():
            deadline = self._deadline(remaining_s)
            await self._holding.wait(request, deadline, self._records.current.caller.name)
            with self._use(asked, field) as resident:
                yield resident, deadline

    @contextmanager
    def _use(self, asked: str, field: str) -> Iterator[Resident]:
        with self._residents.use(asked, field) as resident:
            self._records.current.version = resident.id
            yield resident

    def _score_job(self, resident: Resident, item: pb.Item, options: Options, deadline: Deadline) -> Job[Result]:
        read, judge = convert.read_item(item), resident.judge

        async def score() -> Result:
            result = await judge.score_one(read, options, deadline)
            if resident is self._residents.current:
                self._shadow.offer(read, options, result)
            return result

        return Job(judge.cost(read, options), score)

    async def _run(
        self,
        name: str,
        items: Sequence[Wire],
        read: Callable[[Wire], Job[Outcome]],
        failed: batch.Failed[Outcome],
        deadline: Deadline,
    ) -> list[Outcome]:
        """The outcomes of a call's items, which stand in the request's field `name`."""
        self._check_count(name, len(items))
        record = self._records.current
        record.items = len(items)
        prepared = batch.prepare(items, name, read, failed, self._limits.max_item_bytes)
        outcomes = await batch.run(prepared, deadline, self._admission.of(record.caller.name), failed)
        for outcome in outcomes:
            record.answered(outcome)
        self._check_any(outcomes)
        return outcomes

    def _check_count(self, name: str, count: int) -> None:
        limit = self._limits.max_items
        if count == 0:
            raise InvalidCall(name, f"is empty; send 1 to {limit}")
        if count > limit:
            raise InvalidCall(name, f"holds {count}, and a call takes up to {limit}; split it, or use StreamScores")

    def _check_any(self, outcomes: Collection[Outcome]) -> None:
        """Fails a call whose items were all turned away: it can be retried as a whole, and elsewhere."""
        statuses = {outcome.status for outcome in outcomes}
        error = next(iter(outcomes)).error
        if statuses == {Status.UNAVAILABLE}:
            raise Unavailable(error)
        if statuses == {Status.OVERLOADED}:
            raise Overloaded(error, self._admission.retry_after_s())

    def _deadline(self, remaining_s: float | None) -> Deadline:
        """The caller's, a little early, and never later than the server's."""
        if remaining_s is None:
            return Deadline.after(self._limits.max_deadline_s)
        margin_s = min(self._limits.answer_margin_s, remaining_s * MARGIN_SHARE)
        return Deadline.after(min(remaining_s - margin_s, self._limits.max_deadline_s))


async def _write(context: Context, message: pb.StreamScoresResponse) -> None:
    try:
        await context.write(message)
    except grpc.aio.InternalError as error:  # what a write into a closed call ends in, if it comes before the cancel
        raise CallerGone("the caller left") from error


async def _first_message(requests: AsyncIterator[pb.StreamScoresRequest], deadline: Deadline) -> pb.ScoreOptions:
    try:
        first = await asyncio.wait_for(_next(requests), deadline.remaining_s())
    except asyncio.TimeoutError as error:
        raise CallTimeout("the call's time is over, and not even its options came") from error
    if first is None or first.WhichOneof("kind") != "options":
        raise InvalidCall("options", "are missing; the first message of a stream holds them, empty for the defaults")
    return first.options


async def _next(requests: AsyncIterator[T]) -> T | None:
    return await anext(requests, None)


def _read_score_options(options: pb.ScoreOptions) -> Options:
    try:
        read = convert.read_options(options)
        check_options(read)
    except InvalidItem as error:
        raise _bad_options(error) from error
    return read


def _read_compare_options(options: pb.CompareOptions) -> tuple[Orders, ReasoningPolicy]:
    try:
        return convert.read_orders(options.orders), convert.read_reasoning_policy(options.reasoning_policy)
    except InvalidItem as error:
        raise _bad_options(error) from error


def _bad_options(error: InvalidItem) -> InvalidCall:
    return InvalidCall(f"options.{error.field}", error.problem)
