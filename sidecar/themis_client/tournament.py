"""A tournament within each group: its members are compared with each other, and each gets its share of the wins.

Ratings of one response at a time often tie where two responses side by side don't; a tournament turns comparisons into
one number per member that a trainer can use as a reward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from themis_client import games
from themis_client.failure import Failure, Status
from themis_client.games import Game
from themis_client.items import Comparison, Item
from themis_client.options import CompareOptions, Orders
from themis_client.results import Compared

if TYPE_CHECKING:
    from themis_client.aio import AsyncClient


@dataclass(frozen=True, slots=True)
class Tournament:
    """rounds: how many others each member meets; None is all of them, at n (n - 1) / 2 comparisons for n members. In
    a group with an odd number of members an odd number of rounds is one fewer, and 1 is 2. seed: who meets whom is a
    function of it, of `rounds` and of the members' positions. orders: both cost twice and cancel position bias; they
    go before those in CompareOptions. Raises ValueError for rounds below 1."""

    rounds: int | None = None
    seed: int = 0
    orders: Orders = Orders.BOTH

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds must be 1 at least, not {self.rounds}")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member of a group came to. float() gives `score`.

    score: the mean probability of winning over its games, in [0, 1], a tie counted as half; the mean over a group is
    0.5. It says something within the group only. games: how many it is the mean of. disagreement: the mean over the
    games of how much the two orders disagreed, in [0, 1]; None where only one was judged.
    """

    score: float
    games: int
    disagreement: float | None
    version: str
    key: str = ""
    group: str = ""
    scenario: str = ""

    @property
    def ok(self) -> bool:
        return True

    def __float__(self) -> float:
        return self.score


StandingOrFailure: TypeAlias = "Standing | Failure"

Played: TypeAlias = "tuple[Game, Compared | Failure]"


async def run(
    client: AsyncClient,
    groups: Sequence[Sequence[Item]],
    tournament: Tournament,
    *,
    options: CompareOptions,
    timeout_s: float | None,
) -> list[list[StandingOrFailure]]:
    """The members' standings, in the order of the groups and of their members. See AsyncClient.tournament."""
    planned = [_games(group, tournament) for group in groups]
    comparisons = [_comparison(group, game) for group, plan in zip(groups, planned, strict=True) for game in plan]
    options = dataclasses.replace(options, orders=tournament.orders)
    results = iter(await client.compare(comparisons, options=options, timeout_s=timeout_s))
    count, standings = 0, []
    for number, (group, plan) in enumerate(zip(groups, planned, strict=True)):
        played = [
            (game, _named(next(results), f"comparisons[{count + index}]", f"groups[{number}]", game))
            for index, game in enumerate(plan)
        ]
        count += len(plan)
        standings.append([_standing(group, member, played, number) for member in range(len(group))])
    return standings


def _games(group: Sequence[Item], tournament: Tournament) -> list[Game]:
    return [] if _differing(group) else games.schedule(len(group), tournament.rounds, tournament.seed)


def _differing(group: Sequence[Item]) -> str:
    """The field in which members differ that a comparison has only once; empty where they agree."""
    for field in ("messages", "reference", "scenario", "rubric"):
        if any(getattr(item, field) != getattr(group[0], field) for item in group):
            return field
    return ""


def _comparison(group: Sequence[Item], game: Game) -> Comparison:
    a, b = group[game.a], group[game.b]
    return Comparison(
        a.messages,
        a.response,
        b.response,
        reference=a.reference,
        scenario=a.scenario,
        rubric=a.rubric,
        key=f"{a.key} / {b.key}" if a.key or b.key else "",
    )


def _named(result: Compared | Failure, call: str, group: str, game: Game) -> Compared | Failure:
    """A failure that names what the caller sent: members of groups, not comparisons."""
    if not isinstance(result, Failure):
        return result
    names = (
        (f"{call}.response_a", f"{group}[{game.a}].response"),
        (f"{call}.response_b", f"{group}[{game.b}].response"),
        (call, f"{group}[{game.a}]"),
    )
    error, field = result.error, result.field
    for old, new in names:
        error, field = error.replace(old, new), field.replace(old, new)
    return dataclasses.replace(result, error=error, field=field)


def _standing(group: Sequence[Item], member: int, all_played: Sequence[Played], number: int) -> StandingOrFailure:
    played = [one for one in all_played if member in (one[0].a, one[0].b)]
    won = [(game, result) for game, result in played if not isinstance(result, Failure)]
    item = group[member]
    if not won or len(won) < len(played):
        return _failure(group, member, [result for _, result in played if isinstance(result, Failure)], number)
    return Standing(
        score=games.points(member, won),
        games=len(won),
        disagreement=games.disagreement(won),
        version=won[0][1].version,
        key=item.key,
        group=item.group,
        scenario=won[0][1].scenario,
    )


def _failure(group: Sequence[Item], member: int, failed: Sequence[Failure], number: int) -> Failure:
    """A mean over what is left of a member's games would favour whoever missed its strongest opponent."""
    item, path = group[member], f"groups[{number}][{member}]"
    if not failed:
        differing = _differing(group)
        why = (
            f"groups[{number}]: its members differ in {differing}, and can't be compared with each other"
            if differing
            else f"groups[{number}]: it has one member, and nothing to compare it with"
        )
        return Failure(Status.INVALID, why, f"groups[{number}]", item.key, item.group)
    # What a later call can't cure decides, so that nobody sends a hopeless group again.
    worst = next((one for one in failed if not one.retryable), failed[0])
    return Failure(
        worst.status,
        f"{path}: {len(failed)} of its comparisons failed: {worst.error}",
        worst.field or path,
        item.key,
        item.group,
        worst.version,
        worst.scenario,
    )
