"""PPO with the judge as its reward model; only where TRL has PPO."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.integration.sidecar_running import Running
from tests.trainers import runs
from tests.trainers.runs import CLEARLY, SEEDS, Run
from tests.trainers.test_trainers_examples import assert_example_runs
from themis_chat.templates import by_name
from themis_client.adapters.trl_ppo import PpoReward


@pytest.fixture(autouse=True)
def _little_garbage() -> Iterator[None]:
    """PPO collects garbage several times a step: not among all that was loaded before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("seed", SEEDS)
def test_ppo_policy_learns_what_the_judge_likes(seed: int, judge: Running, tmp_path: Path) -> None:
    run, control = Run(tmp_path / "judged", seed), Run(tmp_path / "control", seed)
    model, tokenizer = run.policy()
    before = runs.liked(model, tokenizer)
    reward = PpoReward(
        judge.address, tokenizer, marker="<|im_start|>assistant\n", template=by_name("chatml"), which="first"
    )
    learnt = _after(run, reward)
    aimless = _after(control, runs.ShuffledModel(reward, seed))
    assert learnt > max(before, aimless) + CLEARLY


def _after(run: Run, reward: torch.nn.Module) -> float:
    trainer = runs.ppo(run, reward)
    trainer.train()
    assert trainer.state.global_step == run.steps
    return runs.liked(trainer.model.policy, trainer.processing_class)


def test_ppo_example(judge: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from examples.ppo import main

    assert_example_runs(main, "objective/scores", judge, tmp_path, capsys)
