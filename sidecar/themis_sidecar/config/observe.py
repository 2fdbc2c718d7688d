"""Settings of the HTTP port, which operators look at, and of traces."""

from __future__ import annotations

from pydantic import Field, PositiveInt, field_validator, model_validator

from themis_sidecar.config.compat import CompatConfig
from themis_sidecar.config.section import Section


class HttpConfig(Section):
    """A second port, for metrics, health and the status page, and for trainers that speak HTTP."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port to bind; 0 takes a free one, which the line 'http' tells; default: there is no such port."""
    max_connections: PositiveInt = 256
    """Connections and requests at a time; beyond it requests get 503."""
    compat: CompatConfig = CompatConfig()

    @model_validator(mode="after")
    def _there_is_a_port(self) -> HttpConfig:
        if self.compat.enabled and self.port is None:
            raise ValueError("compat.enabled: needs http.port")
        return self


class TracingConfig(Section):
    """OpenTelemetry traces; needs the extra 'tracing'."""

    otlp_endpoint: str | None = None
    """Where spans go, by OTLP over gRPC: http://host:4317, or https:// for TLS; default: nowhere."""
    sample_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that begin here which are recorded; for others their caller decides."""
    service_name: str = "themis-sidecar"
    """What the server is called in traces."""

    @field_validator("otlp_endpoint")
    @classmethod
    def _with_scheme(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return endpoint
