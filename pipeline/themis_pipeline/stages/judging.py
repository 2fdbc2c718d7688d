"""Calls to the sidecar: one input each, and what its failures mean to a stage."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from themis_client import (
    DeadlineExceeded,
    InvalidItem,
    MessageTooLarge,
    Overloaded,
    ProtocolError,
    Refused,
    ServerFailed,
    Unavailable,
    UnknownVersion,
    Unsupported,
)
from themis_client.failure import Failure
from themis_client.results import Results
from themis_pipeline.runner.stage import Reject, Retry

OkT = TypeVar("OkT")

RETRY_AFTER_S = 15.0
# A token that was changed on one side first, or a proxy between, says nothing about the record either.
_LATER = (
    DeadlineExceeded,
    Overloaded,
    ProtocolError,
    Refused,
    ServerFailed,
    Unavailable,
    UnknownVersion,
    Unsupported,
)


async def only(call: Awaitable[Results[OkT]]) -> OkT:
    """The one result of a call with one item.

    Raises Retry where a later call may do better (a version that no replica holds may yet be loaded), and Reject for
    what stays as it is; both with a code, and without a text of the server's, which may quote the item.
    """
    try:
        [result] = await call
    except _LATER as error:
        raise Retry(RETRY_AFTER_S, type(error).__name__) from error
    except (InvalidItem, MessageTooLarge) as error:
        raise Reject(type(error).__name__) from error
    if not isinstance(result, Failure):
        return result
    if result.retryable:
        raise Retry(RETRY_AFTER_S, result.status.name)
    raise Reject(result.status.name)
