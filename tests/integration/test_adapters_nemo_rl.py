"""NeMo-RL's environment on stand-ins for NeMo-RL and Ray, against a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import serving
from tests.integration.trainer_stand_ins import EnvironmentReturn, importing, nemo_rl_modules
from themis_client.adapters.errors import RewardMissing

USER = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
SYSTEM = "<|im_start|>system\nBe kind.<|im_end|>\n"


@pytest.fixture
def adapter() -> Iterator[Any]:
    with importing("nemo_rl", nemo_rl_modules({}, {})) as module:
        yield module


def environment(adapter: Any, address: str, template: str = "chatml", **settings: Any) -> Any:
    """As create_env makes it, but for Ray's process."""
    named = {"target": address, "timeout_s": 30.0, "retry": {"attempts": 2, "base_s": 0.01, "cap_s": 0.02}} | settings
    return adapter.ThemisEnvironment.cls({"template": template, "reference": "ground_truth", "reward": named})


def log(text: str, *before: dict[str, str]) -> list[dict[str, str]]:
    """As math_data_processor and generate_responses leave it."""
    return [*(before or ({"role": "user", "content": USER},)), {"role": "assistant", "content": text}]


async def stepped(made: Any, logs: list[Any], metadata: list[Any] | None = None, *more: Any) -> EnvironmentReturn:
    """From a thread: the server is on this one."""
    found: EnvironmentReturn = await asyncio.to_thread(made.step, logs, metadata or [None] * len(logs), *more)
    return found


async def test_a_batch_gets_a_tensor_and_ends_its_episodes(adapter: Any) -> None:
    judge = LetterJudge()
    texts = ["a", "ab", "b"]
    async with serving(judge) as served:
        made = environment(adapter, served.address)
        metadata = [{"ground_truth": "x"}, {}, None]
        found = await stepped(made, [log(text) for text in texts], metadata)
        shown = await stepped(made, [log("ab")], None, True)
        assert made.global_post_process_and_metrics({"message_log": []}) == ({"message_log": []}, {})
    assert isinstance(found, EnvironmentReturn)
    assert (found.rewards.dtype, found.rewards.device.type, found.rewards.shape) == (torch.float32, "cpu", (3,))
    assert found.rewards.tolist() == pytest.approx(shares(texts))
    assert found.terminateds.tolist() == [True] * 3
    assert found.metadata == metadata
    assert found.next_stop_strings == [None] * 3
    assert {tuple(one.items()) for one in found.observations} == {
        (("role", "environment"), ("content", "Environment: judged"))
    }
    assert (found.answers, shown.answers) == (None, ["ab"])
    by_text = {answer(item): item for item in judge.items}
    assert [by_text[text].reference for text in texts] == ["x", None, None]
    assert (await asyncio.to_thread(made.step, [], [])).rewards.shape == (0,)


@pytest.mark.parametrize(
    "before",
    [
        ({"role": "system", "content": "Be kind."}, {"role": "user", "content": USER}),
        ({"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}),
        ({"role": "user", "content": SYSTEM + USER},),
    ],
)
async def test_messages_are_taken_out_of_what_processors_leave_of_them(
    before: tuple[dict[str, str], ...], adapter: Any
) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        await stepped(environment(adapter, served.address), [log("a", *before)])
    [item] = judge.items
    told = [(turn.role, "".join(part.text for part in turn.parts)) for turn in item.messages]  # type: ignore[union-attr]
    assert told == [("system", "Be kind."), ("user", "Why?")]


async def test_plain_messages_stay_as_they_are_and_reasoning_that_was_opened_is_found(adapter: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        plain = environment(adapter, served.address, "plain")
        assert (await stepped(plain, [log("a", {"role": "user", "content": "Why?"})])).rewards.tolist() == [1.0]
        opened = environment(adapter, served.address)
        thinking = {"role": "user", "content": USER + "<think>\n"}
        assert (await stepped(opened, [log("bbb</think>a", thinking)])).rewards.tolist() == [1.0]
    assert [item.messages[0].parts[0].text for item in judge.items] == ["Why?", "Why?"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (log("OFF_FORMAT"), "judge: OFF_FORMAT"),
        (log("a", {"role": "user", "content": "Why?"}), "INVALID: prompt, character 0"),
        ([{"role": "user", "content": USER}], "INVALID: messages: the policy's reply"),
        (log("<think>a"), "NO_ANSWER"),
    ],
)
async def test_a_sample_without_a_score_raises_or_is_the_named_number(sample: Any, reason: str, adapter: Any) -> None:
    async with serving(LetterJudge()) as served:
        with pytest.raises(RewardMissing, match=reason):
            await stepped(environment(adapter, served.address), [log("a"), sample])
        named = environment(adapter, served.address, on_failure=-1.0)
        assert (await stepped(named, [log("a"), sample])).rewards.tolist() == [1.0, -1.0]


async def test_a_server_that_is_away_or_late_gives_no_number(adapter: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        made = environment(adapter, served.address, timeout_s=2.0)
        with pytest.raises(RewardMissing, match="DEADLINE_EXCEEDED"):
            await stepped(made, [log("hold")])
        await asyncio.wait_for(judge.until(lambda: judge.cancelled == ["hold"]), 20)
    with pytest.raises(RewardMissing, match="UNAVAILABLE"):
        await stepped(made, [log("a")])


async def test_each_step_is_a_line_of_the_log_that_tells_of_fallbacks_and_of_no_text(
    adapter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=adapter.__name__)
    thinking = {"no_answer": -2.0}
    async with serving(LetterJudge()) as served:
        made = environment(adapter, served.address, on_failure=-1.0, thinking=thinking, clip=[0.0, 0.5])
        for texts in (["a", "ab"], ["OFF_FORMAT", "OFF_FORMAT"], ["<think>hm", "b"], []):
            await stepped(made, [log(text) for text in texts])
        with pytest.raises(RewardMissing):
            await stepped(environment(adapter, served.address), [log("OFF_FORMAT")])
    told = [(record.levelname, json.loads(record.getMessage())) for record in caplog.records]
    step = {"event": "themis_step", "samples": 2, "failed_share": 0.0, "named_share": 0.0, "truncated_share": 0.0}
    assert told == [
        ("INFO", step | {"score/judge": 0.75, "clipped_share": 0.5}),
        ("WARNING", step | {"score/judge": None, "failed_share": 1.0, "clipped_share": None}),
        ("WARNING", step | {"score/judge": 0.0, "named_share": 0.5, "clipped_share": 0.0}),
        ("WARNING", {name: step[name] for name in step} | {"samples": 1, "score/judge": None, "failed_share": 1.0}),
    ]


async def test_steps_run_side_by_side_and_decide_on_a_version_once(adapter: Any) -> None:
    count = 16
    judge = LetterJudge()
    async with serving(judge) as served:
        made = environment(adapter, served.address)
        with ThreadPoolExecutor(count) as pool:  # as Ray runs an actor with max_concurrency
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(pool, made.step, [log("hold")], [None]) for _ in range(count)]
            await asyncio.wait_for(judge.until(lambda: len(judge.started) == count), 20)
            judge.released.set()
            found = await asyncio.gather(*calls)
    assert [one.rewards.tolist() for one in found] == [[0.0]] * count
    # The client that decides asks for the version, and the one that scores whether the server speaks its contract.
    assert Counter(line["method"] for line in served.lines("call")) == {"Describe": 2, "Score": count}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "template is needed"),
        ({"template": "chatml", "target": "x"}, "not .'target'"),
        ({"template": "alpaca"}, "template: there is no template"),
        ({"template": "chatml", "reward": {"on_failure": "none"}}, "on_failure: NeMo-RL"),
        ({"template": "chatml", "reward": {"truncated": "fail"}}, "truncated: NeMo-RL"),
    ],
)
def test_settings_that_can_not_work_are_refused(config: Any, problem: str, adapter: Any) -> None:
    with pytest.raises(ValueError, match=problem):
        adapter.Environment(config)


def test_it_registers_itself_with_a_python_environment() -> None:
    registry: dict[str, str] = {}
    environments: dict[str, str] = {}
    with importing("nemo_rl", nemo_rl_modules(registry, environments)) as adapter:
        adapter.register()
        options = adapter.ThemisEnvironment.options
    actor = "themis_client.adapters.nemo_rl.ThemisEnvironment"
    assert (environments, registry) == ({"themis": actor}, {actor: sys.executable})
    assert options == {"max_restarts": -1, "max_task_retries": -1, "max_concurrency": 512}
