"""Samples from templated strings: templates by name, file and markers, and what the strings tell beside their text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from themis_chat.templates import Unreadable, by_name, plain
from themis_client.adapters import JudgePart, RewardSettings, Thinking, TruncationPenalty
from themis_client.adapters.by_environment import entry_for
from themis_client.adapters.sample import reference_of
from themis_client.adapters.settings import LengthPenalty
from themis_client.adapters.templated import (
    ends_turns,
    queried,
    template_from_environment,
    templated,
)
from themis_client.adapters.unmasked import Trainer
from themis_client.content import FinishReason, Reasoning, Text
from themis_client.errors import InvalidItem
from themis_client.tournament import Tournament

PROMPT = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
MARKERS = {"starts": {"user": "U: ", "assistant": "A: "}, "end": "\n", "generation": "A: ", "stops": ["$"]}


def test_a_prompt_becomes_its_turns_and_a_response_loses_its_end() -> None:
    read = templated(by_name("chatml"), Thinking(), PROMPT, "Because.<|im_end|>", reference="It is so.", group="7")
    assert [(turn.role, turn.parts) for turn in read.item.messages] == [
        ("system", (Text("Be kind."),)),
        ("user", (Text("Why?"),)),
    ]
    assert read.item.response.messages[0].parts == (Text("Because."),)
    assert (read.item.reference, read.item.group) == ("It is so.", "7")
    assert (read.truncated, read.item.response.finish_reason) == (False, FinishReason.STOP)


def test_a_response_without_an_end_was_cut_where_the_template_has_one() -> None:
    assert templated(by_name("chatml"), None, PROMPT, "Because").truncated
    assert templated(plain(), None, "Why?", "Because").item.response.finish_reason is FinishReason.UNSPECIFIED
    assert [ends_turns(by_name("chatml")), ends_turns(plain())] == [True, False]


@pytest.mark.parametrize(("prompt", "answered"), [(PROMPT + "<think>\n", True), (PROMPT, False)])
def test_a_prompt_that_opens_the_reasoning_is_believed(prompt: str, answered: bool) -> None:
    read = templated(by_name("chatml"), Thinking(), prompt, "hm</think>Because.<|im_end|>")
    parts = read.item.response.messages[0].parts
    assert (parts == (Reasoning("hm"), Text("Because."))) is answered


def test_a_query_is_parted_at_its_prompt_and_judged_with_all_of_it() -> None:
    left = PROMPT[30:]
    for query in (PROMPT + "Because.<|im_end|>", left + "Because.<|im_end|>"):
        read = queried(by_name("chatml"), Thinking(), query, PROMPT, None)
        assert [turn.role for turn in read.item.messages] == ["system", "user"]
        assert read.item.response.messages[0].parts == (Text("Because."),)
    with pytest.raises(Unreadable):
        queried(by_name("chatml"), Thinking(), "something else", PROMPT, None)


def test_templates_come_by_name_or_by_their_markers(tmp_path: Path) -> None:
    assert template_from_environment({"THEMIS_TEMPLATE": "plain"}).response("a$") == "a$"
    assert template_from_environment({"THEMIS_TEMPLATE": "llama3"}).response("a<|eot_id|>") == "a"
    path = tmp_path / "markers.json"
    path.write_text(json.dumps(MARKERS), encoding="utf-8")
    template = template_from_environment({"THEMIS_TEMPLATE": f"@{path}"})
    assert template.prompt("U: Why?\nA: ").turns[0].text == "Why?"
    assert template.response("Because.$") == "Because."


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "THEMIS_TEMPLATE is not set"),
        ("alpaca", "THEMIS_TEMPLATE: there is no template 'alpaca'; there are chatml, llama3, gemma, mistral, plain"),
        ({"starts": {}, "end": "", "generation": ""}, "THEMIS_TEMPLATE: starts"),
        ({"begin": "x"}, "THEMIS_TEMPLATE: .*begin"),
        ([], "THEMIS_TEMPLATE: an object"),
    ],
)
def test_what_is_no_template_is_refused(value: Any, problem: str, tmp_path: Path) -> None:
    if not isinstance(value, str):
        path = tmp_path / "markers.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        value = f"@{path}"
    with pytest.raises(ValueError, match=problem):
        template_from_environment({"THEMIS_TEMPLATE": value})


def test_a_label_is_a_text_or_a_number_and_an_empty_one_is_no_reference() -> None:
    told = [reference_of(label) for label in ("", None, "a", 7, 0, 0.5, np.float64(0.25))]
    assert told == [None, None, "a", "7", "0", "0.5", "0.25"]


@pytest.mark.parametrize(
    "label",
    [
        True,
        math.nan,
        math.inf,
        [],
        ["secret"],
        {"target": ["secret"]},
        b"secret",
        np.array([]),
        np.array(["secret", "other"]),
        np.array("secret"),
    ],
)
def test_any_other_label_is_refused_without_its_text(label: Any) -> None:
    with pytest.raises(InvalidItem, match=r"^reference: a text or a (finite )?number is needed") as refused:
        reference_of(label)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (RewardSettings(on_failure="none"), "on_failure: Somebody has no way to leave a sample out"),
        (RewardSettings(truncated="fail"), "truncated: Somebody does not say"),
        (RewardSettings(truncated=TruncationPenalty(1.0)), "truncated: Somebody does not say"),
        (RewardSettings(length=LengthPenalty(1, 2)), "length: Somebody does not say"),
        (RewardSettings(parts=(JudgePart(tournament=Tournament()),)), "parts: Somebody does not give .* together"),
    ],
)
def test_what_a_trainer_can_not_do_is_refused_before_it_starts(settings: RewardSettings, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Trainer("Somebody", cut=False, length=False, groups=False).fit(settings)
    if settings.on_failure != "none":
        assert Trainer("Somebody", cut=True, length=True, groups=True).fit(settings) is settings


def some(_: Any) -> Trainer:
    return Trainer("Somebody", cut=False, length=False, groups=False)


def test_a_process_keeps_one_rewarder_by_its_settings() -> None:
    environment = {"THEMIS_TARGET": "one:1", "THEMIS_TEMPLATE": "chatml"}
    first = entry_for(some, environment)
    assert entry_for(some, dict(environment)) is first
    assert first.rewarder.settings.target == "one:1"
    assert entry_for(some, environment | {"THEMIS_TARGET": "two:1"}) is not first
    with pytest.raises(ValueError, match="Somebody"):
        entry_for(some, environment | {"THEMIS_REWARD": '{"on_failure": "none"}'})
