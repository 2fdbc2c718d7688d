"""Dataclasses to canonical JSON and back, by their types: what is read is what was written, or an error says where."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class BadJson(ValueError):
    """The text says where and what."""


def canonical(value: Any) -> bytes:
    """JSON with one spelling only, so that equal contents have equal digests. Raises BadJson for what JSON can't
    hold."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise BadJson(str(error)) from error


def encode(value: Any) -> bytes:
    """Canonical JSON of a dataclass. Raises BadJson for what JSON can't hold."""
    return canonical(to_plain(value, type(value)))


def parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise BadJson(f"not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadJson("a JSON object is expected")
    return value


def decode(kind: type[T], data: Mapping[str, Any], lenient: bool = False) -> T:
    """A dataclass from a JSON object. lenient: fields that aren't known are left out, for what newer software wrote.
    Raises BadJson."""
    found: T = _from_plain(kind, data, kind.__name__, lenient)
    return found


def to_plain(value: Any, hint: Any) -> Any:
    """JSON's types only; `hint` is the declared type, since a member of a union carries its name."""
    members = _members(hint)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        plain = {field.name: to_plain(getattr(value, field.name), hints[field.name]) for field in _fields(value)}
        return {"is": type(value).__name__, **plain} if len(members) > 1 else plain
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        inner = get_args(hint)[0] if get_origin(hint) is tuple else Any
        return [to_plain(entry, inner) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry, Any) for key, entry in value.items()}
    return value


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _members(hint: Any) -> list[Any]:
    """The dataclasses of a union."""
    if get_origin(hint) not in (Union, UnionType):
        return []
    return [member for member in get_args(hint) if dataclasses.is_dataclass(member)]


def _from_plain(hint: Any, data: Any, where: str, lenient: bool) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _of_union(hint, data, where, lenient)
    if origin is Literal:
        return _checked(data, data in arguments, f"one of {', '.join(map(repr, arguments))}", where)
    if origin in (tuple, frozenset):
        _checked(data, isinstance(data, list), "a list", where)
        return origin(
            _from_plain(arguments[0], entry, f"{where}[{index}]", lenient) for index, entry in enumerate(data)
        )
    if origin is not None and issubclass(origin, Mapping):
        _checked(data, isinstance(data, dict), "an object", where)
        return {key: _from_plain(arguments[1], entry, f"{where}.{key}", lenient) for key, entry in data.items()}
    if dataclasses.is_dataclass(hint):
        return _of_dataclass(hint, data, where, lenient)
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = isinstance(data, str) and data in hint.__members__
        return hint[_checked(data, known, f"one of {', '.join(hint.__members__)}", where)]
    return _scalar(hint, data, where)


def _of_union(hint: Any, data: Any, where: str, lenient: bool) -> Any:
    arguments, members = get_args(hint), _members(hint)
    if data is None and NoneType in arguments:
        return None
    if len(members) > 1:
        names = {member.__name__: member for member in members}
        named = isinstance(data, dict) and data.get("is") in names
        _checked(data, named, f"an object whose `is` is one of {', '.join(names)}", where)
        rest = {key: value for key, value in data.items() if key != "is"}
        return _from_plain(names[data["is"]], rest, where, lenient)
    return _from_plain(next(each for each in arguments if each is not NoneType), data, where, lenient)


def _of_dataclass(kind: Any, data: Any, where: str, lenient: bool) -> Any:
    _checked(data, isinstance(data, Mapping), "an object", where)
    hints = get_type_hints(kind)
    fields = {field.name: field for field in _fields(kind)}
    for name in data:
        if name not in fields and not lenient:
            raise BadJson(f"{where}.{name}: not known here")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise BadJson(f"{where}.{name}: is missing")
    return kind(
        **{name: _from_plain(hints[name], data[name], f"{where}.{name}", lenient) for name in fields if name in data}
    )


def _scalar(hint: Any, data: Any, where: str) -> Any:
    if hint is Any:
        return data
    if hint is float:
        number = isinstance(data, int | float) and not isinstance(data, bool) and math.isfinite(data)
        return float(_checked(data, number, "a finite number", where))
    same = isinstance(data, hint) and not (isinstance(data, bool) and hint is not bool)
    return _checked(data, same, f"of type {hint.__name__}", where)


def _checked(data: Any, holds: bool, expected: str, where: str) -> Any:
    if not holds:
        raise BadJson(f"{where}: {expected} is expected")
    return data
