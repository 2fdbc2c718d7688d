"""The last calls that failed, for people who look: what and when, and no text of anybody's."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from themis_sidecar.calls import CallRecord

KEPT = 5
"""Of each code, so that a flood of refusals doesn't push out the one unexpected error."""


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
        self._kept: defaultdict[str, deque[FailedCall]] = defaultdict(lambda: deque(maxlen=KEPT))

    def add(self, record: CallRecord) -> None:
        at, code = datetime.fromtimestamp(self._clock(), timezone.utc), record.code.name
        self._kept[code].append(
            FailedCall(at, record.method, code, record.items, record.duration_s, record.incident, record.trace_id)
        )

    def latest(self) -> tuple[FailedCall, ...]:
        """Newest first."""
        kept = [failed for of_one_code in self._kept.values() for failed in of_one_code]
        return tuple(sorted(kept, key=lambda failed: failed.at, reverse=True))
