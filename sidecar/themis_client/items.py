"""What is judged: items, comparisons, conversations, answers. Constructors take plain dictionaries as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from themis_client import parse
from themis_client.content import Message, Response, Rubric
from themis_client.errors import InvalidItem
from themis_client.parse import ConversationLike, ResponseLike, RubricLike


@dataclass(frozen=True, slots=True, init=False)
class Item:
    """One response to rate.

    messages: the conversation up to the turn that `response` answers; a text is one turn of the user.
    response: a text, a message, several messages (a trajectory), or a Response.
    reference: a correct or good answer. scenario: an id from describe(); empty is classified.
    rubric: criteria and a scale in place of the scenario's. key, group: echoed.
    Raises InvalidItem for what can't be read.
    """

    messages: tuple[Message, ...]
    response: Response
    reference: str | None
    scenario: str
    rubric: Rubric | None
    key: str
    group: str

    def __init__(
        self,
        messages: ConversationLike,
        response: ResponseLike,
        *,
        reference: str | None = None,
        scenario: str = "",
        rubric: RubricLike | None = None,
        key: str = "",
        group: str = "",
    ) -> None:
        _set(self, messages=parse.conversation(messages), response=parse.response(response))
        _set(self, reference=reference, scenario=scenario, key=key, group=group)
        _set(self, rubric=None if rubric is None else parse.rubric(rubric))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Item:
        """Reads the JSON form: the contract's, or {"messages": [{"role", "content"}], "response": "text"}."""
        parse.known_fields(value, cls.__slots__)
        return cls(
            _needed(value, "messages"),
            _needed(value, "response"),
            reference=parse.optional_text(value.get("reference"), "reference"),
            scenario=parse.text_field(value.get("scenario"), "scenario"),
            rubric=value.get("rubric"),
            key=parse.text_field(value.get("key"), "key"),
            group=parse.text_field(value.get("group"), "group"),
        )


@dataclass(frozen=True, slots=True, init=False)
class Comparison:
    """Two responses to one conversation; fields as in Item. The rubric's scale is not used."""

    messages: tuple[Message, ...]
    response_a: Response
    response_b: Response
    reference: str | None
    scenario: str
    rubric: Rubric | None
    key: str

    def __init__(
        self,
        messages: ConversationLike,
        response_a: ResponseLike,
        response_b: ResponseLike,
        *,
        reference: str | None = None,
        scenario: str = "",
        rubric: RubricLike | None = None,
        key: str = "",
    ) -> None:
        _set(self, messages=parse.conversation(messages))
        _set(self, response_a=parse.response(response_a, "response_a"))
        _set(self, response_b=parse.response(response_b, "response_b"))
        _set(self, reference=reference, scenario=scenario, key=key)
        _set(self, rubric=None if rubric is None else parse.rubric(rubric))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Comparison:
        """Reads the JSON form, as Item.from_dict does."""
        parse.known_fields(value, cls.__slots__)
        return cls(
            _needed(value, "messages"),
            _needed(value, "response_a"),
            _needed(value, "response_b"),
            reference=parse.optional_text(value.get("reference"), "reference"),
            scenario=parse.text_field(value.get("scenario"), "scenario"),
            rubric=value.get("rubric"),
            key=parse.text_field(value.get("key"), "key"),
        )


@dataclass(frozen=True, slots=True, init=False)
class Conversation:
    """A conversation to classify."""

    messages: tuple[Message, ...]
    key: str

    def __init__(self, messages: ConversationLike, *, key: str = "") -> None:
        _set(self, messages=parse.conversation(messages), key=key)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Conversation:
        """Reads {"messages": [...], "key": ...}."""
        parse.known_fields(value, cls.__slots__)
        return cls(_needed(value, "messages"), key=parse.text_field(value.get("key"), "key"))


@dataclass(frozen=True, slots=True)
class DifficultyItem:
    """An answer, and what it answers: an Item (the answer is an evaluation of it) or a Conversation (its next turn)."""

    prompt: Item | Conversation
    answer: str
    key: str = ""


ItemLike: TypeAlias = Item | Mapping[str, Any]
ComparisonLike: TypeAlias = Comparison | Mapping[str, Any]
ConversationItemLike: TypeAlias = Conversation | Mapping[str, Any]


def _set(target: object, **fields: object) -> None:
    # Frozen dataclasses with a constructor of their own have no other way.
    for name, value in fields.items():
        object.__setattr__(target, name, value)


def _needed(value: Mapping[str, Any], field: str) -> Any:
    if value.get(field) is None:
        raise InvalidItem(field, "missing")
    return value[field]
