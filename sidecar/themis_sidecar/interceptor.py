"""How gRPC's calls come in: read with care, and ended with the status of what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from themis_sidecar.calls import CallRecords
from themis_sidecar.edge import CallFailed, Edge
from themis_sidecar.errors import InvalidCall
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.status import CallStatus

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
        self._prefix = f"/{service}/"
        self._edge = Edge(service, records, logger, telemetry)

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
        try:
            return await self._edge.call(method, context.peer(), context.invocation_metadata(), work)
        except CallFailed as failed:
            await _abort(context, failed.status)


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
