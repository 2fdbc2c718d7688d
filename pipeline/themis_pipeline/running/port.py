"""The HTTP port, in the loop of the stages: /metrics, /healthz and /readyz."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from themis_pipeline.config import MetricsConfig
from themis_pipeline.running.health import Health
from themis_pipeline.running.logs import Logger

CLOSING_S = 1  # for answers under way; whole seconds, as uvicorn takes them
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class PortTaken(OSError):
    """The address can't be bound."""


@asynccontextmanager
async def serving(
    config: MetricsConfig, registry: CollectorRegistry, health: Health, logger: Logger
) -> AsyncIterator[None]:
    """Answers while the block runs, if there is to be a port at all. Raises PortTaken."""
    if config.listen is None:
        yield
        return
    listener = _listen(config.listen)
    server = _Guest(_settings(_routes(registry, health, config.stalled_s), config.max_connections))
    task = asyncio.create_task(server.serve([listener]))
    begun = asyncio.create_task(server.begun.wait())
    await asyncio.wait((task, begun), return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if task.done():
        task.result()
    host, port = listener.getsockname()[:2]
    try:
        logger.info("http", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        yield
    finally:
        server.should_exit = True
        await task


def _routes(registry: CollectorRegistry, health: Health, stalled_s: float | None) -> Sequence[BaseRoute]:
    # No coroutine, so that it runs beside the loop: text of a thousand lines takes milliseconds.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers=HEADERS | {"content-type": content_type})

    async def healthz(_request: Request) -> Response:
        """By the loop that handles: one that hangs doesn't answer."""
        stalled = [] if stalled_s is None else health.stalled(stalled_s)
        if stalled:
            return PlainTextResponse(f"stalled: {', '.join(stalled)}\n", status_code=503, headers=HEADERS)
        return PlainTextResponse("alive\n", headers=HEADERS)

    async def readyz(_request: Request) -> Response:
        ready = health.ready
        stages = {name: asdict(stage) for name, stage in health.stages().items()}
        told = {"ready": ready, "stopping": health.stopping, "stages": stages}
        return JSONResponse(told, status_code=200 if ready else 503, headers=HEADERS)

    return (Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz))


def _settings(routes: Sequence[BaseRoute], max_connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        Starlette(routes=list(routes)),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=CLOSING_S,
    )


class _Guest(uvicorn.Server):
    """Signals belong to the process itself; and it says when it has begun."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError) as error:
        raise PortTaken(f"metrics.listen: can't listen on {address}: {error}") from error
