"""What is tried again, when, and for how long."""

from __future__ import annotations

import random

import grpc
import grpc.aio
import pytest

from tests.unit.client.clocks import Clock
from tests.unit.client.judge_double import Abort, JudgeDouble, failed, judged, serving
from themis_client import (
    AsyncClient,
    BadRequest,
    DeadlineExceeded,
    Failure,
    Item,
    MessageTooLarge,
    Overloaded,
    Refused,
    RetryPolicy,
    Score,
    ServerFailed,
    Status,
    ThemisError,
    Unavailable,
    Unsupported,
)
from themis_client.deadline import Deadline, Runtime
from themis_client.rpc_errors import PUSHBACK_KEY
from themis_proto.v1 import judge_pb2 as pb

Code = grpc.StatusCode
FOREVER_S = 1e6
POLICY = RetryPolicy(attempts=4, base_s=1.0, cap_s=3.0)


def waits(
    policy: RetryPolicy, attempts: int, timeout_s: float = 1000.0, pushback_s: float | None = None
) -> list[float | None]:
    clock = Clock()
    deadline = Deadline.after(timeout_s, clock.runtime)
    return [policy.wait_s(attempt, pushback_s, deadline, clock.runtime) for attempt in range(1, attempts + 1)]


def test_waits_grow_to_the_cap_and_end_with_the_attempts() -> None:
    assert waits(POLICY, 4) == [1.0, 2.0, 3.0, None]


def test_jitter_is_full() -> None:
    clock = Clock()
    POLICY.wait_s(2, None, Deadline.after(100, clock.runtime), clock.runtime)
    assert clock.drawn == [(0.0, 2.0)]


def test_the_servers_hint_is_a_lower_bound() -> None:
    assert waits(POLICY, 2, pushback_s=5.0) == [6.0, 7.0]


def test_a_negative_hint_ends_it() -> None:
    assert waits(POLICY, 1, pushback_s=-0.001) == [None]


def test_no_wait_beyond_the_deadline() -> None:
    assert waits(POLICY, 2, timeout_s=1.5) == [1.0, None]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1.0}, {"base_s": 2.0, "cap_s": 1.0}])
def test_a_policy_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="attempts must be"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.ABORTED])
async def test_transient_codes_are_tried_again(code: grpc.StatusCode) -> None:
    clock = Clock()
    judge = JudgeDouble(aborts=[Abort(code), Abort(code)])
    async with serving(judge) as address, AsyncClient(address, retry=POLICY, runtime=clock.runtime) as client:
        scores = await client.score([Item("q", "0.5")])
    assert float(scores.raise_if_failed()[0]) == 0.5
    assert clock.slept_s == [1.0, 2.0]
    assert len(judge.calls("Score")) == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, BadRequest),
        (Code.PERMISSION_DENIED, Refused),
        (Code.UNAUTHENTICATED, Refused),
        (Code.UNIMPLEMENTED, Unsupported),
        (Code.INTERNAL, ServerFailed),
        (Code.UNKNOWN, ServerFailed),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
    ],
)
async def test_other_codes_are_not(code: grpc.StatusCode, kind: type[ThemisError]) -> None:
    judge = JudgeDouble(aborts=[Abort(code, "because")])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        with pytest.raises(kind, match=f"{address}: {code.name}: because"):
            await client.score([Item("q", "0.5")])
    assert len(judge.calls("Score")) == 1


@pytest.mark.parametrize(("code", "kind"), [(Code.UNAVAILABLE, Unavailable), (Code.RESOURCE_EXHAUSTED, Overloaded)])
async def test_the_last_error_is_raised(code: grpc.StatusCode, kind: type[ThemisError]) -> None:
    judge = JudgeDouble(aborts=[Abort(code)] * 9)
    async with serving(judge) as address, AsyncClient(address, retry=POLICY, runtime=Clock().runtime) as client:
        with pytest.raises(kind):
            await client.score([Item("q", "0.5")])
    assert len(judge.calls("Score")) == POLICY.attempts


@pytest.mark.parametrize(("hint", "slept_s"), [("2500", [3.5]), ("0", [1.0])])
async def test_the_hint_in_trailing_metadata(hint: str, slept_s: list[float]) -> None:
    clock = Clock()
    judge = JudgeDouble(aborts=[Abort(Code.RESOURCE_EXHAUSTED, trailing=((PUSHBACK_KEY, hint),))])
    async with serving(judge) as address, AsyncClient(address, retry=POLICY, runtime=clock.runtime) as client:
        (await client.score([Item("q", "0.5")])).raise_if_failed()
    assert clock.slept_s == slept_s


@pytest.mark.parametrize("hint", ["-1", "soon"])
async def test_a_hint_not_to_come_back(hint: str) -> None:
    judge = JudgeDouble(aborts=[Abort(Code.RESOURCE_EXHAUSTED, trailing=((PUSHBACK_KEY, hint),))])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        with pytest.raises(Overloaded):
            await client.score([Item("q", "0.5")])
    assert len(judge.calls("Score")) == 1


async def test_a_message_that_is_too_large_is_no_overload() -> None:
    told = "SERVER: Received message larger than max (9 vs. 4)"
    judge = JudgeDouble(aborts=[Abort(Code.RESOURCE_EXHAUSTED, told)])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        with pytest.raises(MessageTooLarge):
            await client.score([Item("q", "0.5")])
    assert len(judge.calls("Score")) == 1


@pytest.mark.parametrize("status", [pb.ITEM_STATUS_UNAVAILABLE, pb.ITEM_STATUS_OVERLOADED, pb.ITEM_STATUS_ENGINE_ERROR])
async def test_only_the_failed_items_are_sent_again(status: pb.ItemStatus.ValueType) -> None:
    def result(item: pb.Item, version: str, before: int) -> pb.Result:
        return failed(item, version, status) if item.key in ("b", "d") and before < 2 else judged(item, version)

    judge = JudgeDouble(result=result)
    items = [Item("q", f"0.{i}", key=key) for i, key in enumerate("abcd")]
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        scores = await client.score(items)
    assert [float(score) for score in scores.raise_if_failed()] == [0.0, 0.1, 0.2, 0.3]
    sent = ["".join(item.key for item in call.request.items) for call in judge.calls("Score")]
    assert sent == ["abcd", "bd", "bd"]


@pytest.mark.parametrize(
    "status",
    [
        pb.ITEM_STATUS_INVALID,
        pb.ITEM_STATUS_TOO_LONG,
        pb.ITEM_STATUS_OFF_FORMAT,
        pb.ITEM_STATUS_DEADLINE_EXCEEDED,
        pb.ITEM_STATUS_UNSUPPORTED,
    ],
)
async def test_items_that_no_retry_helps_are_sent_once(status: pb.ItemStatus.ValueType) -> None:
    judge = JudgeDouble(result=lambda item, version, _: failed(item, version, status))
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        (found,) = await client.score([Item("q", "0.5")])
    assert isinstance(found, Failure)
    assert found.status == Status(status)
    assert len(judge.calls("Score")) == 1


async def test_items_keep_their_own_failure_when_the_retry_is_lost() -> None:
    def result(item: pb.Item, version: str, _: int) -> pb.Result:
        judge.aborts.extend([Abort(Code.UNAVAILABLE)] * 9)
        return failed(item, version, pb.ITEM_STATUS_ENGINE_ERROR)

    judge = JudgeDouble(result=result)
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        (found,) = await client.score([Item("q", "0.5")])
    assert isinstance(found, Failure)
    assert found.status is Status.ENGINE_ERROR


async def test_a_lost_batch_fails_its_items_only() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=1))
    judge.aborts = [Abort(Code.INTERNAL)]
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        scores = await client.score([Item("q", "0.1", key="a", group="g"), Item("q", "0.2")])
    lost, kept = sorted(scores, key=lambda result: isinstance(result, Score))
    assert isinstance(lost, Failure)
    assert isinstance(kept, Score)
    assert (lost.status, lost.version) == (Status.ENGINE_ERROR, "v1")
    assert "INTERNAL" in lost.error


async def test_every_attempt_has_what_is_left_of_the_deadline() -> None:
    slow = RetryPolicy(attempts=4, base_s=20.0, cap_s=20.0)
    judge = JudgeDouble(aborts=[Abort(Code.UNAVAILABLE)] * 3)
    async with serving(judge) as address, AsyncClient(address, retry=slow, runtime=Clock().runtime) as client:
        await client.score([Item("q", "0.5")], timeout_s=100.0)
    remaining_s = [call.time_remaining_s or FOREVER_S for call in judge.calls("Score")]
    assert remaining_s == pytest.approx([100, 80, 60, 40], abs=5)  # gRPC rounds what it puts on the wire


async def test_time_that_is_over_is_not_spent() -> None:
    clock = Clock()
    judge = JudgeDouble(aborts=[Abort(Code.UNAVAILABLE)] * 9)
    async with serving(judge) as address, AsyncClient(address, retry=POLICY, runtime=clock.runtime) as client:
        with pytest.raises(Unavailable):
            await client.score([Item("q", "0.5")], timeout_s=2.5)
    assert clock.slept_s == [1.0]


async def test_describe_is_tried_again_too() -> None:
    judge = JudgeDouble(describe_aborts=[Abort(Code.UNAVAILABLE)])
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        assert (await client.describe()).current == "v1"


def test_waiting_leaves_the_trainers_random_numbers_alone() -> None:
    random.seed(7)
    before = random.getstate()
    first = Runtime().uniform(0.0, 1.0)
    random.seed(7)
    assert Runtime().uniform(0.0, 1.0) != first  # ranks that seed alike don't wait alike
    assert random.getstate() == before
