"""Which pairs come of a prompt's scores, and how a run is summed up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from themis_client.failure import Status
from themis_client.pairs.choice import Choice, Chosen, Pair, Which
from themis_client.pairs.record import Mark
from themis_client.pairs.summary import Margins, Summary

SCORES = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=9)
SHARES = st.floats(0, 1)


def marks(*scores: float) -> list[Mark]:
    return [Mark(index, score) for index, score in enumerate(scores)]


def positions(chosen: Chosen) -> list[tuple[int, int]]:
    return [(pair.chosen.index, pair.rejected.index) for pair in chosen.pairs]


@given(SCORES, SHARES, st.booleans(), st.integers(1, 50), st.sampled_from(["best-worst", "all"]))
def test_every_pair(scores: list[float], least: float, keep: bool, most: int, which: Which) -> None:
    chosen = Choice(which, least, keep, most).of(marks(*scores))
    for pair in chosen.pairs:
        assert pair.margin == pair.chosen.score - pair.rejected.score
        assert 0 <= pair.margin <= 1
        assert pair.tie is (pair.margin < least or pair.margin == 0)
        assert keep or not pair.tie
    assert len({frozenset(two) for two in positions(chosen)}) == len(chosen.pairs) <= most
    margins = [pair.margin for pair in chosen.pairs]
    assert margins == sorted(margins, reverse=True)
    considered = 1 if which == "best-worst" else len(scores) * (len(scores) - 1) // 2
    assert len(chosen.pairs) + chosen.left_out + (0 if keep else chosen.ties) == considered


@given(SCORES, SHARES)
def test_what_is_left_out_is_no_wider_than_what_is_there(scores: list[float], least: float) -> None:
    all_of_them = Choice("all", least, most=10**6).of(marks(*scores)).pairs
    bounded = Choice("all", least, most=3).of(marks(*scores)).pairs
    assert bounded == all_of_them[:3]


@given(SCORES, st.randoms())
def test_the_order_of_the_marks_decides_nothing(scores: list[float], chance: object) -> None:
    given_marks = marks(*scores)
    shuffled = sorted(given_marks, key=lambda _: chance.random())  # type: ignore[attr-defined]
    assert Choice("all", most=5).of(shuffled) == Choice("all", most=5).of(given_marks)


def test_best_and_worst() -> None:
    assert Choice().of(marks(0.25, 1.0, 0.0, 0.5)) == Chosen((Pair(Mark(1, 1.0), Mark(2, 0.0), 1.0, False),), 0, 0)


def test_of_equals_the_first_is_chosen_and_the_last_rejected() -> None:
    assert positions(Choice(keep_ties=True).of(marks(0.5, 0.5, 0.5))) == [(0, 2)]
    assert positions(Choice().of(marks(1.0, 0.0, 1.0, 0.0))) == [(0, 3)]


@pytest.mark.parametrize(("least", "ties"), [(0.0, 1), (0.25, 1), (0.5, 3), (0.75, 5)])
def test_ties(least: float, ties: int) -> None:
    scores = marks(0.0, 0.5, 0.5, 0.75)
    assert Choice("all", least, most=9).of(scores).ties == ties
    assert len(Choice("all", least, most=9).of(scores).pairs) == 6 - ties
    kept = Choice("all", least, keep_ties=True, most=9).of(scores)
    assert (len(kept.pairs), kept.ties) == (6, ties)


@pytest.mark.parametrize("scores", [[], [0.5]])
def test_too_few_to_pair(scores: list[float]) -> None:
    assert Choice("all", keep_ties=True, most=9).of(marks(*scores)) == Chosen((), 0, 0)


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0, 1))
def test_quantiles_are_nearest_ranks(thousandths: list[int], share: float) -> None:
    margins = Margins()
    for one in thousandths:
        margins.add(one / 1000)
    found = round(margins.quantile(share) * 1000)
    assert found in thousandths
    assert sum(one <= found for one in thousandths) >= share * len(thousandths)
    assert sum(one < found for one in thousandths) < max(1, share * len(thousandths))


def test_no_margins_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no margins"):
        Margins().quantile(0.5)


def test_a_summary() -> None:
    summary = Summary("v1")
    for scores, most in itertools.product(([0.0, 1.0, 0.5], [0.5, 0.5]), (1, 9)):
        summary.add(Choice("all", 0.1, most=most).of(marks(*scores)))
    summary.add_failed(Status.UNAVAILABLE, retryable=True)
    summary.add_failed(Status.INVALID, retryable=False)
    assert (summary.prompts, summary.pairs, summary.ties, summary.without) == (6, 4, 2, 2)
    assert (summary.left_out, summary.failed.total(), summary.retryable) == (2, 2, 1)
    rows = dict(summary.table(keep_ties=False))
    assert rows["failed prompts"] == "2 (INVALID 1, UNAVAILABLE 1)"
    assert (rows["margin, smallest"], rows["margin, median"], rows["margin, largest"]) == ("0.500", "0.500", "1.000")


def test_a_summary_without_pairs_tells_no_margins() -> None:
    summary = Summary("v1")
    assert [name for name, _ in summary.table(keep_ties=True)] == [
        "prompts",
        "pairs",
        "ties, kept",
        "prompts without a pair",
        "pairs above the bound per prompt",
        "failed prompts",
        "version",
    ]
