"""What fails, fails alone, with a status and without a number."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests.unit.judge.fakes import FakeEngine, assert_failed, item, loaded, logs
from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Labels,
    LabelScores,
    PromptTooLong,
    Unsupported,
)
from themis_judge.items import (
    Image,
    Item,
    Message,
    Options,
    ReasoningMode,
    Status,
)
from themis_judge.version import JudgeSettings


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EngineError("broken"), Status.ENGINE_ERROR),
        (EngineUnavailable("down"), Status.UNAVAILABLE),
        (EngineOverloaded("full", 3.0), Status.OVERLOADED),
        (PromptTooLong("long"), Status.TOO_LONG),
        (DeadlineExceeded("late"), Status.DEADLINE_EXCEEDED),
        (Unsupported("no"), Status.UNSUPPORTED),
    ],
)
async def test_an_engines_error_is_its_items_alone(error: EngineError, status: Status) -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if "poison" in text:
            raise error
        return logs(0.2, 0.2, 0.2, 0.2, 0.2)

    judge = await loaded(FakeEngine(answer))
    before, failed, after = await judge.score_all([item("One."), item("poison"), item("Two.")])
    assert_failed(failed, status, str(error))
    assert failed.scenario == "close_qa"
    assert (before.status, after.status) == (Status.OK, Status.OK)
    assert (before.error, after.error) == ("", "")


async def test_a_bug_is_not_taken_for_an_items_failure() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await (await loaded(FakeEngine(answer))).score_one(item())


@pytest.mark.parametrize(
    ("scores", "error", "reason"),
    [
        (LabelScores(logs(0.1, 0.1, 0.1, 0.1, 0.05)), "0.45", "label_mass"),
        (LabelScores((math.nan,) * 5), "none of the labels", "no_label"),
        (LabelScores((-1.0, -1.0, math.nan, -1.0, -1.0)), "none of the labels", "no_label"),
        (LabelScores((-math.inf,) * 5), "none of the labels", "no_label"),
        (LabelScores(None), "none of the labels", "no_label"),
    ],
)
async def test_what_is_no_rating_becomes_no_number(scores: LabelScores, error: str, reason: str) -> None:
    judge = await loaded(FakeEngine(lambda text, labels: scores))
    result = await judge.score_one(item())
    assert_failed(result, Status.OFF_FORMAT, error)
    assert result.off_format == reason


async def test_the_threshold_is_a_setting_and_belongs_to_the_good() -> None:
    def engine() -> FakeEngine:
        return FakeEngine(lambda text, labels: logs(0.25, 0.25, 0.0, 0.0, 0.0))

    for threshold, status in (
        (0.0, Status.OK),
        (0.4999, Status.OK),
        (0.5001, Status.OFF_FORMAT),
        (1.0, Status.OFF_FORMAT),
    ):
        result = await (await loaded(engine(), JudgeSettings(label_mass_threshold=threshold))).score_one(item())
        assert result.status is status
        assert (result.verdict is not None) == (status is Status.OK)


async def test_an_engine_without_probabilities_is_taken_at_its_word() -> None:
    judge = await loaded(FakeEngine(lambda text, labels: LabelScores(None, chosen=3), as_text=True))
    result = await judge.score_one(item())
    assert result.verdict
    assert (result.verdict.rating.expected, result.verdict.score, result.verdict.entropy) == (4.0, 0.75, None)


@pytest.mark.parametrize(
    ("wrong", "status", "field"),
    [
        (item(""), Status.INVALID, "response.messages"),
        (item(scenario="sports"), Status.INVALID, "scenario"),
        (item(messages=(Message("user", (Image(),)),)), Status.UNSUPPORTED, "messages[0].parts[0].image"),
    ],
)
async def test_what_can_not_be_judged_never_reaches_the_engine(wrong: Item, status: Status, field: str) -> None:
    engine = FakeEngine()
    bad, good = await (await loaded(engine)).score_all([wrong, item()])
    assert_failed(bad, status, field)
    assert bad.error_field == field
    assert good.status is Status.OK
    assert len(engine.label_calls) == 1


async def test_options_are_checked() -> None:
    engine = FakeEngine()
    result = await (await loaded(engine)).score_one(item(), Options(ReasoningMode(samples=0)))
    assert_failed(result, Status.INVALID)
    assert result.error_field == "reasoning.samples"
    assert engine.generate_calls == []


async def test_after_its_deadline_an_item_is_not_begun() -> None:
    engine = FakeEngine()
    late = await (await loaded(engine)).score_one(item(), deadline=Deadline.after(0))
    assert_failed(late, Status.DEADLINE_EXCEEDED)
    assert engine.label_calls == []


async def test_a_deadline_ends_the_waiting() -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    result = await (await loaded(engine)).score_one(item(), deadline=Deadline.after(0.01))
    assert_failed(result, Status.DEADLINE_EXCEEDED)


async def test_a_caller_that_leaves_is_not_told_anything() -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    judge = await loaded(engine)
    scoring = asyncio.create_task(judge.score_one(item()))
    await engine.started.wait()
    scoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scoring
