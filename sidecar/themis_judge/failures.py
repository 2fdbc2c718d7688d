"""Which errors are an item's own failure, and the status that each becomes. The only place that knows."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypedDict, TypeVar

from themis_judge.engines.base import (
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    PromptTooLong,
    Unsupported,
)
from themis_judge.errors import InvalidItem, OffFormat, UnsupportedItem
from themis_judge.items import Status

T = TypeVar("T")

ITEM_FAILURES = (InvalidItem, OffFormat, EngineError)

_STATUS: tuple[tuple[type[Exception], Status], ...] = (  # the most specific first
    (UnsupportedItem, Status.UNSUPPORTED),
    (InvalidItem, Status.INVALID),
    (OffFormat, Status.OFF_FORMAT),
    (PromptTooLong, Status.TOO_LONG),
    (DeadlineExceeded, Status.DEADLINE_EXCEEDED),
    (EngineOverloaded, Status.OVERLOADED),
    (EngineUnavailable, Status.UNAVAILABLE),
    (Unsupported, Status.UNSUPPORTED),
    (EngineError, Status.ENGINE_ERROR),
)


class Failure(TypedDict):
    """The fields that every failed result has."""

    status: Status
    error: str
    error_field: str
    off_format: str


def failure(error: Exception) -> Failure:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    field = error.field if isinstance(error, InvalidItem) else ""
    reason = error.reason if isinstance(error, OffFormat) else ""
    return Failure(status=status, error=str(error), error_field=field, off_format=reason)


async def caught(asked: Awaitable[T]) -> T | Exception:
    """The result, or an item's failure as a value, so that one of several questions doesn't cancel the others."""
    try:
        return await asked
    except ITEM_FAILURES as error:
        return error


def raised(value: T | Exception) -> T:
    if isinstance(value, Exception):
        raise value
    return value
