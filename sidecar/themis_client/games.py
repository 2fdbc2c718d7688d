"""Who meets whom in a group, and what its comparisons are worth. Pure arithmetic."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from themis_client.results import Compared


@dataclass(frozen=True, slots=True)
class Game:
    """Two members of a group, by their positions. `a` is shown first where only one order is judged."""

    a: int
    b: int


def schedule(members: int, rounds: int | None, seed: int) -> list[Game]:
    """The games of a group: no pair twice, and each member in equally many.

    rounds: how many others each member meets; None, or more than there are, means all. Where both the number of
    members and `rounds` are odd there is no such schedule: then it is one fewer, but never none (1 becomes 2).
    The same arguments give the same games in every process and every Python. Each member is `a` as often as `b`, give
    or take one, and from two rounds on everybody is linked with everybody over some others.
    """
    if members < 2:
        return []
    chance = random.Random(seed)
    met = min(members - 1, members - 1 if rounds is None else rounds)
    if members % 2 and met % 2:
        met = max(2, met - 1)
    circle = _shuffled(range(members), chance)
    return [
        Game(circle[place], circle[(place + step) % members])
        for step in _steps(members, met, chance)
        for place in range(members // 2 if 2 * step == members else members)
    ]


def _steps(members: int, met: int, chance: random.Random) -> list[int]:
    """How far apart on the circle those are who meet. A step gives each member two games; half way round, one."""
    half = [members // 2] if met % 2 else []
    # The neighbours always meet: a circle without gaps is what links everybody.
    others = [1, *_shuffled(range(2, (members + 1) // 2), chance)]
    return [*others[: met // 2], *half]


def _shuffled(values: range, chance: random.Random) -> list[int]:
    # Only random() is promised to give the same numbers in later Pythons, shuffle() and sample() are not.
    return [value for _, value in sorted((chance.random(), value) for value in values)]


def points(member: int, games: Sequence[tuple[Game, Compared]]) -> float:
    """The mean probability of winning over a member's games, a tie counted as half, in [0, 1]."""
    return fsum(0.5 + (one.margin if game.a == member else -one.margin) / 2 for game, one in games) / len(games)


def disagreement(games: Sequence[tuple[Game, Compared]]) -> float | None:
    """The mean disagreement between the two orders; None where only one was judged."""
    found = [one.order_disagreement for _, one in games if one.order_disagreement is not None]
    return fsum(found) / len(found) if len(found) == len(games) else None
