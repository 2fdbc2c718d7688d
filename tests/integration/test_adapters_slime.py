"""slime's and miles' reward function: single samples and groups, on any loop, against a real server."""

from __future__ import annotations

import asyncio
import enum
import json
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import VERSION, serving
from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.slime import reward

PROMPT = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
ARGS = Namespace(custom_rm_path="themis_client.adapters.slime.reward", reward_key=None, eval_reward_key=None)


class Status(enum.Enum):
    """slime/utils/types.py"""

    PENDING = "pending"
    COMPLETED = "completed"
    TRUNCATED = "truncated"
    ABORTED = "aborted"
    FAILED = "failed"


@dataclass
class Sample:
    """slime/utils/types.py, and miles/utils/types.py: the fields that describe a response."""

    prompt: str | list[dict[str, str]] = PROMPT
    response: str = ""
    response_length: int = 3
    label: Any = None
    group_index: int | None = None
    status: Status = Status.COMPLETED
    metadata: dict[str, Any] = field(default_factory=dict)
    multimodal_inputs: dict[str, Any] | None = None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(target: str, template: str = "chatml", **settings: Any) -> None:
        retry = {"attempts": 2, "base_s": 0.01, "cap_s": 0.02}
        monkeypatch.setenv(
            "THEMIS_REWARD", json.dumps({"target": target, "timeout_s": 30.0, "retry": retry} | settings)
        )
        monkeypatch.setenv("THEMIS_TEMPLATE", template)

    return set_to


async def test_a_sample_alone_gets_a_number(environment: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        environment(served.address)
        assert await reward(ARGS, Sample(response="ab<|im_end|>", label="a", group_index=3)) == 0.5
        chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
        unseen = {"images": None, "videos": None}  # what a processor leaves of a prompt that is text
        asked = Sample(prompt=chat, response="aaab<|im_end|>", multimodal_inputs=unseen)
        assert await reward(ARGS, asked, evaluation=True) == 0.75
    assert [answer(item) for item in judge.items] == ["ab", "aaab"]
    assert [item.reference for item in judge.items] == ["a", None]
    assert [[turn.role for turn in item.messages] for item in judge.items] == [["user"], ["system", "user"]]


async def test_a_group_is_scored_in_one_call_and_in_order(environment: Any) -> None:
    texts = ["a", "b", "ab", "abb"]
    async with serving(LetterJudge()) as served:
        environment(served.address)
        found = await reward(ARGS, [Sample(response=text, group_index=1) for text in texts])
        assert await reward(ARGS, []) == []
    assert found == pytest.approx(shares(texts))
    [call] = [line for line in served.lines("call") if line["method"] == "Score"]
    assert call["items"] == len(texts)


async def test_with_a_reward_key_the_version_goes_with_the_number(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address)
        named = Namespace(reward_key="reward", eval_reward_key="reward")
        [told] = await reward(named, [Sample(response="ab")])
    assert told["reward"] == told["score/judge"] == 0.5
    assert (told["version/judge"], told["status"]) == (VERSION, "OK")


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(response="OFF_FORMAT"), "OFF_FORMAT"),
        (Sample(prompt="Why?", response="a"), "INVALID: prompt, character 0"),
        (Sample(response="a", status=Status.ABORTED), "INVALID: response: .*aborted"),
        (Sample(response="a", status=Status.FAILED), "INVALID: response: .*failed"),
        (Sample(response="a", label=["x"]), "INVALID: reference: .*not list"),
        (Sample(response="a", multimodal_inputs={"images": [b"x"], "videos": None}), "UNSUPPORTED: .*: images$"),
    ],
)
async def test_a_sample_without_a_score_raises_or_is_the_named_number(
    sample: Sample, reason: str, environment: Any
) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address)
        with pytest.raises(RewardMissing, match=reason):
            await reward(ARGS, [Sample(response="a"), sample])
        environment(served.address, on_failure=-1)
        assert await reward(ARGS, [Sample(response="a"), sample]) == [1.0, -1.0]
    environment(served.address, on_failure="none")
    with pytest.raises(ValueError, match="on_failure: slime"):
        await reward(ARGS, sample)


async def test_cut_and_long_responses_are_what_slime_says_they_are(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        length = {"free_tokens": 2, "full_tokens": 4}
        environment(served.address, truncated={"amount": 0.25}, length=length)
        samples = [
            Sample(response="a", response_length=2, status=Status.TRUNCATED),
            Sample(response="a", response_length=3),
        ]
        assert await reward(ARGS, samples) == [0.75, 0.5]


async def test_a_server_that_is_away_or_late_gives_no_number(environment: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        environment(served.address, timeout_s=2.0)
        with pytest.raises(RewardMissing, match="DEADLINE_EXCEEDED"):
            await reward(ARGS, Sample(response="hold"))
        await asyncio.wait_for(judge.until(lambda: judge.cancelled == ["hold"]), 20)
    with pytest.raises(RewardMissing, match="UNAVAILABLE"):
        await reward(ARGS, Sample(response="a"))


async def test_any_loop_may_await_it(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address)

        def elsewhere() -> Any:
            return asyncio.run(reward(ARGS, Sample(response="ab")))

        found = await asyncio.gather(
            *[asyncio.to_thread(elsewhere) for _ in range(3)], reward(ARGS, Sample(response="a"))
        )
    assert found == [0.5, 0.5, 0.5, 1.0]
