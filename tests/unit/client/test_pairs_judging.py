"""What the error of one prompt's call comes to: a failed row, or the end of the run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from themis_client.aio import AsyncClient
from themis_client.description import Description
from themis_client.errors import (
    BadRequest,
    DeadlineExceeded,
    MessageTooLarge,
    Overloaded,
    ProtocolError,
    Refused,
    ServerFailed,
    ThemisError,
    Unavailable,
    UnknownVersion,
    Unsupported,
)
from themis_client.failure import Status
from themis_client.items import Item
from themis_client.options import ScoreOptions
from themis_client.pairs.judging import ByComparison, ByScore, Found, RowJudge
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Judged
from themis_client.tournament import Tournament

PROMPT = Prompt("q", ("a", "b", "a", "c"), None, "", "its id")
SAME = Prompt("q", ("a", "a"), None, "", "")


class Broken:
    def __init__(self, error: ThemisError) -> None:
        self._error = error

    async def judge(self, items: Sequence[Item]) -> Sequence[Found]:
        raise self._error

    def cost(self, items: int) -> int:
        return items

    def path(self, position: int) -> str:
        return f"items[{position}]"


class Asked(AsyncClient):
    """Says that it's there, or raises."""

    def __init__(self, error: ThemisError | None = None) -> None:
        super().__init__()
        self.asked = 0
        self._error = error

    async def describe(self, *, timeout_s: float | None = None) -> Description:
        self.asked += 1
        assert timeout_s
        if self._error is not None:
            raise self._error
        return Description.__new__(Description)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServerFailed("INTERNAL"), Status.ENGINE_ERROR),
        (MessageTooLarge("too large"), Status.INVALID),
        (DeadlineExceeded("late"), Status.DEADLINE_EXCEEDED),
    ],
)
async def test_what_concerns_one_prompt_fails_it(error: ThemisError, status: Status) -> None:
    client = Asked()
    async with client:
        assert await RowJudge(Broken(error), client).record(PROMPT, 7) == Failed(7, "its id", status, str(error))
        assert client.asked == (status is Status.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    "kind", [Unavailable, Overloaded, BadRequest, Refused, UnknownVersion, Unsupported, ProtocolError]
)
async def test_what_concerns_all_stops_the_run(kind: type[ThemisError]) -> None:
    async with Asked() as client:
        with pytest.raises(kind, match="so it is"):
            await RowJudge(Broken(kind("so it is")), client).record(PROMPT, 7)


@pytest.mark.parametrize("kind", [Unavailable, DeadlineExceeded])
async def test_late_because_nobody_is_there_stops_the_run(kind: type[ThemisError]) -> None:
    async with Asked(kind("nobody")) as client:
        with pytest.raises(Unavailable, match="late; nor did the server say"):
            await RowJudge(Broken(DeadlineExceeded("late")), client).record(PROMPT, 7)


async def test_equal_responses_cost_nothing_and_ask_nobody() -> None:
    async with Asked() as client:
        judge = RowJudge(Broken(Unavailable("")), client)
        assert (judge.cost(SAME), judge.cost(PROMPT)) == (0, 3)
        assert await judge.record(SAME, 1) == Judged(1, (), "")


async def test_prefills_of_a_prompt() -> None:
    async with Asked() as client:
        assert ByScore(client, ScoreOptions()).cost(8) == 8
        assert [ByComparison(client, Tournament(rounds)).cost(8) for rounds in (None, 7, 3)] == [56, 56, 24]
