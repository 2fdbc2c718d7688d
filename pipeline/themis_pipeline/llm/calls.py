"""A call to an LLM and what comes of it, in plain types."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from themis_judge.engines.base import Deadline
from themis_judge.store.codec import canonical

Role = Literal["generator", "teacher"]
Finish = Literal["stop", "length", "withheld", "empty"]

_OWN = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "stream"})


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """endpoint: its name in the settings; role: what the answer is for, a teacher's lineage is checked; seed: None
    leaves it to the endpoint; extra: more fields of the body, which win over the endpoint's own."""

    endpoint: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    role: Role = "generator"
    seed: int | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.messages or self.max_tokens < 1:
            raise ValueError("a request has at least one message and max_tokens of at least 1")
        check_extra(self.extra)
        if not all(is_text(message.content) for message in self.messages):
            raise ValueError("a message has half a surrogate pair in it, which can't be sent")

    @property
    def prompt_bytes(self) -> int:
        return sum(len(message.content.encode()) for message in self.messages)


@dataclass(frozen=True, slots=True)
class CallKey:
    """What makes a call the same after a crash: the input's id, the stage, and the index of the question within the
    two. attempt: the how-manieth answer to it; another one is asked for where those before were of no use."""

    input_id: str
    stage: str
    index: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class CallContext:
    """deadline: for everything, waiting and retries included; it must be finite."""

    key: CallKey
    deadline: Deadline

    def __post_init__(self) -> None:
        if not math.isfinite(self.deadline.at_s):
            raise ValueError("a call needs a deadline")


@dataclass(frozen=True, slots=True)
class Completion:
    """model: as the endpoint names it in its answer; cost_micros: millionths of the currency of the prices;
    from_journal: paid before, nothing was spent now."""

    text: str = field(repr=False)
    finish: Finish
    endpoint: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    from_journal: bool = False


def check_extra(extra: Mapping[str, Any]) -> None:
    """Raises ValueError for fields that what a call may cost depends on, or how its answer is read."""
    own = sorted(_OWN & extra.keys())
    if own:
        raise ValueError(f"{own[0]} can't be among the extra fields of a body")


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def request_digest(endpoint: str, body: Mapping[str, Any]) -> str:
    """Hex SHA-256 of what is sent, and to whom. An endpoint that moves to another address stays the same one."""
    return hashlib.sha256(canonical([endpoint, dict(body)])).hexdigest()
