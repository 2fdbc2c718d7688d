"""What does not fit: refused, or cut as the caller says."""

from __future__ import annotations

import pytest

from tests.unit.judge.fakes import FakeEngine, assert_failed, item, loaded, rubric
from themis_judge.asking import LABEL_RESERVE_TOKENS
from themis_judge.items import (
    CriteriaMode,
    CritiqueMode,
    Item,
    Message,
    Options,
    ReasoningMode,
    Status,
    Truncation,
)
from themis_judge.prompts import CUT_NOTE

RESERVED = LABEL_RESERVE_TOKENS


async def needed(asked: Item, options: Options | None = None) -> int:
    """Tokens of an item's prompt and rating."""
    engine = FakeEngine()
    await (await loaded(engine)).score_one(asked, options)
    return max(len(call.prompt) for call in engine.label_calls) + RESERVED


async def test_a_prompt_that_just_fits_is_judged_and_a_longer_one_is_not() -> None:
    size = await needed(item())
    fits = await (await loaded(FakeEngine(context_tokens=size))).score_one(item())
    assert (fits.status, fits.truncated_tokens) == (Status.OK, 0)
    engine = FakeEngine(context_tokens=size - 1)
    long = await (await loaded(engine)).score_one(item())
    assert_failed(long, Status.TOO_LONG, f"needs {size} tokens")
    assert f"holds {size - 1}" in long.error
    assert engine.label_calls == []


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Truncation.CONVERSATION_START, f"[BEGIN user 1]\n{CUT_NOTE}" + "q" * 122),
        (Truncation.RESPONSE_END, "[BEGIN response 1]\n" + "r" * 122 + CUT_NOTE),
    ],
)
async def test_a_policy_says_what_is_cut(policy: Truncation, kept: str) -> None:
    long = item("r" * 200, messages=(Message.of("user", "q" * 200),))
    engine = FakeEngine(context_tokens=await needed(long) - 60)
    result = await (await loaded(engine)).score_one(long, Options(truncation=policy))
    assert result.status is Status.OK
    assert result.truncated_tokens == 60 + len(CUT_NOTE)
    (call,) = engine.label_calls
    assert len(call.prompt) == engine.info.context_tokens - RESERVED
    assert f"{kept}\n[END" in call.text


@pytest.mark.parametrize("policy", [Truncation.CONVERSATION_START, Truncation.RESPONSE_END])
async def test_what_has_not_enough_to_cut_is_too_long(policy: Truncation) -> None:
    engine = FakeEngine(context_tokens=await needed(item()) - 100)
    result = await (await loaded(engine)).score_one(item(), Options(truncation=policy))
    assert_failed(result, Status.TOO_LONG, "truncation policy")
    assert engine.label_calls == []
    assert result.truncated_tokens == 0


@pytest.mark.parametrize("mode", [CritiqueMode(1, 20), CriteriaMode(), ReasoningMode(max_tokens=16)])
async def test_every_mode_cuts(mode: CritiqueMode | CriteriaMode | ReasoningMode) -> None:
    long = item("r" * 400, rubric=rubric())
    size = await needed(long, Options(mode))
    engine = FakeEngine(context_tokens=size - 80)
    judge = await loaded(engine)
    cut = await judge.score_one(long, Options(mode, Truncation.RESPONSE_END))
    assert cut.status is Status.OK
    assert cut.truncated_tokens > len(CUT_NOTE)
    refused = await judge.score_one(long, Options(mode))
    assert_failed(refused, Status.TOO_LONG)


async def test_the_prompt_that_is_shown_is_the_one_that_was_asked() -> None:
    long = item("r" * 400)
    engine = FakeEngine(context_tokens=await needed(long) - 100)
    options = Options(truncation=Truncation.RESPONSE_END, return_prompt=True)
    result = await (await loaded(engine)).score_one(long, options)
    assert result.status is Status.OK
    assert result.prompt
    assert CUT_NOTE in result.prompt


async def test_a_conversation_that_gets_cut_can_be_classified() -> None:
    """The policy holds for the whole item: its scenario is asked about the conversation that is left."""
    long = item("r", messages=(Message.of("user", "q" * 20_000),), scenario="")
    engine = FakeEngine(context_tokens=15_000)
    result = await (await loaded(engine)).score_one(long, Options(truncation=Truncation.CONVERSATION_START))
    assert result.status is Status.OK
    assert result.truncated_tokens > 5000


async def test_very_long_texts_are_encoded_beside_the_loop_all_the_same() -> None:
    engine = FakeEngine(context_tokens=1_000_000)
    result = await (await loaded(engine)).score_one(item("r" * 70_000))
    assert result.status is Status.OK
    assert "r" * 70_000 in engine.label_calls[0].text
