"""Comparing two responses."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.judge.fakes import QUESTION, FakeEngine, loaded, logs, rubric
from themis_judge.comparing import average
from themis_judge.engines.base import Deadline, EngineError, EngineUnavailable, Labels, LabelScores
from themis_judge.items import (
    Comparison,
    Message,
    Orders,
    Reasoning,
    ReasoningPolicy,
    Response,
    Status,
    Text,
)
from themis_judge.version import JudgeSettings

PAIR = Comparison(QUESTION, Response.of("Paris."), Response.of("Lyon."), scenario="close_qa")
SWAPPED = replace(PAIR, response_a=PAIR.response_b, response_b=PAIR.response_a)


def likes_the_first(text: str, labels: Labels) -> tuple[float, ...]:
    """Whatever it is."""
    return logs(0.6, 0.3, 0.1)


def likes_paris(text: str, labels: Labels) -> tuple[float, ...]:
    first = text.index("Paris.") < text.index("Lyon.")
    return logs(0.7, 0.1, 0.2) if first else logs(0.2, 0.6, 0.2)


async def test_both_orders_are_asked_and_averaged() -> None:
    engine = FakeEngine(likes_paris)
    result = await (await loaded(engine)).compare_one(PAIR)
    first, second = (call.text for call in engine.label_calls)
    assert {call.labels.texts for call in engine.label_calls} == {("A", "B", "C")}
    blocks = "Response A:\n[BEGIN response A 1]\n{}\n[END response A 1]\n\nResponse B:\n[BEGIN response B 1]\n{}\n"
    assert blocks.format("Paris.", "Lyon.") in first
    assert blocks.format("Lyon.", "Paris.") in second
    assert first.endswith("Better response: [[")
    assert engine.label_calls[0].prompt.segments[:2] == engine.label_calls[1].prompt.segments[:2]
    assert result.status is Status.OK
    assert result.verdict
    assert result.verdict.choice == "A"
    assert result.verdict.probabilities == pytest.approx((0.65, 0.15, 0.2), abs=1e-12)
    assert result.verdict.order_disagreement == pytest.approx(0.1, abs=1e-12)
    assert result.verdict.label_mass == pytest.approx(1.0, abs=1e-12)
    assert result.scenario == "close_qa"


async def test_a_judge_that_likes_the_first_cancels_itself_out() -> None:
    result = await (await loaded(FakeEngine(likes_the_first))).compare_one(PAIR)
    assert result.verdict
    assert result.verdict.probabilities == pytest.approx((0.45, 0.45, 0.1), abs=1e-12)
    assert result.verdict.choice == "tie"
    assert result.verdict.order_disagreement == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("orders", "probabilities"), [(Orders.A_FIRST, (0.6, 0.3, 0.1)), (Orders.B_FIRST, (0.3, 0.6, 0.1))]
)
async def test_one_order_alone(orders: Orders, probabilities: tuple[float, float, float]) -> None:
    engine = FakeEngine(likes_the_first)
    result = await (await loaded(engine)).compare_one(PAIR, orders)
    assert len(engine.label_calls) == 1
    assert result.verdict
    assert result.verdict.probabilities == pytest.approx(probabilities, abs=1e-12)
    assert result.verdict.order_disagreement is None
    assert result.verdict.choice == ("A" if orders is Orders.A_FIRST else "B")


_probabilities = st.tuples(*[st.floats(min_value=0.01, max_value=1)] * 3)


@settings(max_examples=25)
@given(_probabilities, _probabilities)
def test_exchanging_the_responses_mirrors_the_probabilities(
    one: tuple[float, float, float], two: tuple[float, float, float]
) -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        first = text.index("Paris.") < text.index("Lyon.")
        return tuple(math.log(p) - math.log(3) for p in (one if first else two))

    async def both() -> None:
        judge = await loaded(FakeEngine(answer, as_text=True), JudgeSettings(label_mass_threshold=0.0))
        found, mirrored = (await judge.compare_one(PAIR)).verdict, (await judge.compare_one(SWAPPED)).verdict
        assert found
        assert mirrored
        a, b, tie = found.probabilities
        assert mirrored.probabilities == (b, a, tie)
        assert mirrored.choice == {"A": "B", "B": "A", "tie": "tie"}[found.choice]
        assert mirrored.order_disagreement == found.order_disagreement
        assert sum(found.probabilities) == pytest.approx(1.0, abs=1e-12)

    asyncio.run(both())


async def test_the_orders_share_their_questions_with_the_exchanged_pair() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    await judge.compare_one(PAIR)
    await judge.compare_one(SWAPPED)
    assert len(engine.label_calls) == 2


async def test_equal_responses_are_as_good_as_each_other() -> None:
    same = replace(PAIR, response_b=PAIR.response_a)
    result = await (await loaded(FakeEngine(likes_the_first))).compare_one(same)
    assert result.verdict
    a, b, _ = result.verdict.probabilities
    assert a == b
    assert result.verdict.choice == "tie"


@pytest.mark.parametrize(
    ("probabilities", "choice"),
    [
        ((0.5, 0.3, 0.2), "A"),
        ((0.3, 0.5, 0.2), "B"),
        ((0.3, 0.3, 0.4), "tie"),
        ((0.45, 0.45, 0.1), "tie"),
        ((0.4, 0.2, 0.4), "tie"),
        ((0.2, 0.4, 0.4), "tie"),
    ],
)
def test_the_choice_is_the_most_probable_and_doubt_is_a_tie(
    probabilities: tuple[float, float, float], choice: str
) -> None:
    assert average([(probabilities, None)]).choice == choice


def test_the_lower_mass_of_both_orders_is_told() -> None:
    found = average([((1.0, 0.0, 0.0), 0.9), ((0.0, 1.0, 0.0), 0.7)])
    assert (found.label_mass, found.order_disagreement) == (0.7, 1.0)
    assert average([((1.0, 0.0, 0.0), None)] * 2).label_mass is None


async def test_an_engine_without_probabilities_votes() -> None:
    def answer(text: str, labels: Labels) -> LabelScores:
        return LabelScores(None, chosen=0)

    result = await (await loaded(FakeEngine(answer, as_text=True))).compare_one(PAIR)
    assert result.verdict
    assert result.verdict.probabilities == (0.5, 0.5, 0.0)
    assert (result.verdict.choice, result.verdict.order_disagreement) == ("tie", 1.0)


# ---------------------------------------------------------------------------------------------------- its context


async def test_references_and_rubrics_hold_for_pairs() -> None:
    engine = FakeEngine(likes_the_first)
    judge = await loaded(engine)
    await judge.compare_one(replace(PAIR, reference="It is Paris.", rubric=rubric()))
    await judge.compare_one(replace(PAIR, reference="It is Paris.", scenario="role_play"))
    shown, _, dropped, _ = (call.text for call in engine.label_calls)
    assert "[BEGIN reference 1]\nIt is Paris." in shown
    assert "1. Check 1: It passes check 1." in shown
    assert "It is Paris." not in dropped


async def test_the_scenario_of_a_pair_is_classified() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        return logs(*(1.0 if n == 0 else 0.0 for n in range(len(labels.texts))))

    engine = FakeEngine(answer)
    judge = await loaded(engine)
    result = await judge.compare_one(replace(PAIR, scenario=""))
    assert result.scenario == next(iter(judge.scenarios))
    assert [len(call.labels.texts) for call in engine.label_calls] == [10, 3, 3]


@pytest.mark.parametrize("policy", ReasoningPolicy)
async def test_reasoning_is_shown_if_it_is_judged(policy: ReasoningPolicy) -> None:
    engine = FakeEngine()
    thought = Response((Message("assistant", (Reasoning("Hm."), Text("Paris."))),))
    await (await loaded(engine)).compare_one(replace(PAIR, response_a=thought), reasoning_policy=policy)
    shown = ["[BEGIN response A reasoning 1]\nHm." in engine.label_calls[0].text, "Hm." in engine.label_calls[1].text]
    assert shown == [policy is ReasoningPolicy.JUDGE] * 2


async def test_both_prompts_are_shown_if_asked_for() -> None:
    judge = await loaded(FakeEngine())
    result = await judge.compare_one(PAIR, return_prompt=True)
    assert len(result.prompts) == 2
    assert result.prompts[0].index("Paris.") < result.prompts[0].index("Lyon.")
    assert result.prompts[1].index("Paris.") > result.prompts[1].index("Lyon.")
    assert (await judge.compare_one(PAIR)).prompts == ()


# -------------------------------------------------------------------------------------------------------- failures


async def test_one_order_that_fails_is_no_preference() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if text.index("Lyon.") < text.index("Paris."):
            raise EngineError("broken")
        return logs(0.6, 0.3, 0.1)

    result = await (await loaded(FakeEngine(answer))).compare_one(PAIR)
    assert (result.status, result.verdict, result.error) == (Status.ENGINE_ERROR, None, "broken")


async def test_one_order_off_format_is_no_preference() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        return logs(0.2, 0.1, 0.1) if text.index("Lyon.") < text.index("Paris.") else logs(0.6, 0.3, 0.1)

    result = await (await loaded(FakeEngine(answer))).compare_one(PAIR)
    assert (result.status, result.verdict, result.off_format) == (Status.OFF_FORMAT, None, "label_mass")


async def test_failures_have_their_statuses() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        raise EngineUnavailable("down")

    judge = await loaded(FakeEngine(answer))
    assert (await judge.compare_one(PAIR)).status is Status.UNAVAILABLE
    invalid = await judge.compare_one(replace(PAIR, response_b=Response.of("")))
    assert (invalid.status, invalid.error_field) == (Status.INVALID, "response_b.messages")
    late = await judge.compare_one(PAIR, deadline=Deadline.after(0))
    assert late.status is Status.DEADLINE_EXCEEDED
    short = await (await loaded(FakeEngine(context_tokens=500))).compare_one(PAIR)
    assert (short.status, short.verdict) == (Status.TOO_LONG, None)
