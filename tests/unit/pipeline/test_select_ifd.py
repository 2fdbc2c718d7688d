"""Difficulty against values computed by hand, and against a plain implementation of both papers."""

from __future__ import annotations

import math
import random

import pytest

from themis_pipeline.select.ifd import NothingToScore, Piece, TokenLoss, difficulty, free_tokens, joined


def tokens(*pairs: tuple[float, float]) -> list[TokenLoss]:
    return [TokenLoss(place, *pair) for place, pair in enumerate(pairs)]


def test_both_definitions_by_hand() -> None:
    found = difficulty(tokens((-1.0, -2.0), (-2.0, -2.0), (-3.0, -4.0)))
    assert (found.loss_with_prompt, found.tokens) == (2.0, 3)
    assert found.loss_alone == pytest.approx(8 / 3)
    assert found.log_perplexity_ratio == pytest.approx(-2 / 3)  # log(exp(2) / exp(8/3))
    assert found.mean_loss_ratio == pytest.approx(3 / 4)


def test_from_a_model_of_two_tokens_by_hand() -> None:
    """Logits 0 and log 3 give probabilities 1/4 and 3/4; 0 and 0 give halves."""
    given, alone = math.log(3 / 4), math.log(1 / 2)
    found = difficulty(tokens((given, alone), (given, alone)))
    assert math.exp(found.log_perplexity_ratio) == pytest.approx((4 / 3) / 2)
    assert found.mean_loss_ratio == pytest.approx(math.log(4 / 3) / math.log(2))


def test_the_definitions_rank_records_differently() -> None:
    easy, hard = difficulty(tokens((-0.5, -1.0))), difficulty(tokens((-3.0, -4.0)))
    assert easy.log_perplexity_ratio > hard.log_perplexity_ratio
    assert easy.mean_loss_ratio is not None
    assert hard.mean_loss_ratio is not None
    assert easy.mean_loss_ratio < hard.mean_loss_ratio


def test_both_agree_on_when_a_prompt_harms() -> None:
    harms, helps = difficulty(tokens((-2.0, -1.0))), difficulty(tokens((-1.0, -2.0)))
    assert harms.log_perplexity_ratio > 0 > helps.log_perplexity_ratio
    assert (harms.mean_loss_ratio, helps.mean_loss_ratio) == (2.0, 0.5)


def test_ranks_are_those_of_a_plain_implementation() -> None:
    chance = random.Random(7)
    answers = [
        [(-chance.expovariate(1.0), -chance.expovariate(0.8)) for _ in range(chance.randint(1, 30))] for _ in range(300)
    ]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def perplexities(answer: list[tuple[float, float]]) -> float:
        return math.exp(-mean([given for given, _ in answer])) / math.exp(-mean([alone for _, alone in answer]))

    def losses(answer: list[tuple[float, float]]) -> float:
        return mean([given for given, _ in answer]) / mean([alone for _, alone in answer])

    ours = [difficulty(tokens(*answer)) for answer in answers]
    order = range(len(answers))
    assert sorted(order, key=lambda n: ours[n].log_perplexity_ratio) == sorted(
        order, key=lambda n: perplexities(answers[n])
    )
    assert sorted(order, key=lambda n: ours[n].mean_loss_ratio or 0) == sorted(order, key=lambda n: losses(answers[n]))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no token is free"),
        ([(math.nan, -1.0)], "no number"),
        ([(-math.inf, -1.0)], "no number"),
        ([(1.0, -1.0)], "above 1"),
    ],
)
def test_what_can_not_be_scored_has_no_number(pairs: list[tuple[float, float]], words: str) -> None:
    with pytest.raises(NothingToScore, match=words):
        difficulty(tokens(*pairs))


def test_a_certain_answer_has_no_ratio_of_losses() -> None:
    found = difficulty(tokens((-1.0, 0.0)))
    assert (found.log_perplexity_ratio, found.mean_loss_ratio) == (1.0, None)


def test_forced_text_is_known_by_construction() -> None:
    """The answer says "Strengths:" itself: that is free."""
    pieces = [Piece("[[", True), Piece("4"), Piece("]]", True), Piece("\nStrengths:\n", True), Piece("Strengths: é")]
    text, forced = joined(pieces)
    assert text == "[[4]]\nStrengths:\nStrengths: é"
    assert forced == (range(2), range(3, 17))


def test_tokens_that_the_format_forces_are_left_out() -> None:
    text, forced = joined([Piece("[[", True), Piece("4"), Piece("]]\n", True), Piece("ok")])
    starts = [0, 2, 3, 5, 6]  # "[[", "4", "]]", "\n", "ok"
    found = free_tokens([TokenLoss(start, -1.0, -1.0) for start in starts], forced, len(text.encode()))
    assert [token.start_byte for token in found] == [2, 6]


def test_a_token_that_reaches_beyond_forced_text_is_free() -> None:
    text, forced = joined([Piece("[[", True), Piece("4"), Piece("]]", True)])
    found = free_tokens([TokenLoss(start, -1.0, -1.0) for start in (0, 1, 3)], forced, len(text.encode()))
    assert [token.start_byte for token in found] == [1]  # "[4"


def test_a_token_across_two_forced_pieces_is_forced() -> None:
    text, forced = joined([Piece("a", True), Piece("b", True), Piece("c")])
    found = free_tokens([TokenLoss(0, -1.0, -1.0), TokenLoss(2, -1.0, -1.0)], forced, len(text))
    assert [token.start_byte for token in found] == [2]


def test_tokens_that_share_a_character_are_free_or_forced_together() -> None:
    text, forced = joined([Piece("é", True), Piece("à")])
    found = free_tokens([TokenLoss(start, -1.0, -1.0) for start in (0, 0, 2, 2)], forced, len(text.encode()))
    assert [token.start_byte for token in found] == [2, 2]


@pytest.mark.parametrize("starts", [(1, 0), (0, 4), (-1, 0)])
def test_tokens_of_another_answer_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        free_tokens([TokenLoss(start, -1.0, -1.0) for start in starts], (), 4)
