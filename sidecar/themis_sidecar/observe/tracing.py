"""Spans of calls and of what the engine computes for them: names, counts and times, never text.

The SDK is no part of this file: without a provider nothing is recorded, and only the caller's trace id goes into the
log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc
from opentelemetry.context import Context
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from themis_judge.engines.base import Engine
from themis_judge.items import Status as ItemStatus
from themis_sidecar.calls import CallRecord
from themis_sidecar.observe.traced_engine import TracedEngine

Metadata: TypeAlias = "Iterable[tuple[str, str | bytes]] | None"

_SERVERS_FAULT = {  # which of gRPC's codes say that a server's span failed, by OpenTelemetry's conventions
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class Tracing:
    """provider: None records nothing."""

    def __init__(self, provider: TracerProvider | None, software_version: str) -> None:
        self._tracer: Tracer | None = None
        if provider is not None:
            self._tracer = provider.get_tracer("themis_sidecar", software_version)
        self._propagator = TraceContextTextMapPropagator()

    def engine(self, engine: Engine) -> Engine:
        """The engine, with a span around each of its calls where anything is recorded."""
        return engine if self._tracer is None else TracedEngine(engine, self._tracer)

    @contextmanager
    def call(self, service: str, record: CallRecord, metadata: Metadata, system: str = "grpc") -> Iterator[None]:
        """Around one call, which came by `system`: its span is the current one, its trace id stands in the record, and
        at the end the record stands in the span."""
        parent = self._parent(metadata)
        if self._tracer is None:
            if parent is not None:
                record.trace_id = _trace_id(parent)
            yield
            return
        with self._tracer.start_as_current_span(
            f"{service}/{record.method}",
            context=parent or Context(),
            kind=SpanKind.SERVER,
            # An exception's message may quote an item.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            record.trace_id = format_trace_id(span.get_span_context().trace_id)
            try:
                yield
            finally:
                span.set_attributes(_attributes(system, service, record))
                if record.code in _SERVERS_FAULT:
                    span.set_status(Status(StatusCode.ERROR))

    def _parent(self, metadata: Metadata) -> Context | None:
        carrier = {key: value for key, value in metadata or () if key in ("traceparent", "tracestate")}
        return self._propagator.extract(carrier, Context()) if carrier else None


def _trace_id(context: Context) -> str:
    found = get_current_span(context).get_span_context()
    return format_trace_id(found.trace_id) if found.is_valid else ""


def _attributes(system: str, service: str, record: CallRecord) -> dict[str, str | int]:
    number: int = record.code.value[0]
    return {
        "rpc.system": system,
        "rpc.service": service,
        "rpc.method": record.method,
        "rpc.grpc.status_code": number,
        "themis.version": record.version,
        "themis.items": record.items,
        "themis.items_ok": record.statuses[ItemStatus.OK],
    }
