"""A failed item can't be taken for a number, whatever is tried."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from themis_client import Failure, ItemFailed, Results, Score, Status, Verdict
from themis_client.failure import NUMERIC

FAILURE = Failure(Status.OVERLOADED, "no room", key="k")
SCORE = Score(Verdict(3.0, 3, 0.5), version="v1")


@pytest.mark.parametrize("name", sorted(NUMERIC))
def test_it_has_no_numeric_attribute(name: str) -> None:
    with pytest.raises(ItemFailed, match="no room"):
        getattr(FAILURE, name)


def test_other_attributes_are_simply_missing() -> None:
    assert not hasattr(FAILURE, "reward")


@pytest.mark.parametrize(
    "use", [float, int, complex, bool, round, abs, math.floor, math.ceil, math.isnan, operator.index, operator.neg]
)
def test_it_does_not_convert(use: Callable[[Any], object]) -> None:
    with pytest.raises(ItemFailed):
        use(FAILURE)


@pytest.mark.parametrize(
    "use",
    [
        *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow),
        divmod,
    ],
)
def test_it_does_not_compare_or_compute(use: Callable[[Any, Any], object]) -> None:
    with pytest.raises(ItemFailed):
        use(FAILURE, 0.5)
    with pytest.raises(ItemFailed):
        use(0.5, FAILURE)


def test_aggregates_raise() -> None:
    results: list[Any] = [FAILURE, FAILURE]
    for aggregate in (sum, min, max, sorted, any, all, math.fsum):
        with pytest.raises(ItemFailed):
            aggregate(results)


def test_failures_compare_with_each_other() -> None:
    assert copy.deepcopy(FAILURE) == FAILURE
    assert Failure(Status.OVERLOADED, "no room") != FAILURE
    assert FAILURE != "no room"
    assert len({FAILURE, copy.copy(FAILURE)}) == 1


def test_it_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(FAILURE)) == FAILURE
    error = pickle.loads(pickle.dumps(ItemFailed("x", [FAILURE])))
    assert error.failures == (FAILURE,)
    assert str(error) == "x"


@pytest.mark.parametrize("status", list(Status))
def test_what_a_retry_may_help(status: Status) -> None:
    helped = {Status.DEADLINE_EXCEEDED, Status.OVERLOADED, Status.UNAVAILABLE, Status.ENGINE_ERROR}
    assert Failure(status, "").retryable == (status in helped)


def test_a_score_converts() -> None:
    assert float(SCORE) == SCORE.score == 0.5
    assert SCORE.expected_rating == 3.0


def test_results_know_what_failed() -> None:
    results = Results([SCORE, FAILURE])
    assert results.ok == [SCORE]
    assert results.failed == [FAILURE]
    assert list(results) == [SCORE, FAILURE]
    assert results[-1] == FAILURE
    assert results[:1] == [SCORE]
    with pytest.raises(ItemFailed, match="1 of 2 items failed; the first: item 'k' failed with OVERLOADED") as caught:
        results.raise_if_failed()
    assert caught.value.failures == (FAILURE,)
    assert Results([SCORE]).raise_if_failed() == [SCORE]
    assert Results[Score]([]).raise_if_failed() == []
