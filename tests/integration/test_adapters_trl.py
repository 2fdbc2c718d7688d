"""TRL's reward functions against a real server: values, columns, logs, failures, threads, loops and processes."""

from __future__ import annotations

import asyncio
import inspect
import math
import multiprocessing
import pickle
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import VERSION, serving
from themis_client import RetryPolicy, Tournament, Unavailable, UnknownVersion
from themis_client.adapters import JudgePart, LengthPenalty, RewardSettings, TruncationPenalty
from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.trl import TrlReward, judge_reward, judge_reward_async, online_dpo_reward
from themis_client.adapters.trl_composite import composite_reward, composite_reward_async

QUICK = RetryPolicy(attempts=2, base_s=0.01, cap_s=0.02)
EOS = 2


class Logs:
    """What TRL passes to a reward function to log with."""

    def __init__(self) -> None:
        self.extra: dict[str, list[Any]] = defaultdict(list)
        self.metrics: dict[str, list[float]] = defaultdict(list)

    def arguments(self) -> dict[str, Any]:
        return {
            "trainer_state": object(),
            "log_extra": lambda column, values: self.extra[column].extend(values),
            "log_metric": lambda name, value: self.metrics[name].append(value),
        }


def settings(address: str, **changes: Any) -> RewardSettings:
    return replace(RewardSettings(target=address, timeout_s=30.0, retry=QUICK), **changes)


async def called(reward: TrlReward, **arguments: Any) -> list[float | None]:
    """From a thread, as a trainer would: the server is on this one."""
    return await asyncio.to_thread(reward, **arguments)


async def test_texts_are_scored_in_order_and_logged() -> None:
    texts = ["aaaa", "bbbb", "abab"]
    logs = Logs()
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address))
        rewards = await called(
            reward, prompts=["q"] * 3, completions=texts, completion_ids=[[1]] * 3, **logs.arguments()
        )
    assert rewards == shares(texts)
    assert reward.__name__ == "judge"
    assert logs.extra == {
        "judge/status": ["OK"] * 3,
        "judge/score/judge": shares(texts),
        "judge/version/judge": [VERSION] * 3,
    }
    assert {name: values[0] for name, values in logs.metrics.items()} == {
        "judge/score/judge": 0.5,
        "judge/failed_share": 0.0,
        "judge/named_share": 0.0,
        "judge/truncated_share": 0.0,
    }


async def test_conversations_keep_their_turns_and_columns_reach_the_judge() -> None:
    judge = LetterJudge()
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q"}]
    completion = [{"role": "assistant", "content": "<think>hm</think>aab"}]
    async with serving(judge) as served:
        reward = judge_reward(settings(served.address), reference="answer", scenario="kind")
        rewards = await called(
            reward, prompts=[prompt], completions=[completion], completion_ids=[[1]], answer=["ab"], kind=["math"]
        )
    assert rewards == shares(["aab"])
    [item] = judge.items
    assert [message.role for message in item.messages] == ["system", "user"]
    assert (item.reference, item.scenario, answer(item)) == ("ab", "math", "aab")


async def test_a_missing_column_is_named() -> None:
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address), reference="answer")
        with pytest.raises(ValueError, match="reference: the data set has no column 'answer'; there are solution"):
            await called(reward, prompts=["q"], completions=["a"], solution=["x"])


async def test_a_column_may_hold_numbers_and_what_is_no_reference_fails_its_own_sample() -> None:
    judge = LetterJudge()
    logs = Logs()
    async with serving(judge) as served:
        reward = judge_reward(settings(served.address, on_failure="none"), reference="answer")
        answers = [7, 0.5, "", None, math.nan, {"target": ["x"]}]
        rewards = await called(reward, prompts=["q"] * 6, completions=["a"] * 6, answer=answers, **logs.arguments())
    assert rewards == [1.0, 1.0, 1.0, 1.0, None, None]
    assert sorted(str(item.reference) for item in judge.items) == ["0.5", "7", "None", "None"]
    assert logs.extra["judge/status"] == ["OK"] * 4 + ["INVALID"] * 2


async def test_failed_completions_raise_by_default() -> None:
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address))
        with pytest.raises(
            RewardMissing, match=r"^1 of 2 completions have no reward; the first, number 1: judge: OFF_FORMAT"
        ) as failed:
            await called(reward, prompts=["q"] * 2, completions=["a", "OFF_FORMAT"])
    [(place, missing)] = failed.value.missing
    assert (place, missing.status, missing.part) == (1, "OFF_FORMAT", "judge")
    assert pickle.loads(pickle.dumps(failed.value)).missing == failed.value.missing


@pytest.mark.parametrize(("on_failure", "instead"), [("none", None), (-7.0, -7.0), (0, 0.0)])
async def test_failed_completions_become_what_was_named(on_failure: Any, instead: float | None) -> None:
    logs = Logs()
    completions = ["a", "OFF_FORMAT", [{"role": "assistant", "content": [{"type": "audio"}]}], "<think>a"]
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address, on_failure=on_failure))
        rewards = await called(reward, prompts=["q"] * 4, completions=completions, **logs.arguments())
    assert rewards == [1.0, instead, instead, instead]
    assert logs.extra["judge/status"] == ["OK", "OFF_FORMAT", "INVALID", "NO_ANSWER"]
    assert logs.extra["judge/score/judge"] == [1.0, None, None, None]
    assert logs.metrics["judge/failed_share"] == [0.75]
    assert logs.metrics["judge/score/judge"] == [1.0]


async def test_a_server_that_goes_away_is_a_failure_of_all_and_comes_back() -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        strict = judge_reward(settings(served.address))
        masked = judge_reward(settings(served.address, on_failure="none"))
        assert await called(strict, prompts=["q"], completions=["a"]) == [1.0]
        assert await called(masked, prompts=["q"], completions=["a"]) == [1.0]
    with pytest.raises(RewardMissing, match="UNAVAILABLE"):
        await called(strict, prompts=["q"], completions=["a"])
    assert await called(masked, prompts=["q"] * 2, completions=["a", "b"]) == [None, None]


async def test_nothing_can_be_scored_without_a_first_contact() -> None:
    reward = judge_reward(settings("127.0.0.1:9", on_failure="none"))
    with pytest.raises(Unavailable):
        await called(reward, prompts=["q"], completions=["a"])


async def test_what_no_retry_cures_raises_whatever_was_named() -> None:
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address, on_failure="none", version="gone-0123456789ab"))
        with pytest.raises(UnknownVersion):
            await called(reward, prompts=["q"], completions=["a"])


async def test_the_end_of_a_completion_is_seen_by_its_tokens() -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        reward = judge_reward(
            settings(served.address, truncated=TruncationPenalty(0.5), length=LengthPenalty(2, 4, 1.0)),
            eos_token_ids=[EOS],
        )
        ids = [[1, EOS], [1, 1], [1, 1, 1], []]
        logs = Logs()
        rewards = await called(reward, prompts=["q"] * 4, completions=["a"] * 4, completion_ids=ids, **logs.arguments())
        with pytest.raises(RewardMissing, match="nothing here says whether completions were cut"):
            await called(reward, prompts=["q"], completions=["a"])
    assert rewards == [1.0, 0.5, 0.0, 1.0]
    assert logs.metrics["judge/truncated_share"] == [0.5]
    assert [item.response.finish_reason.name for item in judge.items] == ["STOP", "LENGTH", "LENGTH", "STOP"]
    with pytest.raises(ValueError, match="eos_token_ids"):
        judge_reward(RewardSettings(truncated="fail"))


async def test_two_judges_are_asked_and_weighted() -> None:
    first, second = LetterJudge(), LetterJudge()
    async with serving(first) as one, serving(second) as other:
        parts = (JudgePart("a", 1.0), JudgePart("b", -0.5, target=other.address, scenario="math"))
        reward = judge_reward(settings(one.address, parts=parts))
        rewards = await called(reward, prompts=["q"], completions=["ab"])
    assert rewards == [0.25]
    assert [item.scenario for item in (*first.items, *second.items)] == ["", "math"]


async def test_a_tournament_compares_the_completions_of_each_prompt() -> None:
    judge = LetterJudge()
    prompts, texts = ["p", "q", "p", "q", "p", "q", "r"], ["aa", "b", "ab", "b", "bb", "a", "a"]
    async with serving(judge) as served:
        parts = (JudgePart(tournament=Tournament()),)
        reward = judge_reward(settings(served.address, parts=parts, on_failure="none"))
        rewards = await called(reward, prompts=prompts, completions=texts)
    assert rewards == [1.0, 0.25, 0.5, 0.25, 0.0, 1.0, None]  # the last has nobody to meet
    assert not judge.items
    assert len(judge.comparisons) == 6


async def test_the_asynchronous_function_is_one_to_trl_and_works_on_any_loop() -> None:
    async with serving(LetterJudge()) as served:
        function = judge_reward_async(settings(served.address), name="kind")
        assert inspect.iscoroutinefunction(function)
        assert function.__name__ == "kind"
        logs = Logs()
        texts = ["a", "b"]
        here = await function(prompts=["q"] * 2, completions=texts, **logs.arguments())
        elsewhere = await asyncio.to_thread(
            lambda: asyncio.run(pickle.loads(pickle.dumps(function))(prompts=["q"] * 2, completions=texts))
        )
    assert here == elsewhere == shares(texts)
    assert logs.extra["kind/status"] == ["OK", "OK"]


def _in_another_process(pickled: bytes) -> Any:
    reward = pickle.loads(pickled)
    return reward(prompts=["q"], completions=["ab"]), reward._joint.rewarder.judges.pins


async def test_a_spawned_process_scores_by_the_version_that_was_pinned() -> None:
    async with serving(LetterJudge()) as served:
        reward = judge_reward(settings(served.address))
        await called(reward, prompts=["q"], completions=["a"])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            task = pool.submit(_in_another_process, pickle.dumps(reward))
            rewards, versions = await asyncio.wrap_future(task)
    assert rewards == [0.5]
    assert versions == {served.address: (VERSION, False)}


async def test_online_dpo_refuses_a_reward_that_is_nothing() -> None:
    with pytest.raises(ValueError, match="on_failure"):
        online_dpo_reward(RewardSettings(on_failure="none"))
    async with serving(LetterJudge()) as served:
        reward = online_dpo_reward(settings(served.address))
        assert await called(reward, prompts=["q", "q"], completions=["a", "b"]) == [1.0, 0.0]
        with pytest.raises(RewardMissing):
            await called(reward, prompts=["q", "q"], completions=["a", "OFF_FORMAT"])


# ----------------------------------------------------------------------------------------------------- composites


def length_reward(completions: list[str], **_: Any) -> list[float | None]:
    return [None if text == "skip" else float(len(text)) for text in completions]


async def length_reward_async(completions: list[str], **_: Any) -> list[float]:
    return [math.nan if text == "skip" else float(len(text)) for text in completions]


def broken(**_: Any) -> list[float]:
    raise RuntimeError("broken")


async def test_a_composite_never_takes_a_missing_score_for_0() -> None:
    logs = Logs()
    completions = ["ab", "OFF_FORMAT", "skip"]
    async with serving(LetterJudge()) as served:
        judge = judge_reward(settings(served.address, on_failure="none"))
        together = composite_reward([judge, length_reward], [2.0, 0.5])
        rewards = await asyncio.to_thread(together, prompts=["q"] * 3, completions=completions, **logs.arguments())
        strict = composite_reward([judge, length_reward], missing="raise")
        with pytest.raises(RewardMissing, match=r"2 of 3 completions .* one of judge, length_reward has no value"):
            await asyncio.to_thread(strict, prompts=["q"] * 3, completions=completions)
        both = composite_reward_async([judge, length_reward_async, length_reward], name="mix")
        again = await both(prompts=["q"] * 3, completions=completions)
    assert rewards == [2.0 * 0.5 + 0.5 * 2, None, None]
    assert again == [0.5 + 2 + 2, None, None]
    assert logs.metrics["composite/judge"] == [0.25]
    assert logs.metrics["composite/length_reward"] == [6.0]
    assert logs.metrics["composite/missing_share"] == [2 / 3]
    assert inspect.iscoroutinefunction(both)


async def test_a_composite_raises_what_its_parts_raise_after_all_were_asked() -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        together = composite_reward([broken, judge_reward(settings(served.address))])
        with pytest.raises(RuntimeError, match="broken"):
            await asyncio.to_thread(together, prompts=["q"], completions=["a"])
        assert len(judge.items) == 1
        with pytest.raises(RuntimeError, match="broken"):
            await composite_reward_async([broken, length_reward_async])(prompts=["q"], completions=["a"])


def test_a_composite_refuses_what_can_not_work() -> None:
    with pytest.raises(ValueError, match="coroutine function"):
        composite_reward([length_reward_async])
    with pytest.raises(ValueError, match="weights"):
        composite_reward([length_reward], [1.0, 2.0])
    with pytest.raises(ValueError, match="two have the same name"):
        composite_reward([judge_reward(), judge_reward()])
    with pytest.raises(ValueError, match="at least one"):
        composite_reward([])
    with pytest.raises(ValueError, match="_short returned 1 rewards for 2 completions"):
        composite_reward([_short])(completions=["a", "b"])


def _short(**_: Any) -> list[float]:
    return [1.0]
