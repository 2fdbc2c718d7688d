"""What an evaluation's format forces, and what its writer chose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from themis_judge.verdict import parse_critique
from themis_pipeline.select.ifd import joined
from themis_pipeline.stages.pieces import pieces

WHOLE = (
    "Overall rating (1 to 5): [[4]]\nStrengths:\n- It names Paris. [[5]]\n- It is - brief: [4]. [[4]]\n"
    "Shortcomings:\n- No source. [[2]]\n"
)
FREE = ["4", "It names Paris.", "5", "No source.", "2"]


def free(text: str) -> list[str]:
    return [piece.text for piece in pieces(text) if not piece.forced and piece.text]


def test_points_and_ratings_are_free_and_nothing_else() -> None:
    told = WHOLE.replace("- It is - brief: [4]. [[4]]\n", "")
    assert free(told) == FREE
    assert joined(pieces(told))[0] == told


def test_reasons_may_come_first() -> None:
    lines = WHOLE.replace("- It is - brief: [4]. [[4]]\n", "").splitlines(keepends=True)
    assert free("".join([*lines[1:], lines[0]])) == [*FREE[1:], FREE[0]]


@pytest.mark.parametrize("choice", "ABC")
def test_of_a_pair_the_letter_is_free(choice: str) -> None:
    assert free(f"Better response: [[{choice}]]") == [choice]


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,  # brackets within a point: no such line is the judge's
        "I liked it. [[4]]",
        "Strengths:\n- fine [[5]]\nand more",
        "Better response: [[D]]",
        "Overall rating (1 to 5): [[4]] because",
        "\n",
        "Strengths:\n\n- fine [[5]]\n",
    ],
)
def test_what_is_not_in_the_format_is_free_as_a_whole(text: str) -> None:
    assert [(piece.text, piece.forced) for piece in pieces(text)] == [(text, False)]


POINT = some.text(some.characters(exclude_characters="[]\n", codec="utf-8"), min_size=1).filter(
    lambda text: text == text.strip() and not text.startswith("-") and not set(text) & {"\r", "\t", "\x0b", "\x0c"}
)


@given(some.lists(POINT, min_size=1, max_size=3), some.lists(POINT, min_size=1, max_size=3), some.integers(1, 5))
def test_every_point_that_the_judge_could_write_is_free(good: list[str], bad: list[str], rating: int) -> None:
    """Words of the format within a point are the writer's, and stay free."""
    lists = "".join(
        f"{heading}:\n" + "".join(f"- {text} [[{rating}]]\n" for text in texts)
        for heading, texts in (("Strengths", good), ("Shortcomings", bad))
    )
    text = f"Overall rating (1 to 5): [[{rating}]]\n{lists}"
    assert parse_critique(lists, range(1, 6)) is not None
    digit = str(rating)
    assert free(text) == [digit, *(part for point in [*good, *bad] for part in (point, digit))]
    assert joined(pieces(text))[0] == text
