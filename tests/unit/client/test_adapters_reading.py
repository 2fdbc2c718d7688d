"""Reward settings from plain values: all fields, and every mistake by its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from themis_client import (
    Criterion,
    Orders,
    ReasoningMode,
    ReasoningPolicy,
    RetryPolicy,
    Rubric,
    ScoreOptions,
    Tls,
    Tournament,
    Truncation,
)
from themis_client.adapters import (
    JudgePart,
    LengthPenalty,
    RewardSettings,
    Thinking,
    TruncationPenalty,
    read_settings,
    settings_from_environment,
)

WHOLE = {
    "target": "judge:1",
    "parts": [
        {
            "name": "help",
            "weight": 0.5,
            "scenario": "math",
            "mode": {"name": "reasoning", "samples": 2, "seed": 7},
            "truncation": "response_end",
            "reasoning_policy": "apart",
            "reasoning_weight": 0.25,
        },
        {"name": "short", "rubric": {"criteria": ["Is short."], "scale_min": 0, "scale_max": 3}, "target": "other:2"},
        {"name": "cup", "tournament": {"rounds": 3, "seed": 5, "orders": "a_first"}},
    ],
    "on_failure": -1.5,
    "timeout_s": 30,
    "thinking": {"tags": ["<a>", "</a>"], "opened": True, "no_answer": 0.25},
    "truncated": {"amount": 0.5},
    "length": {"free_tokens": 1, "full_tokens": 5, "most": 0.25},
    "scale": 2,
    "shift": -1,
    "clip": [-1, 1],
    "tls": {"server_name": "judge"},
    "token_file": "token",
    "retry": {"attempts": 3},
    "run": "grpo-7",
    "ranks_wait_s": 50,
}


def test_every_field_is_read() -> None:
    assert read_settings(WHOLE) == RewardSettings(
        target="judge:1",
        parts=(
            JudgePart(
                "help",
                0.5,
                ScoreOptions(
                    mode=ReasoningMode(samples=2, seed=7),
                    truncation=Truncation.RESPONSE_END,
                    reasoning_policy=ReasoningPolicy.APART,
                ),
                scenario="math",
                reasoning_weight=0.25,
            ),
            JudgePart("short", rubric=Rubric([Criterion("Is short.")], 0, 3), target="other:2"),
            JudgePart("cup", tournament=Tournament(3, 5, Orders.A_FIRST)),
        ),
        on_failure=-1.5,
        timeout_s=30,
        thinking=Thinking(("<a>", "</a>"), True, 0.25),
        truncated=TruncationPenalty(0.5),
        length=LengthPenalty(1, 5, 0.25),
        scale=2,
        shift=-1,
        clip=(-1, 1),
        tls=Tls(server_name="judge"),
        token_file="token",
        retry=RetryPolicy(3),
        run="grpo-7",
        ranks_wait_s=50,
    )


def test_nothing_said_is_the_defaults() -> None:
    assert read_settings({}) == RewardSettings()
    assert read_settings({"thinking": None, "length": None, "clip": None, "tls": None}) == RewardSettings(thinking=None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"traget": "x"}, r"^traget: unknown; there are target, "),
        ({"parts": [{"nmae": "x"}]}, r"^parts\[0\].nmae: unknown"),
        ({"parts": [{"mode": "vibes"}]}, r"^parts\[0\].mode: one of rating, "),
        ({"parts": [{"mode": {"name": "critique", "points": 1}}]}, r"^parts\[0\].mode.points: unknown"),
        ({"parts": [{"truncation": "x"}]}, r"^parts\[0\].truncation: one of refuse, "),
        ({"parts": [{"options": {}}]}, r"^parts\[0\].options: its fields stand in the part itself"),
        ({"parts": [{"rubric": {"criteria": [1]}}]}, r"^parts\[0\].rubric"),
        ({"parts": [{"tournament": {"rounds": 0}}]}, r"^parts\[0\].tournament: rounds"),
        ({"parts": [{"tournament": {}, "mode": "critique"}]}, r"^parts\[0\]: .* a tournament compares"),
        ({"parts": [3]}, r"^parts\[0\]: an object is needed"),
        ({"thinking": {"tags": 3}}, r"^thinking.tags: a list of two"),
        ({"thinking": {"tags": ["a"]}}, r"^thinking.tags: a list of two"),
        ({"thinking": {"opened": "false"}}, r"^thinking: .*opened: true or false"),
        ({"clip": [0, 1, 5]}, r"^clip: a list of two"),
        ({"clip": [1, 0]}, r"^clip: the lower bound"),
        ({"timeout_s": 900, "ranks_wait_s": 600}, r"^ranks_wait_s: has to be longer"),
        ({"parts": [{"tournament": {}, "truncation": "response_end"}]}, r"^parts\[0\]: .* a tournament compares"),
        ({"length": {"free_tokens": 1}}, r"^length: .*full_tokens"),
        ({"on_failure": "zero"}, r"^on_failure: a finite number"),
        ({"timeout_s": "long"}, r"^timeout_s: a finite number"),
        ({"retry": {"attempts": 0}}, r"^retry: attempts"),
    ],
)
def test_mistakes_are_named_by_their_path(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_settings(value)


def test_the_environment_says_it_too(tmp_path: Path) -> None:
    assert settings_from_environment({}) == RewardSettings()
    assert settings_from_environment({"THEMIS_TARGET": "a:1", "THEMIS_TOKEN_FILE": "t"}) == RewardSettings(
        target="a:1", token_file="t"
    )
    text = json.dumps({"target": "b:2", "on_failure": -1})
    assert settings_from_environment({"THEMIS_REWARD": text, "THEMIS_TARGET": "a:1"}).target == "b:2"
    (tmp_path / "reward.json").write_text(text, encoding="utf-8")
    assert settings_from_environment({"THEMIS_REWARD": f"@{tmp_path}/reward.json"}).on_failure == -1
    for wrong in ("{", "[]"):
        with pytest.raises(ValueError, match="THEMIS_REWARD"):
            settings_from_environment({"THEMIS_REWARD": wrong})
    with pytest.raises(OSError, match="nowhere"):
        settings_from_environment({"THEMIS_REWARD": "@nowhere.json"})
