"""How alike two instructions are."""

from __future__ import annotations

import pytest

from themis_pipeline.stages.siblings import least_like, likeness


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("When was the bridge built?", "Who built the bridge?", 1.0),
        ("Why do otters float?", "Which trees bear cork?", 0.0),
        ("Why do otters float?", "Why do otters sink?", 1 / 3),
        ("软木为什么浮在水上", "软木为什么浮在水上", 1.0),
        ("软木为什么浮", "水獭睡在哪里", 0.0),
        ("?", "?", 1.0),
    ],
)
def test_words_that_say_something_are_compared(one: str, other: str, expected: float) -> None:
    assert likeness(one, other) == pytest.approx(expected)
    assert likeness(other, one) == pytest.approx(expected)


def test_the_least_alike_is_chosen_and_none_where_all_are_alike() -> None:
    assert least_like(["otters float", "otters float high", "cork trees"], 0) == 2
    assert least_like(["otters float", "otters float high"], 0) is None
    assert least_like(["otters float"], 0) is None
