"""What every call goes through: one line in the log, and one place where errors become gRPC statuses."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from themis_judge.items import Status
from themis_sidecar.calls import CallRecord, CallRecords
from themis_sidecar.errors import CallError, InvalidCall
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.status import CallStatus, status_of

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Deserializer = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Stands for a request that could not be read."""

    problem: str


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service; health and reflection pass untouched."""

    def __init__(self, service: str, records: CallRecords, logger: Logger, telemetry: Telemetry) -> None:
        self._service = service
        self._prefix = f"/{service}/"
        self._telemetry = telemetry
        self._records = records
        self._logger = logger

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or not path.startswith(self._prefix):
            return handler
        return self._wrap(handler, path.removeprefix(self._prefix))

    def _wrap(self, handler: Any, method: str) -> Handler:
        """The handler's type is open because its declared one knows synchronous methods only."""
        deserializer = _tolerant(handler.request_deserializer)
        if handler.request_streaming:
            streaming = handler.stream_stream

            async def stream(requests: AsyncIterator[Any], context: Context) -> None:
                await self._call(method, context, lambda: streaming(_readable(requests), context))

            return grpc.stream_stream_rpc_method_handler(stream, deserializer, handler.response_serializer)
        answering = handler.unary_unary

        async def answer(request: Any, context: Context) -> Any:
            return await self._call(method, context, lambda: answering(_checked(request), context))

        return grpc.unary_unary_rpc_method_handler(answer, deserializer, handler.response_serializer)

    async def _call(self, method: str, context: Context, work: Callable[[], Awaitable[Any]]) -> Any:
        record, started_s = self._records.begin(method), time.monotonic()
        with self._telemetry.tracing.call(self._service, record, context.invocation_metadata()):
            try:
                return await work()
            except asyncio.CancelledError:
                record.code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - the one place where unexpected errors end
                status = status_of(error) if isinstance(error, CallError) else self._incident(record, error)
                record.code = status.code
                await _abort(context, status)
            finally:
                record.duration_s = time.monotonic() - started_s
                self._telemetry.call_ended(record)
                self._log(context, record)

    def _incident(self, record: CallRecord, error: Exception) -> CallStatus:
        record.incident = incident = secrets.token_hex(8)
        self._logger.error("incident", incident=incident, method=record.method, error=error)
        return CallStatus(grpc.StatusCode.INTERNAL, f"internal error; incident {incident} in the server's log")

    def _log(self, context: Context, record: CallRecord) -> None:
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
            peer=context.peer(),
            **traced,
        )


async def _abort(context: Context, status: CallStatus) -> NoReturn:
    await context.abort(status.code, status.message, status.trailers)


def _tolerant(deserialize: Deserializer | None) -> Deserializer:
    """Left to gRPC, bytes that are no message would end the call with an UNKNOWN that quotes the parser."""
    assert deserialize is not None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except (DecodeError, UnicodeDecodeError):
            return _Malformed("the request can't be read as the method's message; send protobuf, and texts in UTF-8")

    return read


def _checked(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidCall("", request.problem)
    return request


async def _readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)
