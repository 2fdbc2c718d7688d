"""What every call passes first: who is calling, may that be called, and is one more call of that caller's allowed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from themis_sidecar.calls import CallRecords
from themis_sidecar.errors import CallError
from themis_sidecar.logs import Logger
from themis_sidecar.security.access import Access, Need, Open
from themis_sidecar.security.authentication import Authenticator, check_access
from themis_sidecar.security.callers import Caller
from themis_sidecar.security.limits import CallSlots
from themis_sidecar.status import status_of

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

AUTHORIZATION = "authorization"

_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


@dataclass(frozen=True, slots=True)
class _Claim:
    """One call's way in. claimed: who it is by its header; None where only the connection's certificate can tell."""

    method: str
    need: Need | None
    claimed: Caller | None


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """Goes before all other interceptors. Health passes untouched, so that probes need no secret."""

    def __init__(
        self, authenticator: Authenticator, access: Access, slots: CallSlots, records: CallRecords, logger: Logger
    ) -> None:
        self._authenticator = authenticator
        self._access = access
        self._slots = slots
        self._records = records
        self._logger = logger

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        path = handler_call_details.method
        need = self._access.need(path)
        if need is Open.OPEN:
            return await continuation(handler_call_details)
        method = "unknown" if need is None else path
        try:
            claimed = self._authenticator.by_header(_authorization(handler_call_details))
            if claimed is not None:
                check_access(claimed, need)
        except CallError as error:
            return self._refusal(method, error)
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guarded(handler, _Claim(method, need, claimed))

    def _refusal(self, method: str, error: CallError) -> Handler:
        """Ends a call of any kind before its messages are read: a stranger's are not even parsed."""

        async def refuse(_requests: AsyncIterator[Any], context: Context) -> None:
            await self._refuse(method, error, context)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _refuse(self, method: str, error: CallError, context: Context) -> None:
        status = status_of(error)
        self._logger.warning("refused", method=method, code=status.code.name, problem=str(error), peer=context.peer())
        await context.abort(status.code, status.message, status.trailers)

    def _guarded(self, handler: Any, claim: _Claim) -> Handler:
        """The handler's type is open because its declared one knows synchronous methods only."""
        name, make = _KINDS[handler.request_streaming, handler.response_streaming]
        inner = getattr(handler, name)

        async def answer(request: Any, context: Context) -> Any:
            try:
                with self._entered(claim, context):
                    return await inner(request, context)
            except CallError as error:  # from the door: methods turn their own into statuses
                await self._refuse(claim.method, error, context)

        async def generate(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                with self._entered(claim, context):
                    async for response in inner(request, context):
                        yield response
            except CallError as error:
                await self._refuse(claim.method, error, context)

        guarded = generate if inspect.isasyncgenfunction(inner) else answer
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    @contextmanager
    def _entered(self, claim: _Claim, context: Context) -> Iterator[None]:
        caller = claim.claimed or self._authenticator.by_connection(context.auth_context())
        check_access(caller, claim.need)
        with self._slots.call(caller.name):
            self._records.identify(caller)
            yield


def _authorization(details: grpc.HandlerCallDetails) -> list[str]:
    values = [value for key, value in details.invocation_metadata or () if key == AUTHORIZATION]
    return [value if isinstance(value, str) else value.decode("utf-8", "replace") for value in values]
