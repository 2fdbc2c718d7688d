"""Errors of calls as HTTP answers."""

from __future__ import annotations

import json

import pytest

from themis_sidecar import errors
from themis_sidecar.edge import CallFailed
from themis_sidecar.errors import CallError
from themis_sidecar.http.compat.refusals import refusal
from themis_sidecar.status import status_of

CODES: dict[CallError, int] = {
    errors.InvalidCall("query[0]", "x"): 400,
    errors.Unauthenticated("x"): 401,
    errors.Forbidden("x"): 403,
    errors.UnknownVersion("x"): 404,
    errors.Conflict("x"): 409,
    errors.TooLarge("x"): 413,
    errors.FailedPrecondition("x"): 422,
    errors.Overloaded("x", 1.2): 503,
    errors.CallerGone("x"): 499,
    errors.Unavailable("x"): 503,
    errors.CallTimeout("x"): 504,
}


def test_every_error_of_a_call_has_a_code() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CallError)}
    assert {type(error) for error in CODES} | {CallError} == kinds


@pytest.mark.parametrize(("error", "code"), CODES.items(), ids=[type(error).__name__ for error in CODES])
def test_an_error_is_told_in_one_shape(error: CallError, code: int) -> None:
    status = status_of(error)
    answer = refusal(CallFailed(status, error))
    assert answer.status_code == code
    assert json.loads(bytes(answer.body)) == {
        "error": {
            "message": str(error),
            "type": status.code.name,
            "param": "query[0]" if code == 400 else None,
            "code": code,
        }
    }
    assert answer.headers.get("retry-after") == ("2" if isinstance(error, errors.Overloaded) else None)
    assert answer.headers.get("www-authenticate") == ("Bearer" if code == 401 else None)
