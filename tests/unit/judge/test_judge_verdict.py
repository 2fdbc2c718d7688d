"""From label probabilities to ratings, and from text to critiques; expected values worked out by hand."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import xgrammar
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.judge.fakes import logs
from themis_judge.engines.base import LabelScores
from themis_judge.items import Critique, Distribution, Point
from themis_judge.verdict import (
    critique_grammar,
    distribution,
    entropy,
    mixture,
    normalised,
    parse_critique,
    verdict_of,
)

FIVE = (1, 2, 3, 4, 5)


# -------------------------------------------------------------------------------------------------- distributions


def test_probabilities_are_told_among_the_labels_and_their_mass_beside() -> None:
    found = distribution((1, 2, 3), LabelScores(logs(0.1, 0.2, 0.5)))
    assert found
    assert found.probabilities == pytest.approx((0.125, 0.25, 0.625), abs=1e-12)
    assert found.label_mass == pytest.approx(0.8, abs=1e-12)
    assert found.expected == pytest.approx(2.5, abs=1e-12)
    assert (found.ratings, found.chosen) == ((1, 2, 3), 3)


def test_probabilities_that_vanish_in_doubles_are_still_told_apart() -> None:
    probabilities, mass = normalised((-1000.0, -1000.0 + math.log(3)))
    assert probabilities == pytest.approx((0.25, 0.75), abs=1e-12)
    assert mass == 0.0


def test_a_label_that_can_not_be_has_no_probability() -> None:
    assert normalised(logs(0, 0.5, 0.5)) == ((0.0, 0.5, 0.5), 1.0)


def test_a_mass_that_rounding_takes_above_one_is_one() -> None:
    assert normalised((math.log(0.5) + 1e-9, math.log(0.5) + 1e-9))[1] == 1.0


@pytest.mark.parametrize(
    "logprobs",
    [(math.nan,) * 5, (-0.1, math.nan, -3.0, -4.0, -5.0), (-math.inf,) * 5, (-math.inf, math.nan, -1.0, -1.0, -1.0)],
)
def test_nan_or_nothing_is_no_distribution(logprobs: tuple[float, ...]) -> None:
    assert distribution(FIVE, LabelScores(logprobs)) is None
    assert normalised(logprobs) == (None, 0.0)


@pytest.mark.parametrize(
    ("probabilities", "chosen"),
    [
        ((0.2, 0.2, 0.2, 0.2, 0.2), 1),
        ((0.1, 0.3, 0.1, 0.3, 0.2), 2),
        ((0.0, 0.0, 0.0, 0.5, 0.5), 4),
        ((0.1, 0.1, 0.1, 0.1, 0.6), 5),
    ],
)
def test_the_lower_of_equally_probable_ratings_is_chosen(probabilities: tuple[float, ...], chosen: int) -> None:
    found = distribution(FIVE, LabelScores(logs(*probabilities)))
    assert found
    assert found.chosen == chosen
    assert mixture([(0.5, found), (0.5, found)]).chosen == chosen


def test_an_engine_without_probabilities_tells_what_it_chose() -> None:
    assert distribution((0, 1, 2), LabelScores(None, chosen=2)) == Distribution((0, 1, 2), None, None, 2.0, 2)
    assert distribution((0, 1, 2), LabelScores(None)) is None


@given(st.lists(st.floats(min_value=-50, max_value=0), min_size=2, max_size=11))
def test_any_distribution_sums_to_one_and_stays_on_its_scale(logprobs: list[float]) -> None:
    ratings = tuple(range(-3, len(logprobs) - 3))
    found = distribution(ratings, LabelScores(tuple(logprobs)))
    assert found
    assert found.probabilities
    assert sum(found.probabilities) == pytest.approx(1.0, abs=1e-12)
    assert found.label_mass is not None
    assert 0.0 <= found.label_mass <= 1.0
    verdict = verdict_of(found)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict.entropy is not None
    assert 0.0 <= verdict.entropy <= math.log(len(ratings)) + 1e-12


# ------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("ratings", "probabilities", "expected", "score"),
    [
        (FIVE, (0, 0, 0, 0, 1), 5.0, 1.0),
        (FIVE, (1, 0, 0, 0, 0), 1.0, 0.0),
        (FIVE, (0, 0, 0.5, 0.5, 0), 3.5, 0.625),
        ((0, 1), (0.25, 0.75), 0.75, 0.75),
        ((-2, -1, 0, 1, 2), (0.5, 0.5, 0, 0, 0), -1.5, 0.125),
        (tuple(range(1, 11)), (0,) * 9 + (1,), 10.0, 1.0),
    ],
)
def test_the_score_is_the_expected_ratings_place_on_the_scale(
    ratings: tuple[int, ...], probabilities: tuple[float, ...], expected: float, score: float
) -> None:
    found = distribution(ratings, LabelScores(logs(*probabilities)))
    assert found
    assert found.expected == pytest.approx(expected, abs=1e-12)
    assert verdict_of(found).score == pytest.approx(score, abs=1e-12)
    assert 0.0 <= verdict_of(found).score <= 1.0


def test_entropy_is_in_nats() -> None:
    assert entropy((0.5, 0.5)) == pytest.approx(math.log(2), abs=1e-15)
    assert entropy((0.25,) * 4) == pytest.approx(math.log(4), abs=1e-15)
    assert entropy((0.5, 0.25, 0.25)) == pytest.approx(1.5 * math.log(2), abs=1e-15)
    assert entropy((1.0, 0.0)) == 0.0
    assert entropy(None) is None


def test_a_mixture_is_the_weighted_mean() -> None:
    first = Distribution((1, 2, 3), (0.5, 0.5, 0.0), 0.9, 1.5, 1)
    second = Distribution((1, 2, 3), (0.0, 0.2, 0.8), 0.7, 2.8, 3)
    found = mixture([(0.25, first), (0.75, second)])
    assert found.probabilities == pytest.approx((0.125, 0.275, 0.6), abs=1e-12)
    assert found.expected == pytest.approx(2.475, abs=1e-12)
    assert (found.chosen, found.label_mass) == (3, 0.7)


def test_a_mixture_with_a_part_that_tells_no_probabilities_tells_none() -> None:
    first = Distribution((1, 2, 3, 4), (0.5, 0.5, 0.0, 0.0), 0.9, 1.5, 1)
    second = Distribution((1, 2, 3, 4), None, None, 3.0, 3)
    found = mixture([(0.5, first), (0.5, second)])
    assert (found.probabilities, found.label_mass, found.expected, found.chosen) == (None, None, 2.25, 2)
    halfway = mixture([(0.5, second), (0.5, Distribution((1, 2, 3, 4), None, None, 2.0, 2))])
    assert (halfway.expected, halfway.chosen) == (2.5, 2)


# ------------------------------------------------------------------------------------------------------ critiques

GOOD = "Strengths:\n- Right. [[5]]\n- Clear, and (so) short. [[4]]\nShortcomings:\n- No source. [[2]]\n"


@pytest.mark.parametrize(
    "text", [GOOD, "]]\n" + GOOD, GOOD.rstrip(), GOOD.replace(". [", ".["), GOOD.replace("\n", "\n\n")]
)
def test_a_critique_is_read(text: str) -> None:
    strengths = (Point("Right.", 5), Point("Clear, and (so) short.", 4))
    assert parse_critique(text, range(1, 6)) == Critique(strengths, (Point("No source.", 2),), text)


def test_negative_ratings_are_read() -> None:
    found = parse_critique("Strengths:\n- x [[0]]\nShortcomings:\n- y [[-2]]", range(-2, 3))
    assert found
    assert found.shortcomings == (Point("y", -2),)


BAD = {
    "nothing": "",
    "prose": "The response is right and clear. [[5]]",
    "no heading": GOOD.replace("Strengths:\n", ""),
    "one heading": GOOD[: GOOD.index("Shortcomings")],
    "a heading twice": GOOD.replace("Shortcomings", "Strengths"),
    "no rating": GOOD.replace(" [[4]]", ""),
    "half a rating": GOOD.replace("[[4]]", "[4]"),
    "a rating in words": GOOD.replace("[[4]]", "[[four]]"),
    "a rating above the scale": GOOD.replace("[[4]]", "[[6]]"),
    "a rating below the scale": GOOD.replace("[[4]]", "[[0]]"),
    "no strengths": GOOD.replace("- Right. [[5]]\n- Clear, and (so) short. [[4]]\n", ""),
    "no shortcomings": GOOD.replace("- No source. [[2]]\n", ""),
    "an empty point": GOOD.replace("- Right. [[5]]", "- [[5]]"),
    "no dash": GOOD.replace("- Right", "Right"),
    "a word before": "Here it is:\n" + GOOD,
    "a word after": GOOD + "That is all.",
    "cut in a point": GOOD[:-8],
    "cut in a rating": GOOD[:-3],
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_critique_is_none(case: str) -> None:
    assert parse_critique(BAD[case], range(1, 6)) is None


# -------------------------------------------------------------------------------------------------------- grammar

SCALES = [(1, 5), (0, 1), (1, 10), (-2, 2)]


@lru_cache
def _compiler() -> xgrammar.GrammarCompiler:
    vocabulary = [bytes([value]) for value in range(256)]
    return xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[0]), max_threads=1)


@lru_cache
def _compiled(grammar: str) -> xgrammar.CompiledGrammar:
    return _compiler().compile_grammar(grammar)


def accepted(grammar: str, text: str) -> bool:
    matcher = xgrammar.GrammarMatcher(_compiled(grammar), terminate_without_stop_token=True)
    return matcher.accept_string(text) and matcher.is_terminated()


def sample(low: int, high: int) -> str:
    return f"Strengths:\n- One. [[{low}]]\n- Two. [[{high}]]\nShortcomings:\n- Three. [[{high}]]\n"


@pytest.mark.parametrize(("low", "high"), SCALES)
@pytest.mark.parametrize("rating_first", [False, True])
def test_the_grammar_holds_critiques_on_its_scale(low: int, high: int, rating_first: bool) -> None:
    grammar = critique_grammar(low, high, 3, 40, rating_first)
    opening = "]]\n" if rating_first else ""
    text = opening + sample(low, high)
    assert accepted(grammar, text)
    assert parse_critique(text, range(low, high + 1))
    refused = [
        sample(low, high) if rating_first else "]]\n" + sample(low, high),
        opening + sample(low, high + 1),
        opening + sample(low - 1, high),
        opening + sample(low, high).replace("Strengths", "Merits"),
        opening + sample(low, high).replace("- Three. ", "- "),
        opening + sample(low, high).replace(f" [[{low}]]", ""),
        opening + sample(low, high).replace("Three", "Thr[ee"),
        opening + sample(low, high).replace("- One", "-  One"),
        opening + sample(low, high) + "More.",
        opening + sample(low, high)[:-1],
        opening + "Strengths:\nShortcomings:\n- Three. [[1]]\n",
    ]
    assert [text for text in refused if accepted(grammar, text)] == []


def test_the_grammar_bounds_points_and_their_lengths() -> None:
    grammar = critique_grammar(1, 5, 2, 20, False)
    point = "- " + "x" * 20 + " [[3]]\n"
    assert accepted(grammar, f"Strengths:\n{point * 2}Shortcomings:\n{point}")
    assert not accepted(grammar, f"Strengths:\n{point * 3}Shortcomings:\n{point}")
    assert not accepted(grammar, f"Strengths:\n{point}Shortcomings:\n{point.replace('x', 'xx', 1)}")


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3),
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3),
)
def test_what_the_grammar_accepts_can_be_read(strengths: list[str], shortcomings: list[str]) -> None:
    good, bad = ("".join(f"- {text} [[3]]\n" for text in texts) for texts in (strengths, shortcomings))
    text = f"Strengths:\n{good}Shortcomings:\n{bad}"
    if accepted(critique_grammar(1, 5, 3, 20, False), text):
        found = parse_critique(text, range(1, 6))
        assert found
        assert (len(found.strengths), len(found.shortcomings)) == (len(strengths), len(shortcomings))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_other_line_separators_are_part_of_a_point(separator: str) -> None:
    """Python breaks lines at more characters than the grammar does."""
    text = f"Strengths:\n- one{separator}two [[3]]\nShortcomings:\n- three [[2]]\n"
    grammar = critique_grammar(1, 5, 3, 40, False)
    assert not accepted(grammar, text) or parse_critique(text, range(1, 6))
