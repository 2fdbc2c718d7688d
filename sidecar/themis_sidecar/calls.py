"""What one call came to, for its line in the log, its metrics and its span."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from themis_judge.items import Status
from themis_sidecar.security.callers import NOBODY, Caller

ObserveItem: TypeAlias = Callable[[str, str, Any], None]
"""Told the method, the version's id, and the outcome of an item of whatever kind."""


@dataclass(slots=True)
class CallRecord:
    """caller: who asked; version: that judged; items: how many were asked for; statuses: what became of those that were
    answered; code and duration_s: of the call, at its end; incident: the mark of an unexpected error; trace_id: in hex,
    where the call is part of a trace."""

    method: str
    observe: ObserveItem
    version: str = ""
    items: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    caller: Caller = NOBODY
    code: grpc.StatusCode = grpc.StatusCode.OK
    duration_s: float = 0.0
    incident: str = ""
    trace_id: str = ""

    @property
    def failed(self) -> bool:
        """Whether the call has no answer although its caller waited for one."""
        return self.code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)

    def answered(self, outcome: Any) -> None:
        """One of the call's items has its outcome."""
        self.statuses[outcome.status] += 1
        self.observe(self.method, self.version, outcome)


class CallRecords:
    """Hands the record of the running call from the interceptor to the service, which can't see each other."""

    def __init__(self, observe: ObserveItem) -> None:
        self._observe = observe
        self._current: ContextVar[CallRecord] = ContextVar("themis_call")
        self._caller: ContextVar[Caller] = ContextVar("themis_caller", default=NOBODY)

    def identify(self, caller: Caller) -> None:
        """Says who makes the call whose record begins next, in this task."""
        self._caller.set(caller)

    def begin(self, method: str) -> CallRecord:
        record = CallRecord(method, self._observe, caller=self._caller.get())
        self._current.set(record)
        return record

    @property
    def current(self) -> CallRecord:
        return self._current.get()
