"""The stages that ask the sidecar, against a real server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.sidecar_fakes import VERSION, FakeJudge, serving
from themis_client import AsyncClient
from themis_client.retry import RetryPolicy
from themis_judge import items as judged
from themis_judge.engines.base import Deadline
from themis_pipeline.runner.stage import Reject, Retry
from themis_pipeline.stages.classify import Classify
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.difficulty import Difficulty
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb


def context() -> Context:
    return Context("new-prompts", 0, 4, 1_700_000_000_000, Deadline.after(60))


@asynccontextmanager
async def asked(judge: FakeJudge | None = None) -> AsyncIterator[tuple[AsyncClient, FakeJudge]]:
    judge = judge or FakeJudge()
    async with (
        serving(judge) as server,
        AsyncClient(server.address, retry=RetryPolicy(attempts=1)) as client,
    ):
        yield client, judge


async def classify(client: AsyncClient, prompt: ev.NewPrompt) -> ev.ClassifiedPrompt:
    [made] = await Classify(client, {"math", "close_qa"}).handle(prompt, context())
    return made


async def test_a_prompt_is_classified_by_the_sidecar() -> None:
    prompt = ev.NewPrompt(source="tests", text="What is 2 + 2?", licence="CC0")
    async with asked() as (client, _):
        made = await classify(client, prompt)
    assert (made.scenario, made.scenario_basis) == ("close_qa", ev.SCENARIO_BASIS_CLASSIFIED)
    assert made.scenario_probability == 1.0
    assert (made.provenance.source, made.provenance.classifier_version) == ("tests", VERSION)
    assert made.id == context().ingress_id("tests", "")
    assert made.prompt == prompt


async def test_a_scenario_that_the_source_says_is_not_asked_for() -> None:
    messages = [text_message("user", "Hello"), text_message("assistant", "Hi"), text_message("user", "2 + 2?")]
    async with asked() as (client, judge):
        made = await classify(client, ev.NewPrompt(id="x", source="tests", messages=messages, scenario="math"))
        assert not judge.started
    assert (made.scenario, made.scenario_basis) == ("math", ev.SCENARIO_BASIS_GIVEN)
    assert not made.HasField("scenario_probability")


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        (ev.NewPrompt(source="tests", text="x", scenario="poetry"), "scenario"),
        (ev.NewPrompt(text="x"), "source"),
        (ev.NewPrompt(source="tests"), "messages_or_text"),
        (ev.NewPrompt(source="tests", messages=[pb.Message(parts=[pb.Part(text="x")])]), "messages"),
    ],
)
async def test_a_prompt_that_makes_no_sense_is_rejected(prompt: ev.NewPrompt, code: str) -> None:
    async with asked() as (client, _):
        with pytest.raises(Reject) as refused:
            await classify(client, prompt)
    assert refused.value.code == code


class Away(FakeJudge):
    async def difficulty_one(self, *_: Any, **__: Any) -> judged.Difficulty:
        return judged.Difficulty(judged.Status.UNAVAILABLE, error="gone")


async def test_a_sidecar_that_is_away_is_asked_later() -> None:
    async with asked(Away()) as (client, _):
        with pytest.raises(Retry) as later:
            await Difficulty(client, VERSION).handle(labelled(), context())
    assert later.value.code == "Unavailable"


async def test_a_label_that_the_sidecar_refuses_is_rejected() -> None:
    async with asked() as (client, _):
        with pytest.raises(Reject) as refused:
            await Difficulty(client, VERSION).handle(labelled(critique="bad prompt"), context())
    assert (refused.value.code, refused.value.detail) == ("INVALID", "")


def labelled(mode: ev.LabelMode.ValueType = ev.LABEL_MODE_SINGLE, critique: str = "Good. [[4]]") -> ev.Labelled:
    answer = pb.Response(messages=[text_message("assistant", "4")])
    instruction = ev.Instruction(scenario="math", messages=[text_message("user", "2 + 2?")], reference="4")
    pair = mode == ev.LABEL_MODE_PAIRWISE
    return ev.Labelled(
        id="label-1",
        instruction=instruction,
        candidates=[ev.Candidate(response=answer)] * (2 if pair else 1),
        mode=mode,
        critique=critique,
        prompt="Compare.",
    )


@pytest.mark.parametrize("mode", [ev.LABEL_MODE_SINGLE, ev.LABEL_MODE_REFERENCE, ev.LABEL_MODE_PAIRWISE])
async def test_a_label_gets_its_difficulty_by_both_definitions(mode: ev.LabelMode.ValueType) -> None:
    async with asked() as (client, _):
        [made] = await Difficulty(client, VERSION).handle(labelled(mode), context())
    # The judge says -1 with the prompt and -2 alone, over one token.
    assert made.difficulty == ev.RecordDifficulty(
        scorer=VERSION, log_perplexity_ratio=-1.0, mean_loss_ratio=0.5, loss_with_prompt=1.0, loss_alone=2.0, tokens=1
    )
    assert made.labelled == labelled(mode)


async def test_a_label_without_a_critique_has_no_difficulty() -> None:
    async with asked() as (client, judge):
        [made] = await Difficulty(client, VERSION).handle(labelled(critique=""), context())
        assert not judge.started
    assert not made.HasField("difficulty")


async def test_another_scorer_than_the_frozen_one_gives_no_number() -> None:
    async with asked() as (client, _):
        with pytest.raises((Retry, Reject)):
            await Difficulty(client, "another").handle(labelled(), context())
