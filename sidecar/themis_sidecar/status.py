"""Errors of a call as gRPC statuses with the details that clients act on."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from themis_sidecar.errors import (
    CallerGone,
    CallError,
    CallTimeout,
    Conflict,
    FailedPrecondition,
    Forbidden,
    InvalidCall,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownVersion,
)

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # what gRPC's own retries wait for

_CODES: dict[type[CallError], grpc.StatusCode] = {
    InvalidCall: grpc.StatusCode.INVALID_ARGUMENT,
    TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownVersion: grpc.StatusCode.NOT_FOUND,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Conflict: grpc.StatusCode.ABORTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    CallerGone: grpc.StatusCode.CANCELLED,
    CallTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a failed call ends: what `context.abort` takes."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


def status_of(error: CallError) -> CallStatus:
    code, message = _CODES[type(error)], str(error)
    if isinstance(error, InvalidCall) and error.field:
        return CallStatus(code, message, (_details(code, message, _bad_request(error)),))
    if isinstance(error, Overloaded):
        pushback = (PUSHBACK_KEY, str(round(error.retry_after_s * 1000)))
        return CallStatus(code, message, (_details(code, message, _retry_info(error)), pushback))
    return CallStatus(code, message)


def _bad_request(error: InvalidCall) -> Message:
    violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
    detail: Message = error_details_pb2.BadRequest(field_violations=[violation])
    return detail


def _retry_info(error: Overloaded) -> Message:
    delay = Duration()
    delay.FromMilliseconds(round(error.retry_after_s * 1000))
    detail: Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return detail


def _details(code: grpc.StatusCode, message: str, detail: Message) -> tuple[str, bytes]:
    packed = Any()
    packed.Pack(detail)
    number: int = code.value[0]
    return DETAILS_KEY, status_pb2.Status(code=number, message=message, details=[packed]).SerializeToString()
