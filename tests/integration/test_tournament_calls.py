"""Tournaments over a real server: one call for all groups, and no number where a comparison failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.pairs_judge import LengthJudge
from tests.integration.sidecar_fakes import VERSION, FakeJudge, serving
from tests.integration.sidecar_running import running
from themis_client import (
    AsyncClient,
    Client,
    CompareOptions,
    Failure,
    Item,
    ItemFailed,
    Orders,
    Rubric,
    Standing,
    Status,
)
from themis_client.errors import Unavailable
from themis_client.retry import RetryPolicy
from themis_client.tournament import Tournament
from themis_judge.items import Orders as JudgeOrders


def group(*texts: str, prompt: str = "q", name: str = "g") -> list[Item]:
    return [Item(prompt, text, scenario="math", key=f"{name}{i}", group=name) for i, text in enumerate(texts)]


@asynccontextmanager
async def client_of(judge: FakeJudge) -> AsyncIterator[AsyncClient]:
    async with serving(judge) as served, AsyncClient(served.address, retry=RetryPolicy(attempts=1)) as client:
        yield client
        assert len(served.lines("call")) <= 2, "Describe and one Compare"


async def test_all_groups_are_one_call_under_one_version() -> None:
    judge = LengthJudge()
    async with client_of(judge) as client:
        first, second = await client.tournament([group("a", "aaa", "aaaaa"), group("bb", "b", prompt="p", name="h")])
    assert first == [
        Standing(pytest.approx(0.425), 2, 0.25, VERSION, "g0", "g", "math"),
        Standing(pytest.approx(0.5), 2, 0.25, VERSION, "g1", "g", "math"),
        Standing(pytest.approx(0.575), 2, 0.25, VERSION, "g2", "g", "math"),
    ]
    assert [float(one) for one in second if isinstance(one, Standing)] == pytest.approx([0.525, 0.475])
    assert len(judge.compared) == 4
    assert set(judge.compared) == {JudgeOrders.BOTH}


async def test_a_schedule_bounds_the_comparisons() -> None:
    judge = LengthJudge()
    async with client_of(judge) as client:
        [found] = await client.tournament([group(*["a" * n for n in range(1, 9)])], Tournament(rounds=3, seed=5))
    assert [one.games for one in found if isinstance(one, Standing)] == [3] * 8
    assert len(judge.compared) == 12


async def test_one_order_has_no_disagreement() -> None:
    judge = LengthJudge()
    async with client_of(judge) as client:
        [found] = await client.tournament(
            [group("a", "aa")], Tournament(orders=Orders.A_FIRST), options=CompareOptions(orders=Orders.BOTH)
        )
    assert [one.disagreement for one in found if isinstance(one, Standing)] == [None, None]
    assert set(judge.compared) == {JudgeOrders.A_FIRST}


async def test_who_lost_a_comparison_to_a_failure_has_no_number() -> None:
    judge = LengthJudge()
    # On a circle of four each has two neighbours: the one opposite the bad member plays both of its games.
    async with client_of(judge) as client:
        found, other = await client.tournament(
            [group("a", "aa", "TOO_LONG", "aaa"), group("b", "bb", name="h")], Tournament(rounds=2)
        )
    failed = [index for index, one in enumerate(found) if isinstance(one, Failure)]
    assert len(failed) == 3
    assert 2 in failed
    assert all(isinstance(one, Standing) for one in other)
    for index in failed:
        one = found[index]
        assert isinstance(one, Failure)
        assert (one.status, one.key, one.group, one.version) == (Status.TOO_LONG, f"g{index}", "g", VERSION)
        assert one.field == "groups[0][2].response"
        assert (
            f"groups[0][{index}]: {2 if index == 2 else 1} of its comparisons failed: groups[0][2].response"
            in one.error
        )
        assert "comparisons[" not in one.error
        with pytest.raises(ItemFailed):
            one.score  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(ItemFailed):
            one.games  # type: ignore[attr-defined]  # noqa: B018


async def test_what_cant_be_cured_decides_about_trying_again() -> None:
    async with client_of(LengthJudge()) as client:
        [found] = await client.tournament([group("a", "OVERLOADED", "TOO_LONG")])
    [first, overloaded, _] = found
    assert isinstance(first, Failure)
    assert isinstance(overloaded, Failure)
    assert (first.status, first.retryable) == (Status.TOO_LONG, False)
    assert not overloaded.retryable


async def test_a_member_alone_has_nothing_to_be_compared_with() -> None:
    judge = LengthJudge()
    async with client_of(judge) as client:
        [[alone], none] = await client.tournament([group("a"), []])
        assert await client.tournament([]) == []
    assert isinstance(alone, Failure)
    assert (alone.status, alone.key, alone.group) == (Status.INVALID, "g0", "g")
    assert "one member" in alone.error
    assert none == []
    assert judge.compared == []


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("messages", Item("another q", "aa")),
        ("reference", Item("q", "aa", reference="r")),
        ("scenario", Item("q", "aa", scenario="math")),
        ("rubric", Item("q", "aa", rubric=Rubric(["Is it right?"]))),
    ],
)
async def test_members_that_answer_different_questions_are_not_compared(field: str, other: Item) -> None:
    judge = LengthJudge()
    async with client_of(judge) as client:
        [found] = await client.tournament([[Item("q", "a"), other]])
    assert [one.status for one in found if isinstance(one, Failure)] == [Status.INVALID] * 2
    assert all(f"differ in {field}" in one.error for one in found if isinstance(one, Failure))
    assert judge.compared == []


async def test_nothing_came_back() -> None:
    async with AsyncClient("127.0.0.1:9", retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(Unavailable):
            await client.tournament([group("a", "aa")])


@pytest.mark.parametrize("rounds", [0, -1])
def test_rounds_start_at_one(rounds: int) -> None:
    with pytest.raises(ValueError, match="rounds must be 1 at least"):
        Tournament(rounds)


def test_a_caller_without_a_loop(tmp_path: Path) -> None:
    with (
        running(tmp_path, module="tests.integration.pairs_judge") as served,
        Client(served.address) as client,
    ):
        [found] = client.tournament([group("a", "aaa")])
        [again] = asyncio.run(client.tournament_async([group("a", "aaa")]))
    assert [float(one) for one in found if isinstance(one, Standing)] == pytest.approx([0.45, 0.55])
    assert again == found
