"""The routes of all formats."""

from __future__ import annotations

from starlette.routing import Route

from themis_sidecar.config import ServerConfig
from themis_sidecar.edge import Edge
from themis_sidecar.http.compat.endpoint import Endpoint, Shared, Slots
from themis_sidecar.http.compat.formats import Classify, Format, OpenRLHF, Slime
from themis_sidecar.http.compat.scoring import Scoring, Service
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.versions.assembly import Judging

SERVICE = "themis.http"
"""What these calls belong to, in traces."""


def compat_routes(
    config: ServerConfig, service: Service, judging: Judging, logger: Logger, telemetry: Telemetry
) -> tuple[Route, ...]:
    """None where they are not enabled."""
    compat, limits = config.http.compat, config.limits
    if not compat.enabled:
        return ()
    formats: tuple[Format, ...] = (OpenRLHF(), Slime(), Classify())
    telemetry.metrics.calls.expect(format.method for format in formats)
    edge = Edge(SERVICE, judging.records, logger, telemetry, system="http")
    scoring = Scoring(compat, service, limits, judging.admission.retry_after_s)
    shared = Shared(compat, limits.max_deadline_s, judging.door, edge, scoring, Slots(compat.max_calls), logger)
    return tuple(
        Route(format.path, Endpoint(format, shared).answer, methods=["POST"], name=format.method) for format in formats
    )
