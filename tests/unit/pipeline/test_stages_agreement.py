"""Agreement: published examples, worked by hand, and the cases in which it is not defined."""

from __future__ import annotations

import pytest

from themis_pipeline.stages.agreement import (
    Agreed,
    agreed_choice,
    agreed_rating,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    nominal,
    report,
)


@pytest.mark.parametrize(
    ("ratings", "agreed"),
    [
        ([4, 4, 2], Agreed(4, 2 / 3, True)),
        ([5], Agreed(5, 1.0, True)),
        ([1, 3, 5], Agreed(3, 1 / 3, False)),  # the mean is 3
        ([1, 2, 4], Agreed(2, 1 / 3, False)),  # 7/3
        ([1, 3, 4], Agreed(3, 1 / 3, False)),  # 8/3
        ([4, 5], Agreed(5, 0.5, False)),  # 9/2
        ([1, 1, 5, 5], Agreed(3, 0.0, False)),  # half is no majority
    ],
)
def test_a_majority_or_else_the_rounded_mean(ratings: list[int], agreed: Agreed) -> None:
    assert agreed_rating(ratings) == agreed
    assert agreed_rating(ratings[::-1]) == agreed


def test_no_label_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="no rating"):
        agreed_rating([])
    with pytest.raises(ValueError, match="no choice"):
        agreed_choice([])


def test_a_preference_without_a_majority_is_a_tie() -> None:
    assert agreed_choice(["A", "A", "B"]) == ("A", 2 / 3)
    assert agreed_choice(["A", "B", "tie"]) == ("tie", 1 / 3)
    assert agreed_choice(["A", "B"]) == ("tie", 0.0)


def test_cohens_kappa_of_two_reviewers_of_fifty_applications() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_cohens_kappa_at_its_ends() -> None:
    assert cohen_kappa([1, 2, 3], [1, 2, 3]) == 1
    assert cohen_kappa([1, 2], [2, 1]) == -1
    assert cohen_kappa([4, 4], [4, 4]) is None
    assert cohen_kappa([], []) is None


def test_fleiss_kappa_of_ten_subjects_and_fourteen_raters() -> None:
    # The example of the Wikipedia article: observed 0.378, expected 0.213.
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    items = [[label for label, count in enumerate(row) for _ in range(count)] for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=0.0005)


def test_fleiss_kappa_where_it_is_not_defined() -> None:
    assert fleiss_kappa([[1, 1], [1, 1]]) is None
    assert fleiss_kappa([]) is None
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[1, 1], [1]])


def test_krippendorffs_alpha_of_three_coders_with_gaps() -> None:
    # The example of the Wikipedia article: 0.691 nominal, 0.811 interval.
    a = [None, None, None, None, None, 3, 4, 1, 2, 1, 1, 3, 3, None, 3]
    b = [1, None, 2, 1, 3, 3, 4, 3, None, None, None, None, None, None, None]
    c = [None, None, 2, 1, 3, 4, 4, None, 2, 1, 1, 3, 3, None, 4]
    items = [[value for value in unit if value is not None] for unit in zip(a, b, c, strict=True)]
    assert krippendorff_alpha(items, nominal) == pytest.approx(0.691, abs=0.0005)
    assert krippendorff_alpha(items) == pytest.approx(0.811, abs=0.0005)


def test_krippendorffs_alpha_where_it_is_not_defined() -> None:
    assert krippendorff_alpha([[3, 3], [3]]) is None
    assert krippendorff_alpha([[1], [2]]) is None


def test_a_report_has_each_two_annotators_over_what_both_labelled() -> None:
    labels = {"1": {"x": 1, "y": 1}, "2": {"x": 2, "y": 2, "z": 1}, "3": {"z": 2}}
    found = report(labels)
    assert (found.items, found.labels) == (3, 6)
    assert found.kappas == {("x", "y"): 1.0, ("x", "z"): 0.0, ("y", "z"): 0.0}
    # Observed: item 1's labels don't differ; item 2's ordered pairs (2, 1) and (1, 2) come twice each: 4 / (3 - 1) = 2.
    # Expected: 1 three times, 2 twice: 2 * 3 * 2 / (5 - 1) = 3.
    assert found.alpha == pytest.approx(1 - 2 / 3)
