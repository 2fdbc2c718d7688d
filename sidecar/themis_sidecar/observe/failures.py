"""The last calls that failed, for people who look: what and when, and no text of anybody's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from themis_sidecar.calls import CallRecord

KEPT = 20


@dataclass(frozen=True, slots=True)
class FailedCall:
    """at: UTC; incident: the mark of its lines in the log, empty where the failure has a status of its own."""

    at: datetime
    method: str
    code: str
    items: int
    duration_s: float
    incident: str
    trace_id: str


class LastFailures:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: deque[FailedCall] = deque(maxlen=KEPT)

    def add(self, record: CallRecord) -> None:
        at = datetime.fromtimestamp(self._clock(), timezone.utc)
        self._kept.appendleft(
            FailedCall(
                at, record.method, record.code.name, record.items, record.duration_s, record.incident, record.trace_id
            )
        )

    def latest(self) -> tuple[FailedCall, ...]:
        """Newest first."""
        return tuple(self._kept)
