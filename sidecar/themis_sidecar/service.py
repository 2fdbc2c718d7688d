"""JudgeService: each method checks its call, has its items judged, and writes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc

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
from themis_judge.judge import Judge
from themis_judge.validation import check_options
from themis_judge.version import JudgeVersion
from themis_proto.v1 import judge_pb2 as pb
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar import batch, convert
from themis_sidecar.admission import Admission
from themis_sidecar.batch import Job
from themis_sidecar.calls import CallRecords
from themis_sidecar.config import LimitsConfig
from themis_sidecar.errors import CallerGone, CallTimeout, InvalidCall, Overloaded, Unavailable, UnknownVersion
from themis_sidecar.gate import Gate
from themis_sidecar.stream import ScoreStream

MAX_QUOTED_CHARACTERS = 80
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
    """The contract's methods over one judge. Errors of a call are raised as CallError, for the interceptor."""

    def __init__(
        self,
        judge: Judge,
        limits: LimitsConfig,
        admission: Admission,
        gate: Gate,
        records: CallRecords,
        software_version: str,
    ) -> None:
        self._judge = judge
        self._limits = limits
        self._admission = admission
        self._gate = gate
        self._records = records
        self._software_version = software_version

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        with self._gate.call():
            version = self._resolve(request.options.version, "options.version")
            options = _read_score_options(request.options)
            deadline = self._deadline(context)

            def read(item: pb.Item) -> Job[Result]:
                return self._score_job(item, options, deadline)

            results = await self._run("items", request.items, read, Result, deadline)
            written = [
                convert.write_result(item, f"items[{index}]", result, version)
                for index, (item, result) in enumerate(zip(request.items, results, strict=True))
            ]
            return pb.ScoreResponse(results=written)

    # The generated type knows only generators; a coroutine that writes is cancelled inside its own code for certain.
    async def StreamScores(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.StreamScoresRequest], context: Context
    ) -> None:
        with self._gate.call():
            deadline = self._deadline(context)
            first = await _first_message(request_iterator, deadline)
            version = self._resolve(first.version, "options.version")
            options = _read_score_options(first)
            record = self._records.current

            async def answer(item: pb.StreamItem, where: str, result: Result) -> None:
                record.items += 1
                record.answered(result)
                written = convert.write_result(item.item, where, result, version)
                await _write(context, pb.StreamScoresResponse(result=pb.StreamResult(id=item.id, result=written)))

            window = self._limits.stream_window
            await _write(context, pb.StreamScoresResponse(opened=pb.StreamOpened(window=window, version=version.id)))
            await ScoreStream(
                read=lambda item, until: self._score_job(item, options, until),
                answer=answer,
                admission=self._admission.of(record.caller.name),
                gate=self._gate,
                deadline=deadline,
                window=window,
                max_item_bytes=self._limits.max_item_bytes,
            ).run(request_iterator)

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        with self._gate.call():
            version = self._resolve(request.options.version, "options.version")
            orders, policy = _read_compare_options(request.options)
            return_prompt = request.options.return_prompt
            deadline = self._deadline(context)

            def read(item: pb.Comparison) -> Job[CompareResult]:
                comparison = convert.read_comparison(item)
                return Job(
                    self._judge.cost(comparison),
                    lambda: self._judge.compare_one(comparison, orders, policy, return_prompt, deadline),
                )

            results = await self._run("comparisons", request.comparisons, read, CompareResult, deadline)
            written = [
                convert.write_comparison(item, f"comparisons[{index}]", result, version)
                for index, (item, result) in enumerate(zip(request.comparisons, results, strict=True))
            ]
            return pb.CompareResponse(results=written)

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        with self._gate.call():
            version = self._resolve(request.version, "version")
            deadline = self._deadline(context)

            def read(item: pb.Conversation) -> Job[Classification]:
                messages = convert.read_messages(item.messages, "messages")
                return Job(self._judge.cost(messages), lambda: self._judge.classify_one(messages, deadline))

            results = await self._run("conversations", request.conversations, read, Classification, deadline)
            written = [
                convert.write_classification(item, f"conversations[{index}]", result, version, self._judge.scenarios)
                for index, (item, result) in enumerate(zip(request.conversations, results, strict=True))
            ]
            return pb.ClassifyResponse(results=written)

    async def Difficulty(self, request: pb.DifficultyRequest, context: Context) -> pb.DifficultyResponse:
        with self._gate.call():
            version = self._resolve(request.version, "version")
            return_tokens = request.return_tokens
            deadline = self._deadline(context)

            def read(item: pb.DifficultyItem) -> Job[Difficulty]:
                prompt, answer = convert.read_difficulty_prompt(item), item.answer
                answer_tokens = self._judge.cost((Message.of("assistant", answer),))
                return Job(
                    self._judge.cost(prompt) + 2 * answer_tokens,  # after the prompt, and alone
                    lambda: self._judge.difficulty_one(prompt, answer, return_tokens, deadline),
                )

            results = await self._run("items", request.items, read, Difficulty, deadline)
            written = [
                convert.write_difficulty(item, f"items[{index}]", result, version)
                for index, (item, result) in enumerate(zip(request.items, results, strict=True))
            ]
            return pb.DifficultyResponse(results=written)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        with self._gate.call():
            version = self._judge.version
            return pb.DescribeResponse(
                current=version.id,
                versions=[convert.write_version(version)],
                scenarios=[convert.write_scenario(scenario) for scenario in self._judge.scenarios.values()],
                limits=convert.write_limits(self._limits),
                software_version=self._software_version,
            )

    def _score_job(self, item: pb.Item, options: Options, deadline: Deadline) -> Job[Result]:
        read = convert.read_item(item)
        return Job(self._judge.cost(read, options), lambda: self._judge.score_one(read, options, deadline))

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

    def _resolve(self, asked: str, field: str) -> JudgeVersion:
        current = self._judge.version
        if asked and asked != current.id:
            raise UnknownVersion(
                f"{field}: no version {asked[:MAX_QUOTED_CHARACTERS]!r} here; the current one is {current.id!r}"
            )
        self._records.current.version = current.id
        return current

    def _deadline(self, context: Context) -> Deadline:
        """The caller's, a little early, and never later than the server's."""
        remaining_s: float | None = context.time_remaining()
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
