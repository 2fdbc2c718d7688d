"""The examples run: two steps each, with a tiny policy. PPO's is in test_trainers_ppo.py."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.sidecar_running import Running
from tests.trainers.policies import write_policy
from tests.trainers.vowels import UNJUDGED

STEPS = 2


@pytest.mark.parametrize(
    ("name", "figure"),
    [("grpo", "reward"), ("online_dpo", "objective/scores"), ("dpo", "rewards/margins")],
)
def test_example(name: str, figure: str, judge: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = importlib.import_module(f"examples.{name}")  # here: TRL loads slowly, and vLLM is hidden from it first
    assert_example_runs(example.main, figure, judge, tmp_path, capsys)


def test_dpo_example_goes_on_without_prompts_that_failed(judge: Running, tmp_path: Path) -> None:
    dpo, responses, pairs = (
        importlib.import_module("examples.dpo"),
        tmp_path / "responses.jsonl",
        tmp_path / "pairs.jsonl",
    )
    values = [{"prompt": "q", "responses": ["aeb", "bcd"]}, {"prompt": "q", "responses": ["a", UNJUDGED]}]
    responses.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    dpo.label(responses, pairs, judge.address)
    assert [json.loads(line)["chosen"] for line in pairs.read_text().splitlines()] == ["aeb"]
    with pytest.raises(SystemExit, match="label-pairs ended with 2"):
        dpo.label(tmp_path / "nothing.jsonl", pairs, judge.address)
    assert not pairs.exists()


def assert_example_runs(
    main: Callable[[list[str]], None],
    figure: str,
    judge: Running,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It takes its steps, and shows a figure of each."""
    policy, out = write_policy(folder / "policy", seed=0), folder / "out"
    main(["--judge", judge.address, "--policy", str(policy), "--out", str(out), "--steps", str(STEPS)])
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.rsplit(" ", 1)[0] for line in shown] == [f"step {step}: {figure}" for step in range(1, STEPS + 1)]
