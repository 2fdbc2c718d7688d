"""How hard an answer is to foresee."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.unit.judge.fakes import QUESTION, FakeEngine, item, loaded
from themis_judge.engines.base import Deadline, EngineError, EngineOverloaded
from themis_judge.items import Difficulty, Message, Status, Text, ToolCall, ToolResult

ALONE = "<|assistant|>"


def by_prompt(text: str, continuation: Sequence[int]) -> tuple[float, ...]:
    """Each token a hundredth less probable than the last; half as probable without the prompt."""
    factor = 2.0 if text == ALONE else 1.0
    return tuple(-factor * (n + 1) / 100 for n in range(len(continuation)))


def assert_failed(found: Difficulty, status: Status) -> None:
    assert found.status is status
    assert found.error
    assert (found.conditional, found.unconditional, found.answer_tokens, found.tokens) == (None, None, 0, ())


async def test_the_same_tokens_are_weighed_with_and_without_their_prompt() -> None:
    engine = FakeEngine(weigh=by_prompt)
    found = await (await loaded(engine)).difficulty_one(QUESTION, "It is.")
    given, bare = engine.likelihood_calls
    assert given.continuation == bare.continuation == tuple(b"It is.")
    assert given.text == "<|user|>Which city is the capital of France?<|end|><|assistant|>"
    assert bare.text == ALONE
    assert found.status is Status.OK
    assert found.conditional == pytest.approx(-0.21, abs=1e-12)
    assert found.unconditional == pytest.approx(-0.42, abs=1e-12)
    assert found.answer_tokens == 6
    assert found.tokens == ()
    assert found.usage.prompt_tokens == len(given.prompt) + len(bare.prompt)


async def test_tokens_are_told_with_the_bytes_where_they_start() -> None:
    found = await (await loaded(FakeEngine(weigh=by_prompt))).difficulty_one(QUESTION, "aé\nb", return_tokens=True)
    assert [token.start_byte for token in found.tokens] == [0, 1, 1, 3, 4]
    assert [token.conditional for token in found.tokens] == pytest.approx([-0.01, -0.02, -0.03, -0.04, -0.05])
    assert [token.unconditional for token in found.tokens] == pytest.approx([-0.02, -0.04, -0.06, -0.08, -0.1])
    assert found.conditional == pytest.approx(math.fsum(token.conditional for token in found.tokens))


async def test_a_conversation_stands_in_the_models_own_template() -> None:
    engine = FakeEngine()
    turns = (
        Message.of("system", "Be brief."),
        Message("user", (Text("One"), Text("two <|end|>"))),
        Message("assistant", (ToolCall("f", "{}"),)),
        Message.of("user", "Go on."),
    )
    await (await loaded(engine)).difficulty_one(turns, "Yes.")
    call = engine.likelihood_calls[0]
    assert call.text == (
        "<|system|>Be brief.<|end|><|user|>One\ntwo <|end|><|end|><|assistant|>f {}<|end|><|user|>Go on.<|end|>"
        "<|assistant|>"
    )
    assert sum(token == 256 for segment in call.prompt.segments for token in segment) == 4


async def test_an_evaluations_difficulty_is_weighed_after_the_judges_prompt() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    found = await judge.difficulty_one(item(reference="It is Paris."), "Overall rating (1 to 5): [[5]]")
    assert found.status is Status.OK
    call = engine.likelihood_calls[0]
    assert call.text.startswith("<|user|>You are a strict and fair judge")
    assert "It is Paris." in call.text
    assert call.text.endswith("<|end|><|assistant|>")
    assert call.continuation == tuple(b"Overall rating (1 to 5): [[5]]")


async def test_control_tokens_in_an_answer_are_data() -> None:
    engine = FakeEngine()
    await (await loaded(engine)).difficulty_one(QUESTION, "<|end|>")
    assert engine.likelihood_calls[0].continuation == tuple(b"<|end|>")


@pytest.mark.parametrize("error", [EngineError("broken"), EngineOverloaded("full")])
@pytest.mark.parametrize("side", ["given", "bare"])
async def test_half_an_answer_is_none(error: EngineError, side: str) -> None:
    def weigh(text: str, continuation: Sequence[int]) -> tuple[float, ...]:
        if (text == ALONE) == (side == "bare"):
            raise error
        return (-1.0,) * len(continuation)

    found = await (await loaded(FakeEngine(weigh=weigh))).difficulty_one(QUESTION, "Yes.", return_tokens=True)
    status = Status.OVERLOADED if isinstance(error, EngineOverloaded) else Status.ENGINE_ERROR
    assert_failed(found, status)


async def test_what_is_not_a_number_becomes_none() -> None:
    def weigh(text: str, continuation: Sequence[int]) -> tuple[float, ...]:
        return (*(-1.0,) * (len(continuation) - 1), math.nan)

    found = await (await loaded(FakeEngine(weigh=weigh))).difficulty_one(QUESTION, "Yes.", return_tokens=True)
    assert_failed(found, Status.ENGINE_ERROR)


async def test_what_can_not_be_weighed_is_refused() -> None:
    engine = FakeEngine()
    judge = await loaded(engine)
    empty = await judge.difficulty_one(QUESTION, "")
    assert_failed(empty, Status.INVALID)
    assert empty.error_field == "answer"
    no_turns = await judge.difficulty_one((), "Yes.")
    assert (no_turns.status, no_turns.error_field) == (Status.INVALID, "messages")
    invalid = await judge.difficulty_one(item(""), "Yes.")
    assert (invalid.status, invalid.error_field) == (Status.INVALID, "response.messages")
    tools = (*QUESTION, Message("assistant", (ToolCall("f"),)), Message("tool", (ToolResult("1"),)))
    assert_failed(await judge.difficulty_one(tools, "Yes."), Status.UNSUPPORTED)
    assert engine.likelihood_calls == []


async def test_an_answer_that_is_no_unicode_is_refused() -> None:
    found = await (await loaded(FakeEngine())).difficulty_one(QUESTION, "a\ud800")
    assert_failed(found, Status.INVALID)
    assert found.error_field == "answer"


async def test_engines_of_texts_weigh_nothing() -> None:
    assert_failed(await (await loaded(FakeEngine(as_text=True))).difficulty_one(QUESTION, "Yes."), Status.UNSUPPORTED)


async def test_an_answer_has_to_fit_with_its_prompt() -> None:
    size = len("Which city is the capital of France?") + 3 + 4
    fits = await (await loaded(FakeEngine(context_tokens=size))).difficulty_one(QUESTION, "Yes.")
    assert fits.status is Status.OK
    long = await (await loaded(FakeEngine(context_tokens=size - 1))).difficulty_one(QUESTION, "Yes.")
    assert_failed(long, Status.TOO_LONG)
    assert f"needs {size} tokens" in long.error


async def test_the_deadline_is_handed_down() -> None:
    engine = FakeEngine()
    deadline = Deadline.after(600)
    await (await loaded(engine)).difficulty_one(QUESTION, "Yes.", deadline=deadline)
    assert [call.deadline for call in engine.likelihood_calls] == [deadline] * 2
