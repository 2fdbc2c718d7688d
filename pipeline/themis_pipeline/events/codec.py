"""Events as records and back: protobuf with its name and version in headers, JSON where people feed a topic.

The name and the version stand in headers, so that a reader knows before it parses: protobuf reads nearly any bytes as
nearly any message.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import DecodeError, Message

from themis_pipeline.events.errors import Defect, Malformed, TooLarge

MESSAGE = "themis-message"
"""The header with the message's name, "NewPrompt" for instance."""
VERSION = "themis-version"
"""The header with the version of the message's meaning, counted from 1, in decimal digits."""

CURRENT_VERSION = 1
"""Of every message as yet. A field that is added changes no meaning, and no version."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
EventT = TypeVar("EventT", bound=Message)


class Readable(Protocol):
    """What is read of a record."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Headers: ...


def encode(event: Message, max_bytes: int) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """Value and headers. Equal events give equal bytes. Raises TooLarge above `max_bytes` of value."""
    value = event.SerializeToString(deterministic=True)
    if len(value) > max_bytes:
        raise TooLarge(len(value), max_bytes)
    return value, ((MESSAGE, event.DESCRIPTOR.name.encode()), (VERSION, str(CURRENT_VERSION).encode()))


def decode(
    record: Readable, expected: Sequence[type[EventT]], max_bytes: int, json_as: type[EventT] | None = None
) -> EventT:
    """The event that a record holds, one of `expected`; fields that this reader doesn't know stay in it.

    json_as: what a record without our headers is read as, from JSON; None: such a record is malformed.
    Raises Malformed.
    """
    if record.value is None:
        raise Malformed(Defect.TOMBSTONE, "the record has no value")
    if len(record.value) > max_bytes:
        raise Malformed(Defect.OVERSIZE, f"{len(record.value)} bytes are more than {max_bytes}")
    name, version = (_header(record.headers, key) for key in (MESSAGE, VERSION))
    if name is None and version is None and json_as is not None:
        return _from_json(record.value, json_as)
    kind = _kind(name, expected)
    _check_version(version)
    try:
        return kind.FromString(record.value)
    except DecodeError as error:
        raise Malformed(Defect.BYTES, f"the value is no {kind.DESCRIPTOR.name}") from error


def _header(headers: Headers, key: str) -> str | None:
    found = [value for name, value in headers if name == key]
    if not found:
        return None
    if len(found) > 1 or found[0] is None or not found[0].isascii():
        raise Malformed(Defect.HEADERS, f"the header {key} is there twice, or holds no plain text")
    return found[0].decode("ascii")


def _kind(name: str | None, expected: Sequence[type[EventT]]) -> type[EventT]:
    wanted = " or ".join(kind.DESCRIPTOR.name for kind in expected)
    if name is None:
        raise Malformed(Defect.HEADERS, f"the header {MESSAGE} is missing; it should say {wanted}")
    for kind in expected:
        if kind.DESCRIPTOR.name == name:
            return kind
    raise Malformed(Defect.MESSAGE, f"the header {MESSAGE} does not say {wanted}")


def _check_version(version: str | None) -> None:
    if version is None or not version.isdecimal() or len(version) > 9 or int(version) == 0:
        raise Malformed(Defect.HEADERS, f"the header {VERSION} is missing, or is no number from 1")
    if int(version) > CURRENT_VERSION:
        raise Malformed(
            Defect.VERSION, f"version {int(version)} is newer than {CURRENT_VERSION}, the newest known here"
        )


# ---------------------------------------------------------------- JSON, as people write it


def _from_json(value: bytes, kind: type[EventT]) -> EventT:
    """Strict: a field that is unknown is a misspelt one, and would be lost without a word."""
    name = kind.DESCRIPTOR.name
    try:
        data = json.loads(
            value.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise Malformed(Defect.JSON, f"no JSON: {error.msg} at {place}") from None
    except (ValueError, RecursionError):  # their texts may quote the record
        raise Malformed(Defect.JSON, "no JSON in UTF-8, or nested too deep, or a key stands twice") from None
    if not isinstance(data, dict):
        raise Malformed(Defect.JSON, f"no JSON object, as {name} is one")
    try:
        event = json_format.ParseDict(data, kind())
    except (json_format.ParseError, ValueError, RecursionError):
        raise Malformed(Defect.JSON, f"a field that {name} doesn't have, or a value of another kind") from None
    if not _is_exact(data, cast(Descriptor, kind.DESCRIPTOR)):
        raise Malformed(Defect.JSON, f"a value in {name} that is not of the field's kind")
    return event


def _once(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("JSON has no NaN and no infinity")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond what a double holds")
    return number


def _is_exact(data: Mapping[str, Any], kind: Descriptor) -> bool:
    """Whether bytes are base64, enums have one of their values and messages are objects; the library takes the nearest
    there. `data` is what it could read."""
    fields = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    for name, value in data.items():
        field = fields[name]
        for one in value if isinstance(value, list) else [value]:
            if one is None:
                continue
            if field.type == field.TYPE_BYTES and not _BASE64.fullmatch(one):
                return False
            if field.enum_type and not isinstance(one, str) and not _is_number_of(field.enum_type, one):
                return False
            if field.message_type and not (isinstance(one, dict) and _is_exact(one, field.message_type)):
                return False
    return True


def _is_number_of(enum: EnumDescriptor, value: object) -> bool:
    return type(value) is int and value in enum.values_by_number
