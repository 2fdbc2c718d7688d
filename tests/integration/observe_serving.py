"""A server around a fake judge with its HTTP port, in this process."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.sidecar_fakes import FakeJudge, make_config
from themis_judge.items import Result, Status
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import HttpConfig, LogConfig, ServerConfig
from themis_sidecar.http.port import HttpPort
from themis_sidecar.http.routes import Authorize, observation_routes
from themis_sidecar.http.status import StatusPage
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class ObservedJudge(FakeJudge):
    """Keys that begin with "off" get no verdict."""

    async def score_one(self, item: Any, options: Any = None, deadline: Any = None) -> Result:
        if item.key.startswith("off"):
            return Result(Status.OFF_FORMAT, error="no verdict", off_format="label_mass")
        return await super().score_one(item, options, deadline)


@dataclass
class Observed:
    """http: a client of the second port; address: of the second port."""

    judge: FakeJudge
    parts: Fixed
    server: Server
    telemetry: Telemetry
    stub: Any
    http: httpx.AsyncClient
    address: str
    log: io.StringIO

    async def serve(self) -> None:
        """As if the judge had just been loaded."""
        self.parts.supply.admit()
        await self.server.serve()

    async def samples(self) -> Samples:
        return parsed((await self.http.get("/metrics")).text)

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def observed(
    judge: FakeJudge,
    config: ServerConfig | None = None,
    authorize: Authorize | None = None,
    http: HttpConfig | None = None,
    clock: Callable[[], float] = lambda: 1_700_000_000.0,
) -> AsyncIterator[Observed]:
    """Bound, and closed until `serve()`. authorize: the server's own by default."""
    log, telemetry, config = io.StringIO(), Telemetry.untraced("1.2.3"), config or make_config()
    logger = make_logger(LogConfig(), log)
    parts = Fixed.make(judge, config, logger, telemetry)
    server = Server(parts, config, logger, "1.2.3", telemetry)
    status = StatusPage(server, config, telemetry, "1.2.3", clock)
    routes = observation_routes(telemetry.metrics.registry, status, authorize or server.lets_in)
    port = HttpPort(http or HttpConfig(port=0), routes)
    address = await server.start()
    http_address = await port.start()
    try:
        async with (
            grpc.aio.insecure_channel(address) as channel,
            httpx.AsyncClient(base_url=f"http://{http_address}") as client,
        ):
            stub = judge_pb2_grpc.JudgeServiceStub(channel)
            yield Observed(judge, parts, server, telemetry, stub, client, http_address, log)
    finally:
        await server.stop()
        await port.stop()


def parsed(text: str) -> Samples:
    """Samples by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def at(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]
