"""Failed calls as HTTP answers. Nothing else chooses a status code."""

from __future__ import annotations

import math
from collections.abc import Mapping

import grpc
from starlette.responses import JSONResponse, Response

from themis_sidecar.edge import CallFailed
from themis_sidecar.errors import InvalidCall, Overloaded, TooLarge

_CODES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    # Not 429: verl gives up at the first 4xx and tries again after a 5xx; OpenRLHF and slime try again after either.
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def refusal(failed: CallFailed) -> Response:
    """In the shape of vLLM's errors: `type` is the gRPC code, `param` the field to blame, null where none is."""
    error, status = failed.error, failed.status
    code = 413 if isinstance(error, TooLarge) else _CODES[status.code]
    param = error.field or None if isinstance(error, InvalidCall) else None
    told = {"message": status.message, "type": status.code.name, "param": param, "code": code}
    return JSONResponse({"error": told}, status_code=code, headers=_headers(failed))


def _headers(failed: CallFailed) -> dict[str, str]:
    headers = {"cache-control": "no-store"}
    if isinstance(failed.error, Overloaded):
        headers["retry-after"] = str(math.ceil(failed.error.retry_after_s))  # whole seconds, as HTTP has it
    if failed.status.code is grpc.StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return headers
