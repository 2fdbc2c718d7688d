"""What a conversation is made of: messages of typed parts, responses, rubrics. As in the contract, in plain types."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text: always data, whatever it spells."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The speaker's own reasoning ("thinking"); see ReasoningPolicy for what the judge sees of it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; its arguments are a JSON text, shown to the judge as it stands."""

    name: str
    arguments_json: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned."""

    text: str
    id: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """Reserved: the item fails with UNSUPPORTED until a judge can see images."""

    uri: str = ""
    data: bytes = b""
    media_type: str = ""


Part: TypeAlias = Text | Reasoning | ToolCall | ToolResult | Image


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One turn: Message("user", "hello"), or with parts. Roles: system, user, assistant, tool."""

    role: str
    parts: tuple[Part, ...]

    def __init__(self, role: str, parts: str | Iterable[Part]) -> None:
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "parts", (Text(parts),) if isinstance(parts, str) else tuple(parts))


class FinishReason(enum.Enum):
    """Why a policy stopped writing; numbers as in the contract."""

    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    TOOL_CALLS = 3
    CONTENT_FILTER = 4


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """What a policy answered: Response("text"), or messages of roles assistant and tool (a trajectory)."""

    messages: tuple[Message, ...]
    finish_reason: FinishReason

    def __init__(
        self,
        messages: str | Message | Iterable[Message],
        finish_reason: FinishReason = FinishReason.UNSPECIFIED,
    ) -> None:
        if isinstance(messages, str):
            messages = Message("assistant", messages)
        object.__setattr__(self, "messages", (messages,) if isinstance(messages, Message) else tuple(messages))
        object.__setattr__(self, "finish_reason", finish_reason)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing to look for. `text` is one sentence; `weight` counts in mode `criteria` only."""

    text: str
    id: str = ""
    name: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True, init=False)
class Rubric:
    """Criteria in descending order of importance, and the integer scale; None is the server's default (1 to 5)."""

    criteria: tuple[Criterion, ...]
    scale_min: int | None
    scale_max: int | None

    def __init__(
        self,
        criteria: Iterable[Criterion | str],
        scale_min: int | None = None,
        scale_max: int | None = None,
    ) -> None:
        found = tuple(Criterion(criterion) if isinstance(criterion, str) else criterion for criterion in criteria)
        object.__setattr__(self, "criteria", found)
        object.__setattr__(self, "scale_min", scale_min)
        object.__setattr__(self, "scale_max", scale_max)
