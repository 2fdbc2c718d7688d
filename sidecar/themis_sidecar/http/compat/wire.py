"""The requests of the wire formats, as their clients send them. Fields that are not named here are ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, PlainValidator, Tag, ValidationError
from pydantic_core import PydanticCustomError

from themis_sidecar.errors import InvalidCall

TEXT, TEXTS, MESSAGES = "text", "texts", "messages"  # of a field that may be either


class Wire(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class ChatMessage(Wire):
    role: str
    content: str


def _kind(others: str) -> Discriminator:
    return Discriminator(lambda value: TEXT if isinstance(value, str) else others)


def _label(value: Any) -> str | None:
    """Data sets have answers that are numbers; the judge reads them as JSON has them. A bool is no number here."""
    if value is None or isinstance(value, str):
        return value
    if type(value) is int or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    raise PydanticCustomError("label", "Input should be a string, a finite number or null")


Label = Annotated[str | None, PlainValidator(_label)]


class RewardRequest(Wire):
    """OpenRLHF's. query: prompt and response as one string; prompts: the prompts alone; labels: reference answers."""

    query: list[str]
    prompts: list[str] | None = None
    labels: list[Label] | None = None


class RemoteRequest(Wire):
    """slime's."""

    prompt: Annotated[Annotated[str, Tag(TEXT)] | Annotated[list[ChatMessage], Tag(MESSAGES)], _kind(MESSAGES)]
    response: str
    label: Label = None


class ClassifyRequest(Wire):
    """vLLM's. input: whole chats, the reply included; messages: one such chat."""

    input: (
        Annotated[Annotated[str, Tag(TEXT)] | Annotated[list[str], Tag(TEXTS)], _kind(TEXTS)] | None
    ) = None  # fmt: skip
    messages: list[ChatMessage] | None = None


Asked = TypeVar("Asked", bound=Wire)


def read_body(kind: type[Asked], body: bytes) -> Asked:
    """Raises InvalidCall with the field that is wrong; never with what stands in it."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidCall(_path(problem["loc"]), _lower(problem["msg"])) from None


def check_lengths(name: str, expected: int, **lists: list[Any] | None) -> None:
    """Raises InvalidCall where one of the lists has not as many entries as the one called `name`."""
    for other, values in lists.items():
        if values is not None and len(values) != expected:
            raise InvalidCall(other, f"holds {len(values)} entries, and {name} {expected}; send one for each")


def _path(place: Iterable[int | str]) -> str:
    path = ""
    for depth, step in enumerate(place):
        if depth and step in (TEXT, TEXTS, MESSAGES):  # which of the field's kinds was read
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _lower(message: str) -> str:
    return message if message.startswith("JSON") else message[:1].lower() + message[1:]
