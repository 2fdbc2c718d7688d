"""From scores to rewards: every figure by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from themis_client import FinishReason, Reasoning, ReasoningPolicy, ScoreOptions, Text
from themis_client.adapters import (
    JudgePart,
    LengthPenalty,
    NoReward,
    Reward,
    RewardSettings,
    Sample,
    Thinking,
    TruncationPenalty,
)
from themis_client.adapters.composing import before_judging, compose, metrics
from themis_client.adapters.sample import sample
from themis_client.failure import Failure, Status
from themis_client.results import Score, Scored, Verdict


def scored(value: float, reasoning: float | None = None) -> Score:
    apart = None if reasoning is None else Verdict(1 + 4 * reasoning, 1, reasoning)
    return Score(Verdict(1 + 4 * value, 1, value), "v1", reasoning_verdict=apart)


def plain(tokens: int | None = None, finish: FinishReason = FinishReason.STOP) -> Sample:
    return sample("Q", "A", Thinking(), completion_tokens=tokens, finish_reason=finish)


def composed(settings: RewardSettings, one: Sample, **scores: Scored) -> Reward:
    outcome = compose(one, scores, settings)
    assert isinstance(outcome, Reward)
    return outcome


def test_one_judge_gives_its_score() -> None:
    reward = composed(RewardSettings(), plain(), judge=scored(0.75))
    assert (reward.value, reward.scores, reward.versions) == (0.75, {"judge": 0.75}, {"judge": "v1"})
    assert (reward.clipped, reward.named, float(reward)) == (False, "", 0.75)


def test_parts_are_weighted_and_then_penalised_scaled_and_clipped() -> None:
    settings = RewardSettings(
        parts=(JudgePart("a", 0.5), JudgePart("b", -2.0)),
        length=LengthPenalty(10, 20, 0.4),
        truncated=TruncationPenalty(0.1),
        scale=2.0,
        shift=1.0,
        clip=(-1.0, 5.0),
    )
    reward = composed(settings, plain(15, FinishReason.LENGTH), a=scored(0.5), b=scored(0.25))
    assert reward.value == pytest.approx(1.0 + 2.0 * (0.25 - 0.5 - 0.2 - 0.1))
    assert (reward.length_penalty, reward.truncation_penalty, reward.clipped) == (0.2, 0.1, False)
    low = composed(settings, plain(99, FinishReason.LENGTH), a=scored(0.0), b=scored(1.0))
    assert (low.value, low.clipped) == (-1.0, True)


@pytest.mark.parametrize(("tokens", "penalty"), [(0, 0.0), (10, 0.0), (15, 0.25), (20, 0.5), (1000, 0.5)])
def test_the_length_penalty_grows_in_proportion(tokens: int, penalty: float) -> None:
    assert LengthPenalty(10, 20, 0.5).of(tokens) == penalty


def test_a_part_that_failed_leaves_no_reward() -> None:
    settings = RewardSettings(parts=(JudgePart("a"), JudgePart("b")))
    failed = Failure(Status.OFF_FORMAT, "no rating", field="items[0].response")
    outcome = compose(plain(), {"a": scored(1.0), "b": failed}, settings)
    assert outcome == NoReward("OFF_FORMAT", "items[0].response: no rating", "b")


def test_reasoning_is_scored_apart_with_a_weight_of_its_own() -> None:
    part = JudgePart(options=ScoreOptions(reasoning_policy=ReasoningPolicy.APART), reasoning_weight=0.5)
    settings = RewardSettings(parts=(part,))
    reward = composed(settings, plain(), judge=scored(0.5, reasoning=1.0))
    assert (reward.value, reward.scores) == (1.0, {"judge": 0.5, "judge/reasoning": 1.0})
    missing = compose(plain(), {"judge": scored(0.5)}, settings)
    assert isinstance(missing, NoReward)
    assert missing.status == "OFF_FORMAT"


def test_a_cut_completion_has_a_status_of_its_own() -> None:
    settings = RewardSettings(truncated="fail")
    outcome = before_judging(plain(finish=FinishReason.LENGTH), settings)
    assert isinstance(outcome, NoReward)
    assert outcome.status == "TRUNCATED"
    assert before_judging(plain(finish=FinishReason.STOP), settings) is None
    assert before_judging(plain(finish=FinishReason.LENGTH), RewardSettings()) is None
    unknown = before_judging(plain(finish=FinishReason.UNSPECIFIED), settings)
    assert isinstance(unknown, NoReward)
    assert unknown.status == "INVALID"


def test_reasoning_without_an_answer_fails_or_gets_what_was_named() -> None:
    unanswered = sample("Q", "<think>so", Thinking())
    outcome = before_judging(unanswered, RewardSettings())
    assert isinstance(outcome, NoReward)
    assert outcome.status == "NO_ANSWER"
    named = before_judging(unanswered, RewardSettings(thinking=Thinking(no_answer=-1.0)))
    assert named == Reward(-1.0, named="thinking.no_answer")


def test_a_length_penalty_without_a_length_is_no_reward() -> None:
    outcome = before_judging(plain(None), RewardSettings(length=LengthPenalty(1, 2)))
    assert isinstance(outcome, NoReward)
    assert outcome.status == "INVALID"


def test_metrics_have_the_same_names_whatever_came_out() -> None:
    settings = RewardSettings(clip=(0.0, 0.5), scale=2.0, length=LengthPenalty(1, 2), truncated=TruncationPenalty(0.25))
    good = composed(settings, plain(1), judge=scored(0.5))
    cut = NoReward("INVALID", "x", truncated=True)
    told = metrics([good, cut, Reward(-1.0, named="thinking.no_answer"), good], settings)
    assert told == {
        "score/judge": 0.5, "failed_share": 0.25, "named_share": 0.25, "truncated_share": 0.25, "length_penalty": 0.0,
        "truncation_penalty": 0.0, "clipped_share": 1.0, "scale": 2.0, "shift": 0.0,
    }  # fmt: skip
    nothing = metrics([NoReward("INVALID", "x")], settings)
    assert nothing.keys() == told.keys()
    assert math.isnan(nothing["score/judge"])
    assert nothing["failed_share"] == 1.0


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "answer", "answered"),
    [
        ("plain", False, None, "plain", True),
        ("<think>why</think>so", False, "why", "so", True),
        ("why</think>so", True, "why", "so", True),
        ("<think>why</think>", False, "why", "", False),
        ("<think>why", False, "why", "", False),
    ],
)
def test_a_completion_is_taken_apart(
    text: str, opened: bool, reasoning: str | None, answer: str, answered: bool
) -> None:
    read = sample("Q", text, Thinking(opened=opened))
    parts = read.item.response.messages[0].parts
    assert [part.text for part in parts if isinstance(part, Reasoning)] == ([] if reasoning is None else [reasoning])
    assert "".join(part.text for part in parts if isinstance(part, Text)) == answer
    assert read.answered is answered


@pytest.mark.parametrize(
    ("message", "answered"),
    [
        ({"reasoning_content": "why", "content": "so"}, True),
        ({"reasoning_content": "why", "content": ""}, False),
        ({"reasoning_content": "why", "content": "", "tool_calls": [{"function": {"name": "look"}}]}, True),
        ({"content": ""}, True),  # no reasoning: whether it is fit to be judged is the judge's to say
    ],
)
def test_reasoning_that_comes_apart_from_the_text_needs_an_answer_too(message: dict[str, Any], answered: bool) -> None:
    assert sample("Q", [{"role": "assistant", **message}], Thinking()).answered is answered


def test_a_plain_prompt_that_ends_with_the_tag_has_opened_the_reasoning() -> None:
    read = sample("Q\n<think>\n", "why</think>so", Thinking())
    assert read.item.response.messages[0].parts == (Reasoning("why"), Text("so"))


def test_without_thinking_the_tags_are_text() -> None:
    read = sample("Q", "<think>why", None)
    assert read.answered
    assert read.item.response.messages[0].parts == (Text("<think>why"),)


def test_ranks_wait_longer_than_a_call_takes() -> None:
    assert RewardSettings(timeout_s=30.0).for_ranks_s == 630.0
    assert RewardSettings(timeout_s=30.0, ranks_wait_s=40.0).for_ranks_s == 40.0


def test_settings_refuse_what_can_not_be_meant() -> None:
    for wrong in (
        {"parts": ()},
        {"parts": (JudgePart("a"), JudgePart("a"))},
        {"on_failure": math.nan},
        {"on_failure": True},
        {"clip": (1.0, 0.0)},
        {"timeout_s": 0.0},
        {"timeout_s": math.inf},
        {"truncated": "perhaps"},
        {"run": "r", "version": "v"},
    ):
        with pytest.raises(ValueError, match=r".+"):
            replace(RewardSettings(), **wrong)
    with pytest.raises(ValueError, match="its version is its own field"):
        JudgePart(options=ScoreOptions(version="v7"))
    with pytest.raises(ValueError, match="reasoning_weight"):
        JudgePart(reasoning_weight=1.0)
    with pytest.raises(ValueError, match="free_tokens < full_tokens"):
        LengthPenalty(5, 5)
    with pytest.raises(ValueError, match="two different texts"):
        Thinking(tags=("x", "x"))
