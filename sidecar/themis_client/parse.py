"""Reads messages, responses and rubrics from dictionaries: the contract's JSON form, and OpenAI's chat form.

Whatever can't be shown to the judge is refused by name, never dropped: a judge that misses half of a turn still gives
a number. Errors are InvalidItem with the path of the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from themis_client.content import (
    Criterion,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    Response,
    Rubric,
    Text,
    ToolCall,
    ToolResult,
)
from themis_client.errors import InvalidItem

MessageLike: TypeAlias = Message | Mapping[str, Any]
ConversationLike: TypeAlias = str | Sequence[MessageLike]
ResponseLike: TypeAlias = Response | str | MessageLike | Sequence[MessageLike]
RubricLike: TypeAlias = Rubric | Mapping[str, Any]

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
UNREADABLE_KEYS = ("function_call", "audio", "images")
"""Parts of OpenAI-like messages that carry content which has no form in the contract."""


def conversation(value: ConversationLike, path: str = "messages") -> tuple[Message, ...]:
    """A list of messages; a bare text is one turn of the user."""
    if isinstance(value, str):
        return (Message("user", value),)
    return tuple(message(turn, f"{path}[{i}]") for i, turn in enumerate(_list(value, path)))


def message(value: MessageLike, path: str) -> Message:
    """A message in either form."""
    if isinstance(value, Message):
        return value
    turn = _object(value, path)
    role = _text(turn.get("role"), f"{path}.role")
    if "parts" in turn:
        parts = _list(turn["parts"], f"{path}.parts")
        return Message(role, [_part(part, f"{path}.parts[{i}]") for i, part in enumerate(parts)])
    return Message("system" if role == "developer" else role, _chat_parts(turn, role, path))


def response(value: ResponseLike, path: str = "response") -> Response:
    """A response: a text, a message, a list of messages, or {"messages": [...], "finish_reason": ...}."""
    if isinstance(value, Response):
        return value
    if isinstance(value, (str, Message)):
        return Response(value)
    if not isinstance(value, Mapping):
        return Response(conversation(value, path))
    if "messages" in value:
        _known(value, ("messages", "finish_reason"), path)
        messages = conversation(_list(value["messages"], f"{path}.messages"), f"{path}.messages")
    else:
        messages = (message({"role": "assistant", **value}, path),)
    return Response(messages, _finish_reason(value.get("finish_reason"), f"{path}.finish_reason"))


def rubric(value: RubricLike, path: str = "rubric") -> Rubric:
    """A rubric; a criterion may be a bare sentence."""
    if isinstance(value, Rubric):
        return value
    _known(_object(value, path), ("criteria", "scale_min", "scale_max"), path)
    criteria = _list(value.get("criteria"), f"{path}.criteria")
    return Rubric(
        [_criterion(criterion, f"{path}.criteria[{i}]") for i, criterion in enumerate(criteria)],
        _optional_int(value.get("scale_min"), f"{path}.scale_min"),
        _optional_int(value.get("scale_max"), f"{path}.scale_max"),
    )


def known_fields(value: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Refuses a field that is not in the contract: most of them are misspelt ones."""
    _known(value, tuple(allowed), "")


def text_field(value: Any, field: str) -> str:
    """A text; absent is empty."""
    return "" if value is None else _text(value, field)


def optional_text(value: Any, field: str) -> str | None:
    """A text or nothing."""
    return None if value is None else _text(value, field)


# ---------------------------------------------------------------- the contract's form


def _part(value: Any, path: str) -> Part:
    kinds = dict(_object(value, path))
    if len(kinds) != 1:
        raise InvalidItem(path, "a part has exactly one kind: text, reasoning, tool_call, tool_result or image")
    ((kind, body),) = kinds.items()
    path = f"{path}.{kind}"
    match kind:
        case "text":
            return Text(_text(body, path))
        case "reasoning":
            return Reasoning(_text(body, path))
        case "tool_call":
            return ToolCall(**_texts(body, ("id", "name", "arguments_json"), path))
        case "tool_result":
            return _tool_result(_object(body, path), path)
        case "image":
            texts = _texts(body, ("uri", "media_type"), path)
            return Image(uri=texts.get("uri", ""), media_type=texts.get("media_type", ""))
    raise InvalidItem(path, "unknown kind of part")


def _tool_result(body: Mapping[str, Any], path: str) -> ToolResult:
    _known(body, ("id", "text", "is_error"), path)
    is_error = body.get("is_error", False)
    if not isinstance(is_error, bool):
        _wrong(is_error, "true or false", f"{path}.is_error")
    return ToolResult(_text(body.get("text", ""), f"{path}.text"), _text(body.get("id", ""), f"{path}.id"), is_error)


def _criterion(value: Any, path: str) -> Criterion:
    if isinstance(value, (str, Criterion)):
        return Criterion(value) if isinstance(value, str) else value
    body = _object(value, path)
    weight = body.get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        _wrong(weight, "a number", f"{path}.weight")
    texts = _texts({key: body[key] for key in body if key != "weight"}, ("id", "name", "text"), path)
    return Criterion(text=texts.pop("text", ""), weight=None if weight is None else float(weight), **texts)


def _finish_reason(value: Any, path: str) -> FinishReason:
    if value is None:
        return FinishReason.UNSPECIFIED
    if isinstance(value, FinishReason):
        return value
    name = _text(value, path).upper().removeprefix("FINISH_REASON_")
    if name not in FinishReason.__members__:
        raise InvalidItem(path, f"{value!r} is none of {[reason.name.lower() for reason in FinishReason]}")
    return FinishReason[name]


# ---------------------------------------------------------------- OpenAI's form


def _chat_parts(turn: Mapping[str, Any], role: str, path: str) -> list[Part]:
    for key in UNREADABLE_KEYS:
        if turn.get(key):
            raise InvalidItem(f"{path}.{key}", "this content can't be shown to the judge")
    if role == "tool":
        text = "".join(_content_texts(turn.get("content"), f"{path}.content"))
        return [ToolResult(text, text_field(turn.get("tool_call_id"), f"{path}.tool_call_id"))]
    thoughts = [_text(turn[key], f"{path}.{key}") for key in REASONING_KEYS if turn.get(key)]
    calls = _list(turn.get("tool_calls") or (), f"{path}.tool_calls")
    refusal = [Text(_text(turn["refusal"], f"{path}.refusal"))] if turn.get("refusal") else []
    return [
        *map(Reasoning, dict.fromkeys(thoughts)),  # some servers send the same text under two names
        *_content(turn.get("content"), f"{path}.content"),
        *refusal,
        *(_chat_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(calls)),
    ]


def _content(value: Any, path: str) -> list[Part]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(value)]
    return [_content_part(part, f"{path}[{i}]") for i, part in enumerate(_list(value, path))]


def _content_part(value: Any, path: str) -> Part:
    if isinstance(value, str):
        return Text(value)
    part = _object(value, path)
    kind = part.get("type")
    if kind in ("text", "refusal", "input_text", "output_text"):
        key = "refusal" if kind == "refusal" else "text"
        return Text(_text(part.get(key), f"{path}.{key}"))
    if kind == "image_url":
        image = part.get("image_url")
        return Image(uri=_text(image.get("url") if isinstance(image, Mapping) else image, f"{path}.image_url"))
    raise InvalidItem(f"{path}.type", f"{kind!r} is no kind of content that can be shown to the judge")


def _content_texts(value: Any, path: str) -> list[str]:
    parts = _content(value, path)
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) < len(parts):
        raise InvalidItem(path, "a tool's result is text")
    return texts


def _chat_call(value: Any, path: str) -> ToolCall:
    call = _object(value, path)
    function = _object(call.get("function", call), f"{path}.function")
    arguments = function.get("arguments", "")
    if isinstance(arguments, (Mapping, list)):
        # Data sets often store the arguments parsed; the API itself sends a JSON text.
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(
        name=_text(function.get("name"), f"{path}.function.name"),
        arguments_json=text_field(arguments, f"{path}.function.arguments"),
        id=text_field(call.get("id"), f"{path}.id"),
    )


# ---------------------------------------------------------------- plain values


def _wrong(value: Any, wanted: str, path: str) -> NoReturn:
    raise InvalidItem(path, "missing" if value is None else f"{wanted} is needed, not {type(value).__name__}")


def _text(value: Any, path: str) -> str:
    return value if isinstance(value, str) else _wrong(value, "a text", path)


def _list(value: Any, path: str) -> Sequence[Any]:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    return _wrong(value, "a list", path)


def _object(value: Any, path: str) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else _wrong(value, "an object", path)


def _optional_int(value: Any, path: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return _wrong(value, "an integer", path)


def _texts(value: Any, allowed: tuple[str, ...], path: str) -> dict[str, str]:
    body = _object(value, path)
    _known(body, allowed, path)
    if "name" in allowed and "arguments_json" in allowed:
        _text(body.get("name"), f"{path}.name")
    return {key: _text(body[key], f"{path}.{key}") for key in body}


def _known(value: Mapping[str, Any], allowed: tuple[str, ...], path: str) -> None:
    for key in value:
        if key not in allowed:
            raise InvalidItem(f"{path}.{key}".lstrip("."), f"unknown field; there are {', '.join(allowed)}")
