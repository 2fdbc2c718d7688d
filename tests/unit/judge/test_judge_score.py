"""Scoring items one by one and many at once: what is asked, and what comes back."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.judge.fakes import FIVE, ByteTokenizer, FakeEngine, assert_failed, item, loaded, logs, rubric
from themis_judge.engines.base import (
    EngineError,
    Labels,
    Usage,
)
from themis_judge.items import (
    Message,
    Options,
    Reasoning,
    ReasoningPolicy,
    Response,
    Status,
    Text,
)
from themis_judge.judge import Judge
from themis_judge.version import JudgeSettings

# -------------------------------------------------------------------------------------------------------- rating


async def test_an_item_is_rated_by_one_question() -> None:
    engine = FakeEngine(lambda text, labels: logs(0.0, 0.05, 0.15, 0.3, 0.4))
    judge = await loaded(engine)
    result = await judge.score_one(item())
    (call,) = engine.label_calls
    assert call.labels.texts == FIVE
    assert call.text.startswith("<|user|>You are a strict and fair judge")
    assert call.text.endswith("<|end|><|assistant|>Overall rating (1 to 5): [[")
    assert "[BEGIN response 1]\nParis.\n[END response 1]" in call.text
    assert result.status is Status.OK
    assert result.verdict
    assert result.verdict.rating.probabilities == pytest.approx((0, 1 / 18, 1 / 6, 1 / 3, 4 / 9), abs=1e-12)
    assert result.verdict.rating.label_mass == pytest.approx(0.9, abs=1e-12)
    assert result.verdict.rating.expected == pytest.approx(75 / 18, abs=1e-12)
    assert result.verdict.score == pytest.approx((75 / 18 - 1) / 4, abs=1e-12)
    assert result.verdict.rating.chosen == 5
    assert (result.error, result.error_field, result.scenario) == ("", "", "close_qa")
    assert result.scenario_probability is None
    assert result.usage == Usage(prompt_tokens=len(call.prompt))
    assert result.prompt is None
    assert (result.truncated_tokens, result.reference_used) == (0, False)


async def test_the_prompt_is_shown_if_asked_for() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    result = await judge.score_one(item(), Options(return_prompt=True))
    assert result.prompt
    read = engine.label_calls[0].text
    assert read == "<|user|>" + result.prompt.replace("\n\nOverall", "\n<|end|><|assistant|>Overall")


async def test_results_stand_in_the_items_order() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if "poison" in text:
            raise EngineError("no")
        rating = int(text.split("Rated ")[1][0])
        return logs(*(float(n == rating) for n in range(1, 6)))

    judge = await loaded(FakeEngine(answer))
    results = await judge.score_all([item(f"Rated {n % 5 + 1}." if n != 3 else "poison") for n in range(10)])
    ratings = [result.verdict.rating.chosen if result.verdict else None for result in results]
    assert ratings == [1, 2, 3, None, 5, 1, 2, 3, 4, 5]


async def test_two_thousand_items_at_once() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    results = await judge.score_all([item(f"Answer {n % 500}.") for n in range(2000)])
    assert [result.status for result in results] == [Status.OK] * 2000
    assert len(engine.label_calls) == 500
    assert [result.verdict for result in results[:500]] == [result.verdict for result in results[1500:]]
    assert isinstance(engine.tokenizer, ByteTokenizer)
    heads = [text for text in engine.tokenizer.encoded if text.startswith("You are a strict")]
    assert [engine.tokenizer.encoded[head] for head in heads] == [1] * len(heads)


def test_a_judge_scores_without_a_server() -> None:
    engine = FakeEngine()
    judge = Judge(engine)
    first = judge.score([item("One."), item("Two.")])
    again = judge.score([item("Two.")])
    assert [result.status for result in (*first, *again)] == [Status.OK] * 3
    assert again[0].verdict == first[1].verdict
    assert engine.loads == 1
    assert judge.score([]) == []


async def test_a_judge_that_is_not_loaded_says_so() -> None:
    judge = Judge(FakeEngine())
    with pytest.raises(RuntimeError, match="load"):
        _ = judge.version
    with pytest.raises(RuntimeError, match="load"):
        await judge.score_one(item())
    await judge.load()
    assert judge.version.base_model == "fake-judge"
    await judge.unload()
    with pytest.raises(RuntimeError, match="load"):
        _ = judge.version


async def test_equal_items_get_equal_bits_from_one_question() -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    judge = await loaded(engine)
    scoring = asyncio.gather(*(judge.score_one(item(key=str(n), group="g")) for n in range(16)))
    await engine.started.wait()
    engine.gate.set()
    results = await scoring
    assert len(engine.label_calls) == 1
    assert {result.verdict for result in results} == {results[0].verdict}


# ------------------------------------------------------------------------------------------------ custom rubrics


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 3), (1, 10), (-2, 2)])
async def test_a_rubric_of_the_items_own(low: int, high: int) -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    result = await judge.score_one(item(rubric=rubric(low, high)))
    (call,) = engine.label_calls
    assert call.labels.texts == tuple(map(str, range(low, high + 1)))
    assert "Check 1: It passes check 1." in call.text
    assert "[BEGIN criteria 1]\n1. Check 1" in call.text
    assert call.text.endswith(f"Overall rating ({low} to {high}): [[")
    assert result.verdict
    rating = result.verdict.rating
    assert rating.ratings == tuple(range(low, high + 1))
    assert result.verdict.score == pytest.approx((rating.expected - low) / (high - low), abs=1e-12)


async def test_ratings_of_several_digits_are_asked_as_sequences() -> None:
    engine = FakeEngine()
    await (await loaded(engine)).score_one(item(rubric=rubric(1, 10)))
    sequences = engine.label_calls[0].labels.sequences
    assert sequences[0] == tuple(b"1]")
    assert sequences[9] == tuple(b"10]")


async def test_a_rubric_does_not_stay_for_the_next_item() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    await judge.score_one(item(rubric=rubric(0, 1)))
    await judge.score_one(item())
    assert engine.label_calls[1].labels.texts == FIVE
    assert "It passes check 1." not in engine.label_calls[1].text


async def test_labels_that_the_tokenizer_does_not_tell_apart_fail_their_item() -> None:
    class Blind(ByteTokenizer):
        """Tells no digits apart from 6 on."""

        def control(self, text: str) -> list[int]:
            return super().control(text.replace("7", "6"))

    judge = await loaded(FakeEngine(tokenizer=Blind()))
    good, bad = await judge.score_all([item(), item(rubric=rubric(1, 7))])
    assert good.status is Status.OK
    assert_failed(bad, Status.UNSUPPORTED, "apart")


# ---------------------------------------------------------------------------------------------------- references


async def test_references_are_used_where_the_scenario_says_so() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    used, dropped, absent = await judge.score_all(
        [item(reference="It is Paris."), item(scenario="role_play", reference="It is Paris."), item()]
    )
    assert (used.reference_used, dropped.reference_used, absent.reference_used) == (True, False, False)
    with_reference, without, plain = (call.text for call in engine.label_calls)
    assert "Reference answer:\n[BEGIN reference 1]\nIt is Paris." in with_reference
    assert "better than the reference answer" in with_reference
    assert "It is Paris." not in without
    assert "reference answer" not in without + plain


async def test_the_reference_policy_is_a_setting() -> None:
    engine = FakeEngine()
    judge = await loaded(engine, JudgeSettings(reference_scenarios=frozenset({"role_play"})))
    dropped, used = await judge.score_all([item(reference="R."), item(scenario="role_play", reference="R.")])
    assert (used.reference_used, dropped.reference_used) == (True, False)
    assert judge.version.reference_scenarios == ("role_play",)


# ----------------------------------------------------------------------------------------------------- reasoning


THOUGHT = Response((Message("assistant", (Reasoning("Let me think."), Text("It is Paris."))),))


async def test_reasoning_is_stripped_by_default() -> None:
    engine = FakeEngine()
    result = await (await loaded(engine)).score_one(item(THOUGHT))
    (call,) = engine.label_calls
    assert "Let me think." not in call.text
    assert result.reasoning_verdict is None


async def test_reasoning_is_judged_with_the_answer() -> None:
    engine = FakeEngine()
    result = await (await loaded(engine)).score_one(item(THOUGHT), Options(reasoning_policy=ReasoningPolicy.JUDGE))
    (call,) = engine.label_calls
    assert "[BEGIN response reasoning 1]\nLet me think.\n[END response reasoning 1]\n[BEGIN response 1]" in call.text
    assert result.reasoning_verdict is None


async def test_reasoning_is_judged_apart() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    apart = Options(reasoning_policy=ReasoningPolicy.APART)
    result = await judge.score_one(item(THOUGHT), apart)
    answer, reasoning = (call.text for call in engine.label_calls)
    assert "Let me think." not in answer
    assert "Response to rate:\n[BEGIN response 1]\nIt is Paris." in answer
    assert "Reasoning to rate:\n[BEGIN response reasoning 1]\nLet me think." in reasoning
    assert "It is Paris." not in reasoning
    assert result.verdict
    assert result.reasoning_verdict
    assert result.verdict != result.reasoning_verdict
    assert (await judge.score_one(item(), apart)).reasoning_verdict is None


async def test_without_any_reasoning_the_policies_ask_the_same() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    results = [await judge.score_one(item(), Options(reasoning_policy=policy)) for policy in ReasoningPolicy]
    assert len(engine.label_calls) == 1
    assert len({result.verdict for result in results}) == 1


@pytest.mark.parametrize("policy", [ReasoningPolicy.STRIP, ReasoningPolicy.APART])
async def test_a_response_of_reasoning_alone_holds_no_answer_to_rate(policy: ReasoningPolicy) -> None:
    """A policy that was cut while it thought: an empty answer can't be rated, and gets no rating."""
    engine = FakeEngine()
    only = Response((Message("assistant", (Reasoning("Let me think."), Text(" "))),))
    result = await (await loaded(engine)).score_one(item(only), Options(reasoning_policy=policy))
    assert_failed(result, Status.INVALID)
    assert result.error_field == "response.messages"
    judged = await (await loaded(engine)).score_one(item(only), Options(reasoning_policy=ReasoningPolicy.JUDGE))
    assert judged.status is Status.OK
