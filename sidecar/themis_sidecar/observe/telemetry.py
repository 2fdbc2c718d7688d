"""Metrics, traces and last failures of one server: what its calls are told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from themis_sidecar.calls import CallRecord
from themis_sidecar.config import TracingConfig
from themis_sidecar.observe.failures import LastFailures
from themis_sidecar.observe.metrics import Metrics
from themis_sidecar.observe.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    metrics: Metrics
    tracing: Tracing
    failures: LastFailures = field(default_factory=LastFailures)

    @classmethod
    def untraced(cls, software_version: str) -> Telemetry:
        return cls(Metrics(software_version), Tracing(None, software_version))

    def call_ended(self, record: CallRecord) -> None:
        self.metrics.calls.ended(record)
        if record.failed:
            self.failures.add(record)


@contextmanager
def open_telemetry(config: TracingConfig, software_version: str) -> Iterator[Telemetry]:
    """What `config` asks for; at the end the last spans are sent. Raises MissingExtra."""
    if config.otlp_endpoint is None:
        yield Telemetry.untraced(software_version)
        return
    from themis_sidecar.observe.otlp import otlp_provider  # needs the SDK, which the extra `tracing` brings

    with otlp_provider(config, software_version) as provider:
        yield Telemetry(Metrics(software_version), Tracing(provider, software_version))
