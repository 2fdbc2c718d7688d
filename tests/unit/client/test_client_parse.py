"""Both dictionary forms give the same items, and what can't be read is named."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from themis_client import (
    Comparison,
    Criterion,
    FinishReason,
    Image,
    InvalidItem,
    Item,
    Message,
    Reasoning,
    Response,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
    encode,
)

CHAT: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image_url", "image_url": {"url": "u"}}]},
    {
        "role": "assistant",
        "reasoning_content": "hm",
        "content": "wait",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
]
PARTS = [
    {"role": "system", "parts": [{"text": "Be brief."}]},
    {"role": "user", "parts": [{"text": "Look: "}, {"image": {"uri": "u"}}]},
    {
        "role": "assistant",
        "parts": [
            {"reasoning": "hm"},
            {"text": "wait"},
            {"tool_call": {"id": "c1", "name": "look", "arguments_json": '{"at": 1}'}},
        ],
    },
    {"role": "tool", "parts": [{"tool_result": {"id": "c1", "text": "a cat"}}]},
]
MESSAGES = (
    Message("system", "Be brief."),
    Message("user", [Text("Look: "), Image(uri="u")]),
    Message("assistant", [Reasoning("hm"), Text("wait"), ToolCall("look", '{"at": 1}', "c1")]),
    Message("tool", [ToolResult("a cat", "c1")]),
)


@pytest.mark.parametrize("messages", [CHAT, PARTS, MESSAGES])
def test_all_forms_mean_the_same(messages: Any) -> None:
    assert Item(messages, "a").messages == MESSAGES


def test_our_form_is_the_contracts_json() -> None:
    line = {"messages": PARTS, "response": {"messages": [PARTS[2]], "finish_reason": "FINISH_REASON_LENGTH"}}
    message = encode.item(Item.from_dict(line))
    again = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert {name: again[name] for name in line} == line


@pytest.mark.parametrize(
    "response",
    [
        "yes",
        Message("assistant", "yes"),
        {"content": "yes"},
        {"role": "assistant", "content": "yes"},
        [{"role": "assistant", "content": "yes"}],
        {"messages": [{"role": "assistant", "parts": [{"text": "yes"}]}]},
        Response("yes"),
    ],
)
def test_forms_of_a_response(response: Any) -> None:
    assert Item("q", response).response == Response("yes")


@pytest.mark.parametrize("reason", ["length", "FINISH_REASON_LENGTH", FinishReason.LENGTH])
def test_forms_of_a_finish_reason(reason: Any) -> None:
    item = Item("q", {"content": "a", "finish_reason": reason})
    assert item.response.finish_reason is FinishReason.LENGTH


def test_a_rubric() -> None:
    rubric = {"criteria": ["Be right.", {"id": "b", "text": "Be brief.", "weight": 2}], "scale_max": 10}
    found = Item("q", "a", rubric=rubric).rubric
    assert found == Rubric([Criterion("Be right."), Criterion("Be brief.", id="b", weight=2.0)], scale_max=10)


def test_parsed_arguments_become_json() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"ü": 1}}}]}
    assert Item("q", turn).response.messages[0].parts == (ToolCall("f", '{"ü": 1}'),)


def test_the_same_reasoning_under_two_names_is_one() -> None:
    turn = {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"}
    assert Item("q", turn).response.messages[0].parts == (Reasoning("r"), Text("a"))


def test_fields_without_content_are_ignored() -> None:
    turn: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "name": "x",
        "refusal": None,
        "audio": None,
        "annotations": [],
    }
    assert Item("q", turn).response == Response("a")


IMAGE = {"type": "image_url", "image_url": "u"}


def turn(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", **fields}], "response": "a"}


def with_rubric(**fields: Any) -> dict[str, Any]:
    return {"messages": "q", "response": "a", "rubric": fields}


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"response": "a"}, "messages"),
        ({"messages": "q"}, "response"),
        ({"messages": "q", "response": "a", "refrence": "r"}, "refrence"),
        ({"messages": "q", "response": "a", "reference": 3}, "reference"),
        ({"messages": "q", "response": "a", "key": 3}, "key"),
        ({"messages": [3], "response": "a"}, "messages[0]"),
        ({"messages": 3, "response": "a"}, "messages"),
        ({"messages": [{"content": "q"}], "response": "a"}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}], "response": "a"}, "messages[0].content"),
        (turn(content=[{"type": "video"}]), "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "parts": [{"txt": "q"}]}], "response": "a"}, "messages[0].parts[0].txt"),
        ({"messages": [{"role": "user", "parts": [{}]}], "response": "a"}, "messages[0].parts[0]"),
        (turn(parts=[{"tool_call": {}}]), "messages[0].parts[0].tool_call.name"),
        ({"messages": "q", "response": {"content": "a", "audio": {"id": 1}}}, "response.audio"),
        ({"messages": "q", "response": {"content": "a", "finish_reason": "tired"}}, "response.finish_reason"),
        ({"messages": "q", "response": {"messages": "a"}}, "response.messages"),
        ({"messages": "q", "response": [{"role": "tool", "content": [IMAGE]}]}, "response[0].content"),
        (with_rubric(criteria=[{"text": "x", "weight": "y"}]), "rubric.criteria[0].weight"),
        ({"messages": "q", "response": "a", "rubric": {"criteria": ["x"], "scale": 3}}, "rubric.scale"),
        ({"messages": "q", "response": "a", "rubric": {"criteria": ["x"], "scale_max": 2.5}}, "rubric.scale_max"),
    ],
)
def test_errors_name_the_field(line: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        Item.from_dict(line)
    assert caught.value.field == field


def test_comparisons() -> None:
    pair = Comparison.from_dict({"messages": "q", "response_a": "a", "response_b": {"content": "b"}, "key": "k"})
    assert pair == Comparison("q", "a", "b", key="k")
    with pytest.raises(InvalidItem) as caught:
        Comparison.from_dict({"messages": "q", "response_a": "a"})
    assert caught.value.field == "response_b"


SURROGATE = "ok \ud800"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Item(SURROGATE, "a"), "messages[0].parts[0].text"),
        (Item("q", SURROGATE), "response.messages[0].parts[0].text"),
        (Item("q", "a", reference=SURROGATE), "reference"),
        (Item("q", "a", scenario=SURROGATE), "scenario"),
        (Item("q", "a", key=SURROGATE), "key"),
        (Item("q", "a", group=SURROGATE), "group"),
        (Item("q", "a", rubric=Rubric([SURROGATE])), "rubric.criteria[0].text"),
        (Item("q", Message("assistant", [Reasoning(SURROGATE)])), "response.messages[0].parts[0].reasoning"),
        (Item("q", Message("assistant", [ToolCall(SURROGATE)])), "response.messages[0].parts[0].tool_call.name"),
        (Item([Message("tool", [ToolResult(SURROGATE)])], "a"), "messages[0].parts[0].tool_result.text"),
        (Item("q", "a", rubric=Rubric(["x"], scale_max=2**40)), "rubric.scale_max"),
        (Item("q", Message("assistant", [Text(3)])), "response.messages[0].parts[0].text"),  # type: ignore[arg-type]
    ],
)
def test_what_has_no_form_on_the_wire_is_named(item: Item, field: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        encode.item(item)
    assert caught.value.field == field


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_arrives_or_is_refused(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidItem):
            encode.item(Item("q", text))
    else:
        assert encode.item(Item("q", text)).response.messages[0].parts[0].text == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "parts", "text", "messages", "tool_calls", "function", "type", "criteria"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({"messages": JSON, "response": JSON}, optional={"rubric": JSON, "key": JSON}))
def test_nothing_but_invalid_item_is_raised(line: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidItem):
        encode.item(Item.from_dict(line))
