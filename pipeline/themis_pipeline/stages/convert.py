"""Between the contract's messages and the types of judge and client."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict

from themis_client import Conversation, Item
from themis_judge import items as judge
from themis_pipeline.runner.stage import Reject
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb


def text_message(role: str, text: str) -> pb.Message:
    return pb.Message(role=role, parts=[pb.Part(text=text)])


def prompt_messages(prompt: ev.NewPrompt) -> list[pb.Message]:
    """The conversation of a prompt. Raises Reject: messages_or_text."""
    if bool(prompt.messages) == bool(prompt.text):
        raise Reject("messages_or_text", "exactly one of both is set")
    return list(prompt.messages) or [text_message("user", prompt.text)]


def conversation(messages: Iterable[pb.Message]) -> Conversation:
    """For the client. Raises InvalidItem."""
    return Conversation.from_dict({"messages": [_json(message) for message in messages]})


def item(labelled: ev.Labelled) -> Item:
    """What a label about one response is about, for the client. Raises InvalidItem."""
    told = {
        "messages": [_json(message) for message in labelled.instruction.messages],
        "response": _json(labelled.candidates[0].response),
        "scenario": labelled.instruction.scenario,
    }
    if labelled.mode == ev.LABEL_MODE_REFERENCE:
        told["reference"] = labelled.instruction.reference
    return Item.from_dict(told)


def judge_messages(messages: Iterable[pb.Message]) -> tuple[judge.Message, ...]:
    return tuple(judge.Message(message.role, tuple(map(_part, message.parts))) for message in messages)


def judge_response(response: pb.Response) -> judge.Response:
    return judge.Response(judge_messages(response.messages), judge.FinishReason(response.finish_reason))


def plain_text(message: pb.Message) -> str:
    """A message of text alone. Raises Reject: not_text."""
    if not message.parts or any(part.WhichOneof("kind") != "text" for part in message.parts):
        raise Reject("not_text", "a message holds something that is not text")
    return "".join(part.text for part in message.parts)


def _part(part: pb.Part) -> judge.Part:
    kind = part.WhichOneof("kind")
    if kind == "text":
        return judge.Text(part.text)
    if kind == "reasoning":
        return judge.Reasoning(part.reasoning)
    if kind == "tool_call":
        return judge.ToolCall(part.tool_call.name, part.tool_call.arguments_json, part.tool_call.id)
    if kind == "tool_result":
        return judge.ToolResult(part.tool_result.text, part.tool_result.id, part.tool_result.is_error)
    raise Reject("not_text", f"a part of kind {kind}")


def _json(message: pb.Message | pb.Response) -> dict[str, object]:
    return MessageToDict(message, preserving_proto_field_name=True)
