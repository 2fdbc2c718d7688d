"""What one call came to, for its line in the log."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field

from themis_judge.items import Status
from themis_sidecar.security.callers import NOBODY, Caller


@dataclass(slots=True)
class CallRecord:
    """items: how many were asked for; statuses: what became of those that were answered; caller: who asked."""

    items: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    caller: Caller = NOBODY


class CallRecords:
    """Hands the record of the running call from the interceptor to the service, which can't see each other."""

    def __init__(self) -> None:
        self._current: ContextVar[CallRecord] = ContextVar("themis_call")
        self._caller: ContextVar[Caller] = ContextVar("themis_caller", default=NOBODY)

    def identify(self, caller: Caller) -> None:
        """Says who makes the call whose record begins next, in this task."""
        self._caller.set(caller)

    def begin(self) -> CallRecord:
        record = CallRecord(caller=self._caller.get())
        self._current.set(record)
        return record

    @property
    def current(self) -> CallRecord:
        return self._current.get()
