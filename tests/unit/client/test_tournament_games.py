"""Who meets whom, and what it is worth: properties that hold for every group."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from themis_client.games import Game, disagreement, points, schedule
from themis_client.results import Compared

MEMBERS = st.integers(2, 24)
ROUNDS = st.none() | st.integers(1, 30)
SEEDS = st.integers(-(2**40), 2**40)


def compared(a: float, b: float, apart: float | None = None) -> Compared:
    return Compared("A" if a > b else "B", a, b, 1 - a - b, "v1", order_disagreement=apart)


def met(members: int, rounds: int | None) -> int:
    """How many others each member should meet."""
    asked = members - 1 if rounds is None else min(rounds, members - 1)
    return asked if asked * members % 2 == 0 else max(2, asked - 1)


@given(MEMBERS, ROUNDS, SEEDS)
def test_each_member_meets_equally_many_others_once(members: int, rounds: int | None, seed: int) -> None:
    games = schedule(members, rounds, seed)
    assert all(0 <= game.a < members and 0 <= game.b < members and game.a != game.b for game in games)
    assert len({frozenset((game.a, game.b)) for game in games}) == len(games)
    times = Counter(member for game in games for member in (game.a, game.b))
    assert times == dict.fromkeys(range(members), met(members, rounds))


@given(MEMBERS, ROUNDS, SEEDS)
def test_nobody_is_mostly_shown_first(members: int, rounds: int | None, seed: int) -> None:
    first = Counter(dict.fromkeys(range(members), 0))
    for game in schedule(members, rounds, seed):
        first[game.a] += 1
        first[game.b] -= 1
    assert set(first.values()) <= {-1, 0, 1}


@given(MEMBERS, st.integers(2, 30), SEEDS)
def test_everybody_is_linked_with_everybody(members: int, rounds: int, seed: int) -> None:
    linked, games = {0}, schedule(members, rounds, seed)
    for _ in range(members):
        linked |= {one for game in games if {game.a, game.b} & linked for one in (game.a, game.b)}
    assert linked == set(range(members))


@pytest.mark.parametrize("members", [0, 1])
def test_nobody_to_meet(members: int) -> None:
    assert schedule(members, None, 0) == []


def test_a_seed_gives_the_same_games_in_every_process() -> None:
    games = schedule(6, 3, 7)
    assert [(game.a, game.b) for game in games] == [
        (3, 1),
        (1, 0),
        (0, 5),
        (5, 4),
        (4, 2),
        (2, 3),
        (3, 5),
        (1, 4),
        (0, 2),
    ]
    script = "from themis_client.games import schedule; print(schedule(6, 3, 7))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(games)


def test_seeds_differ() -> None:
    assert len({tuple(schedule(8, 4, seed)) for seed in range(20)}) > 15


@given(st.data(), MEMBERS, ROUNDS, SEEDS)
def test_points(data: st.DataObject, members: int, rounds: int | None, seed: int) -> None:
    chance = st.floats(0, 1)
    games = []
    for game in schedule(members, rounds, seed):
        a, rest = data.draw(chance), data.draw(chance)
        games.append((game, compared(a, (1 - a) * rest)))
    scores = [points(member, [one for one in games if member in (one[0].a, one[0].b)]) for member in range(members)]
    assert all(0 <= score <= 1 for score in scores)
    assert fsum(scores) / members == pytest.approx(0.5)


@given(MEMBERS, ROUNDS, SEEDS)
def test_who_always_wins_has_all_points_and_who_always_loses_none(members: int, rounds: int | None, seed: int) -> None:
    games = [
        (game, compared(float(game.a > game.b), float(game.a < game.b))) for game in schedule(members, rounds, seed)
    ]
    best = [one for one in games if members - 1 in (one[0].a, one[0].b)]
    worst = [one for one in games if 0 in (one[0].a, one[0].b)]
    assert (points(members - 1, best), points(0, worst)) == (1.0, 0.0)


def test_a_tie_counts_half() -> None:
    games = [(Game(0, 1), compared(0.0, 0.0)), (Game(2, 0), compared(0.25, 0.5))]
    assert points(0, games) == pytest.approx((0.5 + (0.5 + 0.25 / 2)) / 2)


def test_the_orders_disagreement_is_a_mean_over_games_that_have_one() -> None:
    games = [(Game(0, 1), compared(0.2, 0.3, 0.1)), (Game(0, 2), compared(0.2, 0.3, 0.3))]
    assert disagreement(games) == pytest.approx(0.2)
    assert disagreement([*games, (Game(0, 3), compared(0.2, 0.3))]) is None
