"""The contract as plain data, for comparing with what was agreed: NAME_descriptor.json for each NAME.proto.

Renew those files, after a change that is meant, with: .venv/bin/python -m tests.contract.descriptor
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from themis_proto.v1 import events_pb2, judge_pb2, versions_pb2

FILES: dict[str, FileDescriptor] = {
    "events": events_pb2.DESCRIPTOR,
    "judge": judge_pb2.DESCRIPTOR,
    "versions": versions_pb2.DESCRIPTOR,
}

Lines = dict[str, dict[str, str]]


def golden(name: str) -> Path:
    return Path(__file__).with_name(f"{name}_descriptor.json")


def contract(name: str) -> dict[str, Lines]:
    """Messages' fields, enums' values and services' methods, each under its name, one line each."""
    file = FileDescriptorProto()
    FILES[name].CopyToProto(file)
    found: dict[str, Lines] = {"messages": {}, "enums": {}, "services": {}}
    _add_enums(found, file.package, file.enum_type)
    _add_messages(found, file.package, file.message_type)
    for service in file.service:
        found["services"][f"{file.package}.{service.name}"] = {
            method.name: f"{'stream ' * method.client_streaming}{method.input_type} -> "
            f"{'stream ' * method.server_streaming}{method.output_type}"
            for method in service.method
        }
    return found


def _add_messages(found: dict[str, Lines], scope: str, messages: Iterable[DescriptorProto]) -> None:
    for message in messages:
        name = f"{scope}.{message.name}"
        found["messages"][name] = {field.name: _line(message, field) for field in message.field}
        _add_enums(found, name, message.enum_type)
        _add_messages(found, name, message.nested_type)


def _add_enums(found: dict[str, Lines], scope: str, enums: Iterable[EnumDescriptorProto]) -> None:
    for enum in enums:
        found["enums"][f"{scope}.{enum.name}"] = {value.name: str(value.number) for value in enum.value}


def _line(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    """For instance "3 repeated .themis.v1.Message" or "5 optional string" or "1 oneof kind string"."""
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        label = "repeated "
    elif field.proto3_optional:
        label = "optional "
    elif field.HasField("oneof_index"):
        label = f"oneof {message.oneof_decl[field.oneof_index].name} "
    else:
        label = ""
    return f"{field.number} {label}{kind}"


if __name__ == "__main__":
    for name in FILES:
        golden(name).write_text(json.dumps(contract(name), indent=1) + "\n")
