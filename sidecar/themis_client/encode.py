"""From this package's types to the contract's messages. Raises InvalidItem for what has no form on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from themis_client.content import Criterion, Image, Message, Part, Reasoning, Response, Rubric, Text, ToolCall
from themis_client.errors import InvalidItem
from themis_client.items import Comparison, Conversation, DifficultyItem, Item
from themis_client.options import (
    CompareOptions,
    CriteriaMode,
    CritiqueMode,
    Mode,
    RatingMode,
    ScoreOptions,
)
from themis_proto.v1 import judge_pb2 as pb

INT32_MAX = 2**31 - 1


def item(value: Item, path: str = "") -> pb.Item:
    """`path` stands before the names of fields in errors: "evaluation." for instance."""
    return pb.Item(
        key=_utf8(value.key, f"{path}key"),
        group=_utf8(value.group, f"{path}group"),
        messages=_messages(value.messages, f"{path}messages"),
        response=_response(value.response, f"{path}response"),
        reference=_maybe(value.reference, f"{path}reference"),
        scenario=_utf8(value.scenario, f"{path}scenario"),
        rubric=_rubric(value.rubric, f"{path}rubric"),
    )


def comparison(value: Comparison) -> pb.Comparison:
    return pb.Comparison(
        key=_utf8(value.key, "key"),
        messages=_messages(value.messages, "messages"),
        response_a=_response(value.response_a, "response_a"),
        response_b=_response(value.response_b, "response_b"),
        reference=_maybe(value.reference, "reference"),
        scenario=_utf8(value.scenario, "scenario"),
        rubric=_rubric(value.rubric, "rubric"),
    )


def conversation(value: Conversation, path: str = "") -> pb.Conversation:
    return pb.Conversation(key=_utf8(value.key, f"{path}key"), messages=_messages(value.messages, f"{path}messages"))


def difficulty_item(value: DifficultyItem) -> pb.DifficultyItem:
    answer, key = _utf8(value.answer, "answer"), _utf8(value.key, "key")
    if isinstance(value.prompt, Item):
        return pb.DifficultyItem(key=key, evaluation=item(value.prompt, "evaluation."), answer=answer)
    return pb.DifficultyItem(key=key, conversation=conversation(value.prompt, "conversation."), answer=answer)


def score_options(value: ScoreOptions, version: str) -> pb.ScoreOptions:
    options = pb.ScoreOptions(
        version=version,
        truncation=pb.TruncationPolicy.ValueType(value.truncation.value),
        reasoning_policy=pb.ReasoningPolicy.ValueType(value.reasoning_policy.value),
        return_prompt=value.return_prompt,
    )
    _set_mode(options, value.mode)
    return options


def compare_options(value: CompareOptions, version: str) -> pb.CompareOptions:
    return pb.CompareOptions(
        orders=pb.CompareOrders.ValueType(value.orders.value),
        version=version,
        reasoning_policy=pb.ReasoningPolicy.ValueType(value.reasoning_policy.value),
        return_prompt=value.return_prompt,
    )


def _set_mode(options: pb.ScoreOptions, mode: Mode) -> None:
    if isinstance(mode, RatingMode):
        options.rating.SetInParent()
    elif isinstance(mode, CriteriaMode):
        options.criteria.SetInParent()
    elif isinstance(mode, CritiqueMode):
        options.critique.CopyFrom(pb.CritiqueMode(max_points=mode.max_points, max_point_chars=mode.max_point_chars))
    else:
        options.reasoning.CopyFrom(
            pb.ReasoningMode(
                samples=mode.samples, seed=mode.seed, temperature=mode.temperature, max_tokens=mode.max_tokens
            )
        )


def _messages(values: Iterable[Message], path: str) -> list[pb.Message]:
    return [_message(value, f"{path}[{i}]") for i, value in enumerate(values)]


def _message(value: Message, path: str) -> pb.Message:
    parts = [_part(part, f"{path}.parts[{i}]") for i, part in enumerate(value.parts)]
    return pb.Message(role=_utf8(value.role, f"{path}.role"), parts=parts)


def _part(value: Part, path: str) -> pb.Part:
    if isinstance(value, Text):
        return pb.Part(text=_utf8(value.text, f"{path}.text"))
    if isinstance(value, Reasoning):
        return pb.Part(reasoning=_utf8(value.text, f"{path}.reasoning"))
    if isinstance(value, ToolCall):
        call = pb.ToolCall(
            id=_utf8(value.id, f"{path}.tool_call.id"),
            name=_utf8(value.name, f"{path}.tool_call.name"),
            arguments_json=_utf8(value.arguments_json, f"{path}.tool_call.arguments_json"),
        )
        return pb.Part(tool_call=call)
    if isinstance(value, Image):
        return pb.Part(image=_image(value, f"{path}.image"))
    text, call_id = _utf8(value.text, f"{path}.tool_result.text"), _utf8(value.id, f"{path}.tool_result.id")
    return pb.Part(tool_result=pb.ToolResult(id=call_id, text=text, is_error=value.is_error))


def _image(value: Image, path: str) -> pb.Image:
    media_type = _utf8(value.media_type, f"{path}.media_type")
    return pb.Image(uri=_utf8(value.uri, f"{path}.uri"), data=value.data, media_type=media_type)


def _response(value: Response, path: str) -> pb.Response:
    return pb.Response(
        messages=_messages(value.messages, f"{path}.messages"),
        finish_reason=pb.FinishReason.ValueType(value.finish_reason.value),
    )


def _rubric(value: Rubric | None, path: str) -> pb.Rubric | None:
    if value is None:
        return None
    return pb.Rubric(
        criteria=[_criterion(criterion, f"{path}.criteria[{i}]") for i, criterion in enumerate(value.criteria)],
        scale_min=_int32(value.scale_min, f"{path}.scale_min"),
        scale_max=_int32(value.scale_max, f"{path}.scale_max"),
    )


def _criterion(value: Criterion, path: str) -> pb.Criterion:
    return pb.Criterion(
        id=_utf8(value.id, f"{path}.id"),
        name=_utf8(value.name, f"{path}.name"),
        text=_utf8(value.text, f"{path}.text"),
        weight=value.weight,
    )


def _utf8(text: str, field: str) -> str:
    # A tokenizer that cut a character in two leaves lone surrogates behind; protobuf's own error names no field.
    if not isinstance(text, str):
        raise InvalidItem(field, f"a text is needed, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidItem(field, f"lone surrogate at character {error.start}: not text") from error
    return text


def _maybe(text: str | None, field: str) -> str | None:
    return None if text is None else _utf8(text, field)


def _int32(value: int | None, field: str) -> int | None:
    if value is not None and not -INT32_MAX <= value <= INT32_MAX:
        raise InvalidItem(field, f"{value} does not fit 32 bits")
    return value
