"""Real runs of TRL: with the judge's rewards a policy comes to say what the judge likes, with the same rewards shuffled
it does not. Everything is real but the judge's model, which likes vowels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sidecar_running import Running
from tests.trainers import runs
from tests.trainers.runs import Run
from themis_client.adapters.trl import judge_reward, judge_reward_async, online_dpo_reward

Train = Callable[[Run, Any], Any]


@pytest.mark.parametrize(
    ("train", "adapter"),
    [
        pytest.param(runs.grpo, judge_reward, id="grpo"),
        pytest.param(runs.grpo, judge_reward_async, id="grpo-async"),
        pytest.param(runs.rloo, judge_reward, id="rloo"),
        pytest.param(runs.online_dpo, online_dpo_reward, id="online-dpo"),
    ],
)
def test_policies_learn_what_the_judge_likes(
    train: Train, adapter: Callable[[str], Any], judge: Running, tmp_path: Path
) -> None:
    def trained(run: Run) -> tuple[float, float, float]:
        before = runs.liked(*run.policy())
        learnt = _after(train, run, adapter(judge.address))
        control = runs.shuffled(judge_reward(judge.address), run.seed)
        return before, learnt, _after(train, run.control, control)

    runs.assert_learns(trained, tmp_path)


def _after(train: Train, run: Run, reward: Any) -> float:
    """How the judge likes the policy at the end."""
    trainer = train(run, reward)
    trainer.train()
    assert trainer.state.global_step == run.steps
    return runs.liked(trainer.model, trainer.processing_class)
