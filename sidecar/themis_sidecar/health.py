"""The standard health service, for this server and its judge."""

from __future__ import annotations

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_health.v1.health import aio as health_aio  # type: ignore[import-untyped]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """NOT_SERVING until it is told otherwise; after `end` it stays NOT_SERVING."""

    def __init__(self, *services: str) -> None:
        self.servicer = health_aio.HealthServicer()
        self._services = ("", *services)
        self.serving = False
        self._ended = False

    async def begin(self) -> None:
        await self._set(NOT_SERVING)

    async def serve(self) -> None:
        await self._set(SERVING)
        self.serving = not self._ended

    async def end(self) -> None:
        self.serving, self._ended = False, True
        await self.servicer.enter_graceful_shutdown()

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in self._services:
            await self.servicer.set(service, status)
