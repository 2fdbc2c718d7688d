"""/metrics, /healthz, /readyz and /statusz."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from themis_sidecar.http.status import StatusPage

Authorize = Callable[[str | None], bool]
"""Whether the value of an Authorization header, None without one, lets its sender in."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


def observation_routes(registry: CollectorRegistry, status: StatusPage, authorize: Authorize) -> tuple[Route, ...]:
    """authorize: guards the status page alone. Probes and scrapers come without a token as a rule, and what they get
    holds neither settings nor failures."""
    samples = _Samples(registry)

    # No coroutine, so that Starlette runs it beside the loop: text of a thousand lines takes milliseconds.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(samples), headers=HEADERS | {"content-type": content_type})

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n", headers=HEADERS)

    async def readyz(_request: Request) -> Response:
        state = status.server.state
        if state.ready:
            return PlainTextResponse("ready\n", headers=HEADERS)
        reason = state.why_closed or "the server is draining"
        return PlainTextResponse(f"not ready: {reason}\n", status_code=503, headers=HEADERS)

    async def statusz(request: Request) -> Response:
        if not authorize(request.headers.get("authorization")):
            return PlainTextResponse(
                "a token is needed\n", status_code=401, headers=HEADERS | {"www-authenticate": "Bearer"}
            )
        if _wants_json(request.headers.get("accept", "")):
            return JSONResponse(status.report(), headers=HEADERS)
        return HTMLResponse(status.page(), headers=HEADERS)

    return (
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/statusz", statusz),
    )


def _wants_json(accept: str) -> bool:
    """Whether JSON is asked for before HTML; browsers name HTML, and curl names nothing."""
    kinds = [kind.split(";")[0].strip() for kind in accept.split(",")]
    return next((kind == "application/json" for kind in kinds if kind in ("application/json", "text/html")), False)


class _Samples(Collector):
    """A registry without the times at which its series began, which double their number and tell nobody anything."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
