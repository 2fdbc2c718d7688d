"""The one place where a gRPC status becomes an error of this package."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

from themis_client import errors
from themis_client.failure import Status

PUSHBACK_KEY = "grpc-retry-pushback-ms"
SIZE_LIMIT_WORDS = "larger than max"
"""How gRPC itself words RESOURCE_EXHAUSTED for a message's size; it offers nothing else to tell it from overload."""
LOST_STREAM_WORDS = "Internal error from Core"
"""How grpc.aio words INTERNAL when it writes to a stream that the server has just ended: the write's own failure hides
the status on its way. It goes when grpc.aio waits for that status."""

KINDS: dict[grpc.StatusCode, type[errors.ThemisError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.ABORTED: errors.Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.BadRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.BadRequest,
    grpc.StatusCode.NOT_FOUND: errors.UnknownVersion,
    grpc.StatusCode.UNAUTHENTICATED: errors.Refused,
    grpc.StatusCode.PERMISSION_DENIED: errors.Refused,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
}
RETRYABLE = (errors.Unavailable, errors.Overloaded)

ITEM_STATUSES: dict[type[errors.ThemisError], Status] = {
    errors.Unavailable: Status.UNAVAILABLE,
    errors.Overloaded: Status.OVERLOADED,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    errors.MessageTooLarge: Status.INVALID,
    errors.ServerFailed: Status.ENGINE_ERROR,
}
"""What the items of a lost batch become while other batches have results. Other errors concern the whole call."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call that failed as a whole, and what the server said about coming back."""

    error: errors.ThemisError
    retryable: bool
    pushback_s: float | None = None


def concerns_items(error: errors.ThemisError) -> bool:
    """Whether the error is about some items, rather than about the call as such (its options, the caller)."""
    return type(error) in ITEM_STATUSES


def read(error: grpc.aio.AioRpcError, address: str) -> CallFailure:
    """What a failed call means."""
    details = error.details() or "no details"
    kind = KINDS.get(error.code(), errors.ServerFailed)
    if kind is errors.Overloaded and SIZE_LIMIT_WORDS in details:
        kind = errors.MessageTooLarge
    if kind is errors.ServerFailed and details == LOST_STREAM_WORDS:
        kind = errors.Unavailable
    pushback_s = _pushback_s(error)
    refused = pushback_s is not None and pushback_s < 0
    failed = kind(f"{address}: {error.code().name}: {details}")
    return CallFailure(failed, issubclass(kind, RETRYABLE) and not refused, pushback_s)


def _pushback_s(error: grpc.aio.AioRpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK_KEY:
            return _milliseconds(value)
    return None


def _milliseconds(value: str | bytes) -> float:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    # gRPC's retry design reads a malformed hint as "do not retry", like a negative one.
    return int(text) / 1000 if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() else -1.0
