"""Batches over real gRPC: what is sent, and that results stand in the order of their items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any

import grpc
import pytest

from tests.unit.client.clocks import Clock, until
from tests.unit.client.judge_double import Abort, JudgeDouble, failed, judged, serving
from themis_client import (
    AsyncClient,
    ClientClosed,
    Compared,
    CompareOptions,
    Comparison,
    Conversation,
    CriteriaMode,
    CritiqueMode,
    DifficultyItem,
    Failure,
    Item,
    Mode,
    Orders,
    ProtocolError,
    RatingMode,
    ReasoningMode,
    ReasoningPolicy,
    Score,
    ScoreOptions,
    Status,
    Truncation,
    UnknownVersion,
    decode,
)
from themis_client.batches import BatchLimits, Job, cut
from themis_client.description import Limits
from themis_proto.v1 import judge_pb2 as pb

FOREVER_S = 1e6


def numbered(count: int) -> list[Item]:
    return [Item(f"question {i % 7}", str(i / 1000), key=str(i)) for i in range(count)]


async def test_results_stand_in_order_whatever_the_split() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=10))
    async with serving(judge) as address, AsyncClient(address) as client:
        scores = await client.score(numbered(95))
    assert [float(score) for score in scores.raise_if_failed()] == [i / 1000 for i in range(95)]
    assert [score.key for score in scores.ok] == [str(i) for i in range(95)]
    sizes = [len(call.request.items) for call in judge.calls("Score")]
    assert sum(sizes) == 95
    assert max(sizes) == 10
    assert len(sizes) == 10


async def test_conversations_stay_together() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=16))
    async with serving(judge) as address, AsyncClient(address) as client:
        await client.score(numbered(28))
    batches = [{item.messages[0].parts[0].text for item in call.request.items} for call in judge.calls("Score")]
    assert not any(one & other for one, other in combinations(batches, 2))


@pytest.mark.parametrize(("most", "sizes"), [(None, [64, 36]), (50, [50, 50])])
async def test_batches_of_a_server_that_names_no_limit(most: int | None, sizes: list[int]) -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address, batch_items=most) as client:
        await client.score([Item("q", "0.5") for _ in range(100)])
    assert sorted((len(call.request.items) for call in judge.calls("Score")), reverse=True) == sizes


def test_batches_are_cut_by_bytes() -> None:
    jobs = [Job(i, None, b"", size) for i, size in enumerate([40, 40, 40, 90, 10])]
    parts = cut(jobs, BatchLimits(items=10, bytes=100, item_bytes=92))
    assert [[job.index for job in part] for part in parts] == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), BatchLimits(64, 10_000_000 - 65536, 10_000_000 - 65536 - 8)),
        (Limits(max_items=3, max_message_bytes=800, max_item_bytes=100), BatchLimits(3, 700, 100)),
        (Limits(max_message_bytes=10**9), BatchLimits(64, 10_000_000 - 65536, 10_000_000 - 65536 - 8)),
    ],
)
def test_limits(limits: Limits, expected: BatchLimits) -> None:
    assert BatchLimits.of(limits, 64, None, 10_000_000) == expected


async def test_calls_are_concurrent_and_bounded() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=1))
    async with serving(judge) as address, AsyncClient(address) as client:
        judge.answering.clear()
        scoring = asyncio.create_task(client.score(numbered(30)))
        await until(lambda: judge.in_flight == 8)
        judge.answering.set()
        assert len((await scoring).raise_if_failed()) == 30
    assert judge.most_in_flight == 8


async def test_no_items_no_call() -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address) as client:
        assert await client.score([]) == []
        assert await client.compare(iter(())) == []
        assert await client.classify([]) == []
        assert await client.difficulty([]) == []
    assert judge.seen == []


async def test_every_call_has_a_deadline_and_the_token() -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address, timeout_s=50.0, token="secret") as client:
        await client.score([Item("q", "0.5")])
        await client.compare([Comparison("q", "0.5", "0.25")], timeout_s=20.0)
        assert [score.ok async for _, score in client.stream([Item("q", "0.5")])] == [True]
    remaining_s = {call.method: call.time_remaining_s for call in judge.seen}
    assert remaining_s.keys() == {"Describe", "Score", "Compare", "StreamScores", "item"}
    assert all(one is not None and 0 < one <= 51.0 for one in remaining_s.values())
    assert (remaining_s["Compare"] or FOREVER_S) <= 21.0
    assert {call.metadata["authorization"] for call in judge.seen} == {"Bearer secret"}


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
async def test_a_deadline_is_above_zero(timeout_s: float) -> None:
    async with AsyncClient("localhost:1") as client:
        with pytest.raises(ValueError, match="timeout_s must be above 0"):
            await client.score([Item("q", "0.5")], timeout_s=timeout_s)


async def test_a_bad_item_fails_alone() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_item_bytes=200))
    items: list[Any] = [
        Item("q", "0.1"),
        Item("q", "\udc00", key="half", group="g"),
        {"messages": "q", "response": "0.3", "refrence": "x", "key": "typo"},
        Item("q" * 300, "0.4", key="huge"),
        {"messages": [{"role": "user", "content": "q"}], "response": "0.5"},
    ]
    async with serving(judge) as address, AsyncClient(address) as client:
        scores = await client.score(items)
    assert [isinstance(result, Score) for result in scores] == [True, False, False, False, True]
    half, typo, huge = scores.failed
    assert (half.status, half.field, half.key, half.group) == (
        Status.INVALID,
        "items[1].response.messages[0].parts[0].text",
        "half",
        "g",
    )
    assert (typo.status, typo.field, typo.key) == (Status.INVALID, "items[2].refrence", "typo")
    assert (huge.status, huge.field, huge.key) == (Status.INVALID, "items[3]", "huge")
    assert "one item may have 200" in huge.error
    assert not any(failure.retryable for failure in scores.failed)


async def test_nothing_but_bad_items_is_no_error() -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address) as client:
        assert len((await client.score([Item("q", "\udc00")])).failed) == 1
    assert judge.calls("Score") == []


async def test_fields_are_counted_from_the_callers_first_item() -> None:
    def result(item: pb.Item, version: str, _: int) -> pb.Result:
        bad = item.key == "3"
        return failed(item, version, pb.ITEM_STATUS_INVALID, "items[0].response") if bad else judged(item, version)

    judge = JudgeDouble(limits=pb.Limits(max_items=1), result=result)
    async with serving(judge) as address, AsyncClient(address) as client:
        (failure,) = (await client.score(numbered(5))).failed
    assert failure.field == "items[3].response"
    assert failure.error == "items[3].response: it went wrong"


async def test_a_missing_result_is_an_error() -> None:
    judge = JudgeDouble(drop_last_result=True)
    async with serving(judge) as address, AsyncClient(address) as client:
        with pytest.raises(ProtocolError, match="2 items in items, 1 out"):
            await client.score(numbered(2))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (pb.Result(status=pb.ITEM_STATUS_OK, version="v1"), "OK and has no verdict"),
        (pb.Result(status=pb.ITEM_STATUS_OK, version="v1", verdict=pb.Verdict(score=float("nan"))), "nan for a number"),
        (pb.Result(status=pb.ITEM_STATUS_OK, version="v2", verdict=pb.Verdict()), "judged with 'v2', not with 'v1'"),
    ],
)
async def test_an_answer_that_breaks_the_contract_is_no_score(answer: pb.Result, told: str) -> None:
    async with serving(JudgeDouble(result=lambda *_: answer)) as address, AsyncClient(address) as client:
        with pytest.raises(ProtocolError, match=told):
            await client.score([Item("q", "0.5")])


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (decode.compared, pb.CompareResult(status=pb.ITEM_STATUS_OK)),
        (decode.classified, pb.ClassifyResult(status=pb.ITEM_STATUS_OK)),
        (decode.difficulty, pb.DifficultyResult(status=pb.ITEM_STATUS_OK, conditional=0.0)),
    ],
)
def test_no_kind_of_result_is_ok_without_its_values(read: Callable[[Any, str], object], answer: object) -> None:
    with pytest.raises(ProtocolError, match="at is OK and has no"):
        read(answer, "at")


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (decode.compared, pb.CompareResult(status=pb.ITEM_STATUS_UNAVAILABLE, scenario="math")),
        (decode.classified, pb.ClassifyResult(status=pb.ITEM_STATUS_UNAVAILABLE)),
        (decode.difficulty, pb.DifficultyResult(status=pb.ITEM_STATUS_UNAVAILABLE)),
    ],
)
def test_every_kind_of_result_may_fail(read: Callable[[Any, str], object], answer: object) -> None:
    found = read(answer, "at")
    assert isinstance(found, Failure)
    assert found.error == "the server gave no reason (status 7)"


async def test_statuses_from_the_future_are_failures() -> None:
    answer = pb.Result(status=77, error="new", version="v1", verdict=pb.Verdict(score=1.0))  # type: ignore[arg-type]
    async with serving(JudgeDouble(result=lambda *_: answer)) as address, AsyncClient(address) as client:
        (found,) = await client.score([Item("q", "0.5")])
    assert isinstance(found, Failure)
    assert found.status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (RatingMode(), "rating"),
        (CritiqueMode(max_points=2), "critique"),
        (ReasoningMode(samples=3, seed=0), "reasoning"),
        (CriteriaMode(), "criteria"),
    ],
)
async def test_options_arrive(mode: Mode, name: str) -> None:
    judge = JudgeDouble()
    options = ScoreOptions(mode, None, Truncation.RESPONSE_END, ReasoningPolicy.APART, return_prompt=True)
    async with serving(judge) as address, AsyncClient(address) as client:
        await client.score([Item("q", "0.5")], options=options)
    sent = judge.calls("Score")[0].request.options
    assert sent.WhichOneof("mode") == name
    assert (sent.critique.max_points, sent.reasoning.samples) == (2 * (name == "critique"), 3 * (name == "reasoning"))
    assert sent.reasoning.HasField("seed") == (name == "reasoning")
    assert sent.truncation == pb.TRUNCATION_POLICY_RESPONSE_END
    assert sent.reasoning_policy == pb.REASONING_POLICY_APART
    assert sent.return_prompt


async def test_the_version_is_resolved_once_and_pinned() -> None:
    judge = JudgeDouble(versions=("v1", "v2"))
    async with serving(judge) as address, AsyncClient(address) as client:
        first = await asyncio.gather(*(client.score([Item("q", "0.5")]) for _ in range(3)))
        judge.current = "v2"
        second = await client.score([Item("q", "0.5")], options=ScoreOptions(version="current"))
        explicit = await client.score([Item("q", "0.5")], options=ScoreOptions(version="v2"))
        assert client.version == "v1"
        assert len(judge.calls("Describe")) == 1
        assert await client.refresh_version() == client.version == "v2"
        third = await client.score([Item("q", "0.5")])
    versions = [score.version for scores in (*first, second, explicit, third) for score in scores.raise_if_failed()]
    assert versions == ["v1", "v1", "v1", "v1", "v2", "v2"]


async def test_a_version_given_to_the_client() -> None:
    judge = JudgeDouble(versions=("v1", "v2"))
    async with serving(judge) as address, AsyncClient(address, version="v2") as client:
        assert client.version == "v2"
        (score,) = (await client.score([Item("q", "0.5")])).raise_if_failed()
    assert score.version == "v2"


async def test_a_version_that_nobody_has() -> None:
    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        with pytest.raises(UnknownVersion, match="no replica has version 'v9'"):
            await client.score([Item("q", "0.5")], options=ScoreOptions(version="v9"))


async def test_a_server_without_a_current_version() -> None:
    judge = JudgeDouble(current="")
    async with serving(judge) as address, AsyncClient(address) as client:
        with pytest.raises(UnknownVersion, match="no current version"):
            await client.score([Item("q", "0.5")])
        assert (await client.score([Item("q", "0.5")], options=ScoreOptions(version="v1"))).ok


async def test_a_score_has_all_that_the_server_said() -> None:
    async with serving(JudgeDouble()) as address, AsyncClient(address) as client:
        (score,) = (await client.score([Item("q", "0.5", key="k", group="g")])).raise_if_failed()
    assert (score.key, score.group, score.version, score.template_digest) == ("k", "g", "v1", "t1")
    assert (score.expected_rating, score.rating, score.label_mass, score.entropy) == (3.0, 3, 0.9, 0.0)
    assert [one.probability for one in score.probabilities] == [0, 0, 1, 0, 0]
    assert (score.tokens.prompt, score.tokens.cached, score.timings.computed_s) == (10, 4, 0.2)
    assert (score.critique, score.scenario_probability, score.prompt) == (None, None, None)


async def test_compare() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=2))
    pairs = [Comparison("q", "0.25", "0.5", key=str(i)) for i in range(5)]
    async with serving(judge) as address, AsyncClient(address) as client:
        found = await client.compare([*pairs, Comparison("q", "\ud800", "b")], options=CompareOptions(Orders.A_FIRST))
    assert [one.key for one in found.ok] == list("01234")
    assert {(one.preference, one.margin, one.order_disagreement) for one in found.ok} == {("B", -0.25, 0.1)}
    assert found.failed[0].field == "comparisons[5].response_a.messages[0].parts[0].text"
    assert judge.calls("Compare")[0].request.options.orders == pb.COMPARE_ORDERS_A_FIRST
    assert isinstance(found[0], Compared)


async def test_classify_and_difficulty() -> None:
    judge = JudgeDouble()
    async with serving(judge) as address, AsyncClient(address) as client:
        classified = await client.classify([Conversation("q", key="k"), {"messages": "r"}, {"message": "r"}])
        answers = [DifficultyItem(Item("q", "a"), "abc"), DifficultyItem(Conversation("q"), "\ud800", key="k")]
        difficult = await client.difficulty(answers, return_tokens=True)
    assert [(one.scenario, one.key) for one in classified.ok] == [("math", "k"), ("math", "")]
    assert classified.failed[0].field == "conversations[2].message"
    assert [(one.conditional, one.unconditional, one.answer_tokens) for one in difficult.ok] == [(-1.0, -2.0, 3)]
    assert (difficult.failed[0].field, difficult.failed[0].key) == ("items[1].answer", "k")
    assert judge.calls("Difficulty")[0].request.return_tokens


async def test_cancelling_reaches_the_server_and_frees_the_replica() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=1))
    async with serving(judge) as address, AsyncClient(address) as client:
        judge.answering.clear()
        scoring = asyncio.create_task(client.score(numbered(30)))
        await until(lambda: judge.in_flight == 8)
        scoring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scoring
        await until(lambda: judge.in_flight == 0)
        judge.answering.set()
        assert len((await client.score(numbered(3))).ok) == 3


async def test_one_refusal_ends_the_whole_call() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=1), aborts=[Abort(grpc.StatusCode.INVALID_ARGUMENT, "samples")])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        with pytest.raises(Exception, match="samples"):
            await client.score(numbered(20))


async def test_a_closed_client() -> None:
    async with serving(JudgeDouble()) as address:
        client = AsyncClient(address)
        await client.score([Item("q", "0.5")])
        await client.close()
        with pytest.raises(ClientClosed):
            await client.score([Item("q", "0.5")])
