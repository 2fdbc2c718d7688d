"""Every refusal names its field, as a path from the item, and says what to do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.judge.fakes import item, rubric
from themis_judge.errors import InvalidItem, UnsupportedItem
from themis_judge.items import (
    Comparison,
    CritiqueMode,
    Image,
    Item,
    Message,
    Mode,
    Options,
    Part,
    Reasoning,
    ReasoningMode,
    Response,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
)
from themis_judge.validation import check_comparison, check_item, check_messages, check_options

USER = Message.of("user", "Hello?")
SCENARIOS = ("math", "open_qa")
LONE = "a\ud800b"


def made(**fields: Any) -> Item:
    return item(**{"scenario": "math"} | fields)


def said(*parts: Part, role: str = "assistant") -> Item:
    return made(response=Response((Message.of("assistant", "Yes."), Message(role, parts))))


def asked(role: str, *parts: Part) -> Item:
    return made(messages=(Message(role, parts), USER))


def by(own: Rubric, **fields: Any) -> Item:
    first, *others = own.criteria
    return made(rubric=replace(own, criteria=(replace(first, **fields), *others)))


INVALID: dict[str, tuple[Item, str, str]] = {
    "no messages": (made(messages=()), "messages", "send the conversation"),
    "unknown role": (made(messages=(Message.of("judge", "Hi"),)), "messages[0].role", "must be one of system, user"),
    "no role": (made(messages=(Message.of("", "Hi"), USER)), "messages[0].role", "must be one of"),
    "no parts": (made(messages=(USER, Message("user", ()))), "messages[1].parts", "at least one part"),
    "last by assistant": (
        made(messages=(USER, Message.of("assistant", "Hi"))), "messages[1].role", "belongs into the response",
    ),
    "last by system": (made(messages=(Message.of("system", "Hi"),)), "messages[0].role", "must be by user or tool"),
    "lone surrogate": (asked("user", Text("ok"), Text(LONE)), "messages[0].parts[1].text", "character 1"),
    "reasoning by user": (asked("user", Reasoning("Hm")), "messages[0].parts[0].reasoning", "only assistant"),
    "call by user": (asked("user", ToolCall("f")), "messages[0].parts[0].tool_call", "only assistant"),
    "result by assistant": (asked("assistant", ToolResult("1")), "messages[0].parts[0].tool_result", "only tool"),
    "call without name": (asked("assistant", ToolCall("")), "messages[0].parts[0].tool_call.name", "name the tool"),
    "surrogate in call": (
        asked("assistant", ToolCall("f", LONE)), "messages[0].parts[0].tool_call.arguments_json", "valid Unicode",
    ),
    "surrogate in name": (asked("assistant", ToolCall(LONE)), "messages[0].parts[0].tool_call.name", "valid Unicode"),
    "surrogate in result": (
        asked("tool", ToolResult(LONE)), "messages[0].parts[0].tool_result.text", "valid Unicode",
    ),
    "surrogate in reasoning": (
        asked("assistant", Reasoning(LONE)), "messages[0].parts[0].reasoning", "valid Unicode",
    ),
    "no response": (made(response=Response(())), "response.messages", "send the response"),
    "blank response": (made(response=Response.of(" \n\t")), "response.messages", "empty response can't be rated"),
    "response by a tool alone": (
        made(response=Response((Message.of("tool", "1"),))), "response.messages", "no text by the assistant",
    ),
    "response by user": (said(Text("Hi"), role="user"), "response.messages[1].role", "must be one of assistant, tool"),
    "response part": (said(ToolCall("")), "response.messages[1].parts[0].tool_call.name", "name the tool"),
    "response without parts": (said(), "response.messages[1].parts", "at least one part"),
    "unknown scenario": (made(scenario="sports"), "scenario", "it knows math, open_qa"),
    "blank reference": (made(reference=" "), "reference", "leave it out"),
    "surrogate in reference": (made(reference=LONE), "reference", "valid Unicode"),
    "no criteria": (made(rubric=Rubric(())), "rubric.criteria", "send 1 to 64"),
    "many criteria": (made(rubric=rubric(1, 5, *[1.0] * 65)), "rubric.criteria", "holds 65 criteria"),
    "blank criterion": (by(rubric(), text=" "), "rubric.criteria[0].text", "one sentence"),
    "surrogate in criterion": (by(rubric(), text=LONE), "rubric.criteria[0].text", "valid Unicode"),
    "surrogate in criterion's name": (by(rubric(), name=LONE), "rubric.criteria[0].name", "valid Unicode"),
    "criterion twice": (by(rubric(), id="c2"), "rubric.criteria[1].id", "unique"),
    "negative weight": (by(rubric(), weight=-1.0), "rubric.criteria[0].weight", "from 0 on"),
    "infinite weight": (by(rubric(), weight=math.inf), "rubric.criteria[0].weight", "finite"),
    "weight that is no number": (by(rubric(), weight=math.nan), "rubric.criteria[0].weight", "finite"),
    "no weight": (made(rubric=rubric(1, 5, 0.0, 0.0)), "rubric.criteria[0].weight", "at least one"),
    "weights beyond all sums": (made(rubric=rubric(1, 5, 1e308, 1e308)), "rubric.criteria[0].weight", "finite"),
    "flat scale": (made(rubric=rubric(3, 3)), "rubric.scale_max", "1 to 100 above"),
    "scale upside down": (made(rubric=rubric(5, 1)), "rubric.scale_max", "with scale_min 5"),
    "long scale": (made(rubric=rubric(0, 101)), "rubric.scale_max", "is 101"),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_what_is_wrong_is_named(case: str) -> None:
    wrong, field, advice = INVALID[case]
    with pytest.raises(InvalidItem) as raised:
        check_item(wrong, SCENARIOS)
    assert raised.value.field == field
    assert str(raised.value).startswith(f"{field}: ")
    assert advice in raised.value.problem
    assert not isinstance(raised.value, UnsupportedItem)


GOOD = {
    "plain": made(),
    "no scenario": made(scenario=""),
    "asked by a tool": made(
        messages=(USER, Message("assistant", (ToolCall("f"),)), Message("tool", (ToolResult(""),)))
    ),
    "a tool call as the response": made(response=Response((Message("assistant", (ToolCall("f"),)),))),
    "an emoji": made(response=Response.of("\U0001f600")),
    "an empty part beside another": said(Text("")),
    "64 criteria": made(rubric=rubric(1, 5, *[1.0] * 64)),
    "the longest scale": made(rubric=rubric(-50, 50)),
    "one weight": made(rubric=rubric(1, 5, 0.0, 0.001)),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_can_be_judged_passes(case: str) -> None:
    check_item(GOOD[case], SCENARIOS)


def test_images_are_unsupported_wherever_they_stand() -> None:
    for wrong, field in (
        (asked("user", Text("Look"), Image("x")), "messages[0].parts[1].image"),
        (said(Image("x")), "response.messages[1].parts[0].image"),
    ):
        with pytest.raises(UnsupportedItem, match="send text") as raised:
            check_item(wrong, SCENARIOS)
        assert raised.value.field == field


@pytest.mark.parametrize("side", ["response_a", "response_b"])
def test_a_comparisons_responses_are_told_apart(side: str) -> None:
    good = Comparison((USER,), Response.of("Yes."), Response.of("No."))
    check_comparison(good, SCENARIOS)

    def wrong(response: Response) -> Comparison:
        return replace(good, response_a=response) if side == "response_a" else replace(good, response_b=response)

    with pytest.raises(InvalidItem) as raised:
        check_comparison(wrong(Response.of("")), SCENARIOS)
    assert raised.value.field == f"{side}.messages"
    with pytest.raises(InvalidItem) as raised:
        check_comparison(wrong(Response((Message.of("user", "x"),))), SCENARIOS)
    assert raised.value.field == f"{side}.messages[0].role"


@pytest.mark.parametrize(
    ("field", "value"), [("messages", ()), ("scenario", "x"), ("reference", ""), ("rubric", Rubric(()))]
)
def test_a_comparisons_context_is_checked(field: str, value: Any) -> None:
    good = Comparison((USER,), Response.of("Yes."), Response.of("No."))
    with pytest.raises(InvalidItem) as raised:
        check_comparison(replace(good, **{field: value}), SCENARIOS)
    assert raised.value.field.startswith(field)


MODES: dict[str, tuple[Mode, str]] = {
    "no points": (CritiqueMode(max_points=0), "critique.max_points"),
    "many points": (CritiqueMode(max_points=9), "critique.max_points"),
    "short points": (CritiqueMode(max_point_chars=19), "critique.max_point_chars"),
    "long points": (CritiqueMode(max_point_chars=1001), "critique.max_point_chars"),
    "no samples": (ReasoningMode(samples=0), "reasoning.samples"),
    "many samples": (ReasoningMode(samples=17), "reasoning.samples"),
    "few tokens": (ReasoningMode(max_tokens=15), "reasoning.max_tokens"),
    "many tokens": (ReasoningMode(max_tokens=4097), "reasoning.max_tokens"),
    "cold": (ReasoningMode(temperature=-0.1), "reasoning.temperature"),
    "hot": (ReasoningMode(temperature=2.1), "reasoning.temperature"),
    "no number": (ReasoningMode(temperature=math.nan), "reasoning.temperature"),
}


@pytest.mark.parametrize("case", MODES)
def test_modes_have_bounds(case: str) -> None:
    mode, field = MODES[case]
    with pytest.raises(InvalidItem, match="must lie between") as raised:
        check_options(Options(mode))
    assert raised.value.field == field


@pytest.mark.parametrize(
    "mode",
    [
        CritiqueMode(1, 20),
        CritiqueMode(8, 1000),
        ReasoningMode(1, max_tokens=16, temperature=0.0),
        ReasoningMode(16, max_tokens=4096, temperature=2.0),
    ],
)
def test_the_bounds_themselves_pass(mode: Mode) -> None:
    check_options(Options(mode))


def test_messages_alone_are_checked_alike() -> None:
    check_messages((USER,))
    with pytest.raises(InvalidItem):
        check_messages(())
