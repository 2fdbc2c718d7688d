"""What a judge makes of one prompt: by ratings of each response, or by comparing them with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from themis_client import games
from themis_client.aio import AsyncClient
from themis_client.errors import DeadlineExceeded, Overloaded, ThemisError, Unavailable
from themis_client.failure import Failure
from themis_client.items import Item
from themis_client.options import ScoreOptions
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Judged, Mark, Record
from themis_client.results import Score
from themis_client.rpc_errors import ITEM_STATUSES, concerns_items
from themis_client.tournament import Standing, Tournament

Found: TypeAlias = "Score | Standing | Failure"

ALIVE_S = 10.0
"""For a server to say that it's there, after a call ran out of time."""


class Judging(Protocol):
    """One result per item, in their order. Raises ThemisError where nothing came back. path: how errors name the item
    at a position. cost: prefills for so many items."""

    async def judge(self, items: Sequence[Item]) -> Sequence[Found]: ...

    def cost(self, items: int) -> int: ...

    def path(self, position: int) -> str: ...


class ByScore:
    """A response's rating on a scale of 0 to 1."""

    def __init__(self, client: AsyncClient, options: ScoreOptions) -> None:
        self._client = client
        self._options = options

    async def judge(self, items: Sequence[Item]) -> Sequence[Found]:
        return list(await self._client.score(items, options=self._options))

    def cost(self, items: int) -> int:
        return items

    def path(self, position: int) -> str:
        return f"items[{position}]"


class ByComparison:
    """A response's standing in a tournament with the others."""

    def __init__(self, client: AsyncClient, tournament: Tournament) -> None:
        self._client = client
        self._tournament = tournament

    async def judge(self, items: Sequence[Item]) -> Sequence[Found]:
        [found] = await self._client.tournament([items], self._tournament)
        return found

    def cost(self, items: int) -> int:
        """Each comparison in both orders."""
        return 2 * len(games.schedule(items, self._tournament.rounds, self._tournament.seed))

    def path(self, position: int) -> str:
        return f"groups[0][{position}]"


class RowJudge:
    """What becomes of rows. client: tells whether its server is there."""

    def __init__(self, judging: Judging, client: AsyncClient) -> None:
        self._judging = judging
        self._client = client

    def cost(self, prompt: Prompt) -> int:
        distinct = len(prompt.distinct)
        return self._judging.cost(distinct) if distinct > 1 else 0

    async def record(self, prompt: Prompt, line: int) -> Record:
        """Raises ThemisError where the next prompt would fare no better: the server is away or has no room, or the
        call as such is refused."""
        try:
            return await record_of(prompt, line, self._judging)
        except ThemisError as error:
            if isinstance(error, (Unavailable, Overloaded)) or not concerns_items(error):
                raise
            if isinstance(error, DeadlineExceeded):
                await self._see_alive(error)
            return Failed(line, prompt.id, ITEM_STATUSES[type(error)], str(error))

    async def _see_alive(self, late: DeadlineExceeded) -> None:
        """A call can run out of time for what it carries, and because nobody is there any more."""
        try:
            await self._client.describe(timeout_s=ALIVE_S)
        except (DeadlineExceeded, Unavailable) as error:
            raise Unavailable(f"{late}; nor did the server say within {ALIVE_S:g} s that it's there") from error


async def record_of(prompt: Prompt, line: int, judging: Judging) -> Record:
    """What becomes of a row: one response that failed is enough for none to be paired, since who is the best or the
    worst is not known any more."""
    positions = prompt.distinct
    if len(positions) < 2:
        return Judged(line, (), prompt.scenario)
    found = await judging.judge([prompt.item(index, line) for index in positions])
    failed: dict[int, Failure] = {}
    marks: list[Mark] = []
    scenario = prompt.scenario
    for index, one in zip(positions, found, strict=True):
        if isinstance(one, Failure):
            failed[index] = one
        else:
            apart = one.disagreement if isinstance(one, Standing) else None
            marks.append(Mark(index, one.score, apart))
            scenario = one.scenario or scenario
    if failed:
        names = {judging.path(position): index for position, index in enumerate(positions)}
        return _named(Failed.of_responses(line, prompt.id, failed), names)
    return Judged(line, tuple(marks), scenario)


def _named(failed: Failed, names: dict[str, int]) -> Failed:
    """With the input's names in its errors in place of the call's."""

    def told(error: str) -> str:
        for path, index in names.items():
            error = error.replace(f"{path}.messages", "prompt").replace(f"{path}.response", f"responses[{index}]")
            error = error.replace(path, f"responses[{index}]")
        return error

    responses = tuple((index, status, told(error)) for index, status, error in failed.responses)
    return Failed(failed.line, failed.id, failed.status, told(failed.error), responses)
