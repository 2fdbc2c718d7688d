"""What rows of the input may be."""

from __future__ import annotations

from typing import Any

import pytest

from themis_client.content import Message
from themis_client.errors import InvalidItem
from themis_client.pairs.prompt import Prompt

USER = {"role": "user", "content": "q"}


def test_texts() -> None:
    prompt = Prompt.from_dict({"prompt": "q", "responses": ["a", "b"], "reference": "r", "scenario": "math", "id": "x"})
    assert prompt == Prompt("q", ("a", "b"), "r", "math", "x")
    assert not prompt.chat
    item = prompt.item(1, 7)
    assert (item.messages, item.response.messages) == ((Message("user", "q"),), (Message("assistant", "b"),))
    assert (item.reference, item.scenario, item.key, item.group) == ("r", "math", "x/1", "x")


def test_what_is_absent_is_named_by_its_line() -> None:
    prompt = Prompt.from_dict({"prompt": "q", "responses": ("a", "b"), "reference": None, "id": None})
    assert prompt == Prompt("q", ("a", "b"), None, "", "")
    assert (prompt.item(0, 7).key, prompt.item(0, 7).group) == ("7/0", "7")


def test_messages() -> None:
    answer = {"role": "assistant", "content": "b", "tool_calls": None}
    prompt = Prompt.from_dict({"prompt": [USER], "responses": ["a", answer, [answer]], "id": 4})
    turns = [{"role": "assistant", "content": "b"}]
    assert prompt.responses == ([{"role": "assistant", "content": "a"}], turns, turns)
    assert (prompt.chat, prompt.id, prompt.distinct) == (True, "4", [0, 1])
    assert prompt.item(2, 1).response.messages == (Message("assistant", "b"),)


def test_copies_are_judged_once() -> None:
    assert Prompt.from_dict({"prompt": "q", "responses": ["a", "b", "a", "c", "b"]}).distinct == [0, 1, 3]


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": 3}, "prompt", "a text or a list of messages is needed, not int"),
        ({"prompt": []}, "prompt", "no message"),
        ({"prompt": ["q"]}, "prompt[0]", "an object is needed, not str"),
        ({"prompt": [{"role": "user"}]}, "prompt[0].content", "missing"),
        ({"prompt": [{"content": "q"}]}, "prompt[0].role", "missing"),
        ({"prompt": [{"role": "user", "content": ["q"]}]}, "prompt[0].content", "a text is needed, not list"),
        ({"prompt": [{**USER, "name": "n"}]}, "prompt[0].name", "role and content, and nothing else"),
        ({"prompt": "\udfff"}, "prompt", "lone surrogate at character 0"),
        ({"responses": None}, "responses", "missing"),
        ({"responses": "ab"}, "responses", "a list is needed, not str"),
        ({"responses": {"a": 1}}, "responses", "a list is needed, not dict"),
        ({"responses": []}, "responses", "2 at least are needed, not 0"),
        ({"responses": ["a", None]}, "responses[1]", "missing"),
        ({"responses": ["a", 2]}, "responses[1]", "a text, as the prompt is one, is needed, not int"),
        ({"prompt": [USER], "responses": ["a", 2]}, "responses[1]", "a text or a list of messages is needed"),
        ({"prompt": [USER], "responses": ["a", []]}, "responses[1]", "no message"),
        ({"reference": 1}, "reference", "a text is needed, not int"),
        ({"scenario": ["math"]}, "scenario", "a text is needed, not list"),
        ({"id": True}, "id", "a text is needed, not bool"),
        ({"id": 1.5}, "id", "a text is needed, not float"),
        ({"response": "a"}, "response", "unknown field; there are prompt, responses"),
    ],
)
def test_what_cant_be_read(change: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        Prompt.from_dict({"prompt": "q", "responses": ["a", "b"], **change})
    assert caught.value.field == field
    assert told in caught.value.reason
