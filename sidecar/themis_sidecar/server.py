"""The gRPC server around its judges: from the bound port to the last call's answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from themis_judge.version import JudgeVersion
from themis_proto.v1 import judge_pb2, judge_pb2_grpc, versions_pb2, versions_pb2_grpc
from themis_sidecar.config import ListenConfig, ServerConfig
from themis_sidecar.gate import Gate
from themis_sidecar.health import Health
from themis_sidecar.interceptor import CallInterceptor
from themis_sidecar.logs import Logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.service import JudgeService
from themis_sidecar.versions.assembly import Fixed, Followed

SERVICE = judge_pb2.DESCRIPTOR.services_by_name["JudgeService"].full_name
VERSION_SERVICE = versions_pb2.DESCRIPTOR.services_by_name["VersionService"].full_name
CLOSING_S = 0.5  # for last statuses to leave, and for those who watch health to be let go


@dataclass(frozen=True, slots=True)
class ServerState:
    """why_closed: what new calls are told, empty while they are let in; versions: the loaded ones, the current one
    first; tokens_per_s: as measured while there was work, None before there was any."""

    ready: bool
    why_closed: str
    versions: tuple[JudgeVersion, ...]
    calls: int
    queue_tokens: int
    tokens_per_s: float | None


class Server:
    """Bound but closed after `start`, so that a port in use is known before minutes go into loading a model."""

    def __init__(
        self,
        parts: Fixed | Followed,
        config: ServerConfig,
        logger: Logger,
        software_version: str,
        telemetry: Telemetry,
    ) -> None:
        judging = parts.judging
        self._residents = judging.residents
        self._admission = judging.admission
        self._door = judging.door
        self._telemetry = telemetry
        self._limits = config.limits
        self._host = config.listen.host
        self._port = config.listen.port
        self._gate = Gate(config.limits.max_calls)
        self._health = Health(SERVICE)
        self._keeping_up: asyncio.Task[None] | None = None
        self._grpc = grpc.aio.server(
            interceptors=[
                self._door.interceptor,
                *(CallInterceptor(name, judging.records, logger, telemetry) for name in (SERVICE, VERSION_SERVICE)),
            ],
            options=_options(config.listen, config.limits.max_message_bytes),
        )
        self.service = service = JudgeService(judging, config.limits, self._gate, software_version)
        telemetry.metrics.watch(
            ready=lambda: self._health.serving,
            calls=lambda: self._gate.calls,
            queue_tokens=lambda: self._admission.queued_tokens,
        )
        judge_pb2_grpc.add_JudgeServiceServicer_to_server(service, self._grpc)
        versions_pb2_grpc.add_VersionServiceServicer_to_server(parts.service, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._grpc)
        names = (SERVICE, VERSION_SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self) -> str:
        """Binds and answers health; the address is host:port with the real port. Raises OSError if it's taken."""
        await self._health.begin()
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port = self._door.add_port(self._grpc, f"{host}:{self._port}")
        except RuntimeError as error:
            raise OSError(f"can't listen on {host}:{self._port}") from error
        await self._grpc.start()
        self._keeping_up = asyncio.create_task(self._door.keep_up())
        return f"{host}:{port}"

    def lets_in(self, authorization: str | None) -> bool:
        """Whether the value of an HTTP Authorization header lets its sender see how the server is doing."""
        return self._door.lets_in(authorization)

    @property
    def state(self) -> ServerState:
        """How the server is doing now."""
        return ServerState(
            ready=self._health.serving,
            why_closed=self._gate.why_closed,
            versions=tuple(resident.version for resident in self._residents.current_first),
            calls=self._gate.calls,
            queue_tokens=self._admission.queued_tokens,
            tokens_per_s=self._admission.tokens_per_s,
        )

    async def serve(self) -> None:
        """Lets calls in."""
        self._gate.open()
        await self._health.serve()

    async def fail(self, reason: str) -> None:
        """Turns everybody away, and waits a moment for the callers in flight to get their answers."""
        self._telemetry.metrics.engine.failed()
        self._gate.close(f"the engine failed: {reason}")
        await self._health.end()
        await self._gate.idle(self._limits.flush_s)
        await self.stop()

    async def drain(self) -> bool:
        """Lets calls in flight finish; False where some had to be cut off."""
        await self._health.end()
        await asyncio.sleep(self._limits.drain_notice_s)
        self._gate.close("the server is draining; retry on another replica")
        finished = await self._gate.idle(self._limits.drain_s)
        await self.stop()
        return finished

    async def stop(self) -> None:
        """Cuts off what is still going on."""
        if self._keeping_up is not None:
            self._keeping_up.cancel()
        await self._grpc.stop(CLOSING_S)


def _options(listen: ListenConfig, max_message_bytes: int) -> list[tuple[str, int]]:
    options = [
        ("grpc.so_reuseport", 0),  # a second server on the port must fail, not take half of the calls
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),  # finds callers that vanished without closing
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # trainers ping through long steps
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
    if listen.max_connection_age_s is not None:
        options.append(("grpc.max_connection_age_ms", round(listen.max_connection_age_s * 1000)))
    return options
