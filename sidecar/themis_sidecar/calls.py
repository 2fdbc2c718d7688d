"""What one call came to, for its line in the log."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field

from themis_judge.items import Status


@dataclass(slots=True)
class CallRecord:
    """items: how many were asked for; statuses: what became of those that were answered."""

    items: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)


class CallRecords:
    """Hands the record of the running call from the interceptor to the service, which can't see each other."""

    def __init__(self) -> None:
        self._current: ContextVar[CallRecord] = ContextVar("themis_call")

    def begin(self) -> CallRecord:
        record = CallRecord()
        self._current.set(record)
        return record

    @property
    def current(self) -> CallRecord:
        return self._current.get()
