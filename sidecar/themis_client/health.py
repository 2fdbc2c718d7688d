"""Asks a replica for its health over the standard service, without that service's package: two tiny messages."""

from __future__ import annotations

import enum

import grpc
import grpc.aio

METHOD = "/grpc.health.v1.Health/Check"
SERVICE = b"themis.v1.JudgeService"
REQUEST = b"\x0a" + bytes([len(SERVICE)]) + SERVICE
"""HealthCheckRequest: field 1, a length-delimited string."""
SERVING = b"\x08\x01"
"""HealthCheckResponse: field 1, the varint 1."""


class Health(enum.Enum):
    """UNKNOWN: the replica was reached and offers no health service; nothing speaks against it."""

    SERVING = enum.auto()
    NOT_SERVING = enum.auto()
    UNKNOWN = enum.auto()


async def check(channel: grpc.aio.Channel, timeout_s: float, metadata: tuple[tuple[str, str], ...] = ()) -> Health:
    """One question, one answer; a replica that can't be asked is not serving."""
    call = channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)
    try:
        answer = await call(REQUEST, timeout=timeout_s, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        absent = error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        return Health.UNKNOWN if absent else Health.NOT_SERVING
    return Health.SERVING if answer == SERVING else Health.NOT_SERVING
