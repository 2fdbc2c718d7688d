"""Spans to a collector, by OTLP over gRPC. The only file that needs OpenTelemetry's SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from themis_sidecar.config import TracingConfig

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

LAST_SPANS_S = 3.0
"""How long a server that ends waits for its last spans to leave: a collector that is away must not hold it up."""


class MissingExtra(Exception):
    """A setting asks for what isn't installed."""


@contextmanager
def otlp_provider(config: TracingConfig, software_version: str) -> Iterator[TracerProvider]:
    """Not the process's global one. Spans are sent by a thread of the SDK's from a queue of 2,048, and dropped where
    that is full, which the log tells."""
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as SDKProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise MissingExtra(f"tracing.otlp_endpoint needs the extra 'tracing': {error}") from error
    exporter = OTLPSpanExporter(endpoint=config.otlp_endpoint)
    provider = SDKProvider(
        sampler=ParentBasedTraceIdRatio(config.sample_share),
        resource=Resource.create({"service.name": config.service_name, "service.version": software_version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider
    finally:
        closing = threading.Thread(target=provider.shutdown, name="themis-last-spans", daemon=True)
        closing.start()
        closing.join(LAST_SPANS_S)
        if closing.is_alive():
            exporter.shutdown()
