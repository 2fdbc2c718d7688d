"""What every call goes through, whatever it came by: a record, a span, one line in the log, and an end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from themis_judge.items import Status
from themis_sidecar.calls import CallRecord, CallRecords
from themis_sidecar.errors import CallError
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.observe.tracing import Metadata
from themis_sidecar.status import CallStatus, status_of

T = TypeVar("T")


class CallFailed(Exception):
    """How a call ended without an answer; `error` is None for what nobody expected."""

    def __init__(self, status: CallStatus, error: CallError | None) -> None:
        super().__init__(status.message)
        self.status = status
        self.error = error


class Edge:
    """Of the calls of one service. system: what they came by, in traces."""

    def __init__(
        self, service: str, records: CallRecords, logger: Logger, telemetry: Telemetry, system: str = "grpc"
    ) -> None:
        self._system = system
        self._service = service
        self._records = records
        self._logger = logger
        self._telemetry = telemetry

    async def call(self, method: str, peer: str, metadata: Metadata, work: Callable[[], Awaitable[T]]) -> T:
        """Does the call's work in the caller's name (see `CallRecords.identify`). Raises CallFailed."""
        record, started_s = self._records.begin(method), time.monotonic()
        with self._telemetry.tracing.call(self._service, record, metadata, self._system):
            try:
                return await work()
            except asyncio.CancelledError:
                record.code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                known = error if isinstance(error, CallError) else None
                status = self._incident(record, error) if known is None else status_of(known)
                record.code = status.code
                raise CallFailed(status, known) from error
            finally:
                record.duration_s = time.monotonic() - started_s
                self._telemetry.call_ended(record)
                self._log(peer, record)

    def _incident(self, record: CallRecord, error: Exception) -> CallStatus:
        record.incident = incident = secrets.token_hex(8)
        self._logger.error("incident", incident=incident, method=record.method, error=error)
        return CallStatus(grpc.StatusCode.INTERNAL, f"internal error; incident {incident} in the server's log")

    def _log(self, peer: str, record: CallRecord) -> None:
        answered = record.statuses.total()
        traced = {"trace_id": record.trace_id} if record.trace_id else {}
        self._logger.info(
            "call",
            method=record.method,
            code=record.code.name,
            caller=record.caller.name,
            items=record.items,
            ok=record.statuses[Status.OK],
            failed=answered - record.statuses[Status.OK],
            statuses={status.name: count for status, count in record.statuses.items()},
            duration_s=round(record.duration_s, 6),
            peer=peer,
            **traced,
        )
