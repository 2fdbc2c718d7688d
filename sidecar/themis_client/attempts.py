"""What became of each attempt to have items judged; results alone don't tell what retries cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from themis_client.errors import ThemisError
from themis_client.failure import Status
from themis_client.rpc_errors import ITEM_STATUSES, CallFailure


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of one replica. statuses: of the items that it was about; all alike where the call failed.
    pushback_s: when the server would like to see the caller again, in seconds; None where it did not say."""

    replica: str
    statuses: tuple[Status, ...]
    pushback_s: float | None = None


Observer: TypeAlias = Callable[[Attempt], None]
"""Called on the client's event loop, once an attempt: it has to be quick, and must not raise."""


def unobserved(_: Attempt) -> None:
    """For callers who don't want to know."""


def lost(replica: str, items: int, failed: CallFailure) -> Attempt:
    """An attempt that ended without answers."""
    return Attempt(replica, (_status(failed.error),) * items, failed.pushback_s)


def _status(error: ThemisError) -> Status:
    return ITEM_STATUSES.get(type(error), Status.UNKNOWN)
