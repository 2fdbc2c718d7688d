"""Reads JSON lines; a line that can't be read is a failure of its own, and the others are still judged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from themis_client.errors import InvalidItem
from themis_client.failure import Failure, Status

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Line(Generic[ItemT]):
    """One line of input, by its number from 1."""

    number: int
    item: ItemT | Failure


def read_lines(path: str, parse: Callable[[Mapping[str, Any]], ItemT]) -> list[Line[ItemT]]:
    """All lines that are not empty; "-" is standard input. Raises OSError if there is no such file."""
    if path == "-":
        return list(_lines(sys.stdin.buffer, parse))
    with Path(path).open("rb") as file:
        return list(_lines(file, parse))


def each_line(path: str, parse: Callable[[Mapping[str, Any]], ItemT]) -> Iterator[Line[ItemT]]:
    """The lines of a file one by one, where all of them may be too many to hold. Raises as read_lines() does."""
    with Path(path).open("rb") as file:
        yield from _lines(file, parse)


def _lines(file: BinaryIO, parse: Callable[[Mapping[str, Any]], ItemT]) -> Iterator[Line[ItemT]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield Line(number, _line(number, line, parse))


def _line(number: int, line: bytes, parse: Callable[[Mapping[str, Any]], ItemT]) -> ItemT | Failure:
    value: object = None
    try:
        value = json.loads(line)
        if not isinstance(value, Mapping):
            raise InvalidItem("", f"an object is needed, not {type(value).__name__}")
        return parse(value)
    except InvalidItem as error:
        return _failure(number, str(error), error.field, value)
    except json.JSONDecodeError as error:
        return _failure(number, f"not JSON: {error.msg} at column {error.colno}", "", value)
    except UnicodeDecodeError as error:
        return _failure(number, f"not UTF-8: byte {error.start}", "", value)


def _failure(number: int, reason: str, field: str, value: object) -> Failure:
    key = value.get("key") if isinstance(value, Mapping) else None
    return Failure(Status.INVALID, f"line {number}: {reason}", field, key if isinstance(key, str) else "")
