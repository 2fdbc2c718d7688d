"""OpenRLHF's Python file, loaded and called as OpenRLHF does it, against a real server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
import torch

import themis_client.adapters.openrlhf as shipped
from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import serving
from themis_client.adapters import by_environment
from themis_client.adapters.errors import RewardMissing

PROMPT = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
QUICK = {"attempts": 2, "base_s": 0.01, "cap_s": 0.02}


def loaded() -> Any:
    """As SingleTurnAgentExecutor.__init__ does it: under another name, and not among the process's modules."""
    assert shipped.__file__.endswith(".py")
    spec = importlib.util.spec_from_file_location("reward_func", shipped.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reward_func


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(target: str, template: str = "chatml", **settings: Any) -> None:
        named = {"target": target, "timeout_s": 30.0, "retry": QUICK} | settings
        monkeypatch.setenv("THEMIS_REWARD", json.dumps(named))
        monkeypatch.setenv("THEMIS_TEMPLATE", template)

    return set_to


async def called(answers: list[str], labels: list[Any] | None = None, end: str = "<|im_end|>") -> dict[str, Any]:
    """From a thread, as _fetch_rewards_via_func does it."""
    queries = [f"{PROMPT}{text}{end}" for text in answers]
    told: dict[str, Any] = await asyncio.to_thread(
        loaded(), queries, [PROMPT] * len(queries), labels or [""] * len(queries)
    )
    return told


async def test_one_sample_gets_what_openrlhf_reads_of_it(environment: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        environment(served.address)
        told = await called(["ab"], ["a good answer"])
    # As _process_response_into_experience reads it.
    assert torch.equal(torch.tensor([told["rewards"]]), torch.tensor([0.5]))
    assert torch.equal(torch.tensor([told["scores"]]), torch.tensor([0.5]))
    logs = {name: value.flatten()[0].item() for name, value in told["extra_logs"].items()}
    assert logs == {
        "themis/score/judge": 0.5,
        "themis/failed_share": 0.0,
        "themis/named_share": 0.0,
        "themis/truncated_share": 0.0,
    }
    [item] = judge.items
    assert [turn.role for turn in item.messages] == ["user"]
    assert (answer(item), item.reference, item.response.finish_reason.name) == ("ab", "a good answer", "STOP")


async def test_a_batch_gets_a_number_each_as_up_to_0_9(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address, parts=[{"name": "x", "weight": 2}, {"name": "y", "weight": -1}], scale=10)
        told = await called(["a", "b", "ab"])
        empty = await called([])
    joined = torch.cat([torch.as_tensor(one["rewards"]) for one in (told, empty)])
    assert torch.allclose(joined, torch.tensor([10.0, 0.0, 5.0]))
    # From -1 to 2 is the range of the weighted score.
    assert torch.allclose(told["scores"], torch.tensor([2 / 3, 1 / 3, 1 / 2]))
    assert told["extra_logs"].keys() == empty["extra_logs"].keys()
    assert {value.shape for value in empty["extra_logs"].values()} == {(0,)}


async def test_a_label_that_is_no_reference_fails_its_own_sample(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address, on_failure=-1.0)
        told = await called(["a", "a", "a"], ["x", {"target": ["x"]}, 7])
    assert told["rewards"].tolist() == [1.0, -1.0, 1.0]


async def test_threads_that_come_at_once_share_a_client(environment: Any) -> None:
    judge = LetterJudge()
    texts = ["a" * n + "b" for n in range(24)]
    async with serving(judge) as served:
        environment(served.address)
        told = await asyncio.gather(*[called([text]) for text in texts])
        targets = [entry.rewarder.settings.target for entry in by_environment._ENTRIES.values()]
    assert torch.allclose(torch.cat([one["rewards"] for one in told]), torch.tensor(shares(texts)))
    assert targets.count(served.address) == 1


@pytest.mark.parametrize(
    ("query", "prompt", "reason"),
    [
        (PROMPT + "OFF_FORMAT", PROMPT, "OFF_FORMAT"),
        ("something else", PROMPT, "INVALID: query, character 0"),
        ("Why?a", "Why?", "INVALID: prompt, character 0"),
        (PROMPT + "<think>hm", PROMPT, "NO_ANSWER"),
    ],
)
async def test_a_sample_without_a_score_raises_and_a_named_number_is_told(
    query: str, prompt: str, reason: str, environment: Any
) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address)
        with pytest.raises(RewardMissing, match=reason):
            await asyncio.to_thread(loaded(), [query], [prompt], [None])
        environment(served.address, on_failure=-2.0)
        told = await asyncio.to_thread(loaded(), [query, f"{PROMPT}ab<|im_end|>"], [prompt, PROMPT], [None, None])
    assert told["rewards"].tolist() == [-2.0, 0.5]
    assert told["scores"].tolist() == [0.0, 0.5]
    assert told["extra_logs"]["themis/failed_share"].tolist() == [1.0, 0.0]
    assert math.isnan(told["extra_logs"]["themis/score/judge"][0])


async def test_a_server_that_is_away_or_late_gives_no_number(environment: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        environment(served.address, timeout_s=2.0)
        assert (await called(["a"]))["rewards"].tolist() == [1.0]
        with pytest.raises(RewardMissing, match="DEADLINE_EXCEEDED"):
            await called(["hold"])
        await asyncio.wait_for(judge.until(lambda: judge.cancelled == ["hold"]), 20)
    with pytest.raises(RewardMissing, match="UNAVAILABLE"):
        await called(["a"])


async def test_a_response_that_was_cut_is_told_by_its_end(environment: Any) -> None:
    async with serving(LetterJudge()) as served:
        environment(served.address, truncated={"amount": 0.25})
        assert (await called(["a"], end=""))["rewards"].tolist() == [0.75]
        environment(served.address, template="plain", truncated="fail")
        with pytest.raises(ValueError, match="truncated: OpenRLHF does not say"):
            await called(["a"])


async def test_settings_that_can_not_work_are_refused(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment("127.0.0.1:9", on_failure="none")
    with pytest.raises(ValueError, match="on_failure: OpenRLHF"):
        await called(["a"])
    monkeypatch.delenv("THEMIS_TEMPLATE")
    with pytest.raises(ValueError, match="THEMIS_TEMPLATE is not set"):
        await called(["a"])


def _as_a_ray_task(pickled: bytes, query: str) -> list[float]:
    rewards: list[float] = cloudpickle.loads(pickled)([query], [PROMPT], [None])["rewards"].tolist()
    return rewards


async def test_it_travels_to_another_process_as_ray_takes_it_up_to_0_9(environment: Any) -> None:
    """Ray pickles a function by value whose module it can't import."""
    async with serving(LetterJudge()) as served:
        environment(served.address)
        await called(["a"])  # what this process keeps stays here
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            task = pool.submit(_as_a_ray_task, cloudpickle.dumps(loaded()), PROMPT + "ab<|im_end|>")
            assert await asyncio.wrap_future(task) == [0.5]
