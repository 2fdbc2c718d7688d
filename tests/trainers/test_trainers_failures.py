"""The judge fails in the middle of a run. The run goes on or stops, as configured, and its log holds no number that the
judge did not give."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sidecar_running import Running, free_port
from tests.trainers import runs
from tests.trainers.runs import Run
from tests.trainers.serving import vowel_judge
from tests.trainers.vowels import liking
from tests.trainers.watching import Spoilt, Watched
from themis_client import RetryPolicy
from themis_client.adapters import RewardSettings
from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.trl import judge_reward

KILLED_AT = 3  # the call that meets no server


class Killable:
    """A judge that is killed when `kill` is called, and comes back on its port where `back`."""

    def __init__(self, folder: Path, back: bool, stack: ExitStack) -> None:
        self._folder, self._back, self._stack = folder, back, stack
        self._port = free_port()
        self._running = stack.enter_context(vowel_judge(folder / "first", port=self._port))
        self._starting = stack.enter_context(ThreadPoolExecutor(1))

    @property
    def address(self) -> str:
        return self._running.address

    def kill(self, call: int) -> None:
        if call != KILLED_AT:
            return
        self._running.send(signal.SIGKILL)
        self._running.process.wait()
        if self._back:
            again = vowel_judge(self._folder / "second", port=self._port)
            self._starting.submit(self._stack.enter_context, again)


@contextmanager
def killable(folder: Path, back: bool) -> Iterator[Killable]:
    with ExitStack() as stack:
        yield Killable(folder, back, stack)


def test_run_goes_on_when_the_server_comes_back(tmp_path: Path) -> None:
    run = Run(tmp_path, seed=0, steps=6)
    with killable(tmp_path, back=True) as judge:
        rewards = Watched(judge_reward(judge.address), before=judge.kill)
        trainer = runs.grpo(run, rewards)
        trainer.train()
    assert trainer.state.global_step == run.steps
    _assert_the_judges_own(rewards)
    assert _logged(trainer, "reward") == pytest.approx(_means(rewards), abs=1e-6)
    assert _logged(trainer, "judge/failed_share") == [0.0] * run.steps


def test_run_stops_with_a_clear_error_when_it_does_not(tmp_path: Path) -> None:
    run = Run(tmp_path, seed=0, steps=6)
    with killable(tmp_path, back=False) as judge:
        few = RetryPolicy(attempts=3, base_s=0.1)
        rewards = Watched(judge_reward(RewardSettings(judge.address, timeout_s=60.0, retry=few)), before=judge.kill)
        trainer = runs.grpo(run, rewards)
        with pytest.raises(RewardMissing, match=r"32 of 32 completions have no reward.*UNAVAILABLE"):
            trainer.train()
    assert trainer.state.global_step == KILLED_AT
    _assert_the_judges_own(rewards)
    assert _logged(trainer, "reward") == pytest.approx(_means(rewards), abs=1e-6)


def test_completions_without_a_score_are_left_out_where_none_is_asked_for(judge: Running, tmp_path: Path) -> None:
    run = Run(tmp_path, seed=0, steps=3)
    adapter = judge_reward(RewardSettings(judge.address, on_failure="none"))
    rewards = Watched(Spoilt(adapter, places=(1, 30), calls=range(1, 3)))
    trainer = runs.grpo(run, rewards)
    trainer.train()
    assert [[place for place, value in enumerate(call) if value is None] for call in rewards.values] == [
        [],
        [1, 30],
        [1, 30],
    ]
    _assert_the_judges_own(rewards)
    assert _logged(trainer, "rewards/judge/mean") == pytest.approx(_means(rewards), abs=1e-6)
    assert _logged(trainer, "judge/failed_share") == pytest.approx([0.0, 2 / 32, 2 / 32])


@pytest.mark.parametrize("train", [runs.grpo, runs.rloo, runs.online_dpo])
def test_run_stops_at_a_completion_without_a_score(train: Any, judge: Running, tmp_path: Path) -> None:
    rewards = Watched(Spoilt(judge_reward(judge.address), places=(5,), calls=range(2, 3)))
    trainer = train(Run(tmp_path, seed=0), rewards)
    with pytest.raises(RewardMissing, match=r"1 of 32 completions have no reward; the first, number 5: .*OFF_FORMAT"):
        trainer.train()
    assert trainer.state.global_step == 2
    _assert_the_judges_own(rewards)


def _assert_the_judges_own(rewards: Watched) -> None:
    assert rewards.values
    for texts, values in zip(rewards.texts, rewards.values, strict=True):
        for text, value in zip(texts, values, strict=True):
            assert value is None or value == pytest.approx(liking(text), abs=1e-9)


def _means(rewards: Watched) -> list[float]:
    """Of each call, over what has a score."""
    known = [[value for value in call if value is not None] for call in rewards.values]
    return [math.fsum(call) / len(call) for call in known]


def _logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]
