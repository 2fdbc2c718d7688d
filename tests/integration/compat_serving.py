"""A server around a fake judge that trainers reach by HTTP, in this process. The judge goes by what replies say."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from tests.integration.observe_serving import Samples, parsed
from tests.integration.sidecar_fakes import FakeJudge, make_config
from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_judge.items import Item, Options, Reasoning, Result, Status, Text
from themis_proto.v1 import judge_pb2_grpc
from themis_sidecar.config import CompatConfig, HttpConfig, LogConfig, SecurityConfig
from themis_sidecar.http.compat.routes import compat_routes
from themis_sidecar.http.port import HttpPort
from themis_sidecar.http.routes import observation_routes
from themis_sidecar.http.status import StatusPage
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

SCORES = {"good": 1.0, "fair": 0.5, "poor": 0.0}
FAILURES = {"long": Status.TOO_LONG, "off": Status.OFF_FORMAT, "late": Status.DEADLINE_EXCEEDED,
            "broken": Status.ENGINE_ERROR}  # fmt: skip


class ReadingJudge(FakeJudge):
    """A reply's first word is what FakeJudge knows as a key; a word of SCORES is its score, a word of FAILURES its
    end. items: all that it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        self.items.append(item)
        said = " ".join(part.text for part in item.response.messages[0].parts if isinstance(part, Text))
        word = said.split()[0] if said.split() else ""
        if not said:
            return Result(Status.INVALID, error="response: is empty", error_field="response")
        if said.startswith("invalid label"):
            return Result(Status.INVALID, error="reference: can't be used", error_field="reference")
        result = await super().score_one(dataclasses.replace(item, key=word), options, deadline)
        if word in FAILURES:
            return Result(FAILURES[word], error="it can't be rated", off_format="label_mass")
        if word not in SCORES or result.verdict is None:
            return result
        return dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, score=SCORES[word]))

    @property
    def asked(self) -> list[tuple[tuple[str, str], ...]]:
        """The items' conversations as role and text."""
        return [tuple((one.role, _texts(one.parts)) for one in item.messages) for item in self.items]

    @property
    def replies(self) -> list[str]:
        return [_texts(item.response.messages[0].parts) for item in self.items]


def _texts(parts: Any) -> str:
    return " + ".join(f"({part.text})" if isinstance(part, Reasoning) else part.text for part in parts)


@dataclass
class Compat:
    """http: a client of the HTTP port; stub: of the gRPC port of the same server."""

    judge: ReadingJudge
    server: Server
    parts: Fixed
    telemetry: Telemetry
    http: httpx.AsyncClient
    stub: Any
    address: str
    log: io.StringIO = field(default_factory=io.StringIO)

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def samples(self) -> Samples:
        return parsed((await self.http.get("/metrics")).text)

    async def post(self, path: str, sent: Any, **more: Any) -> httpx.Response:
        return await self.http.post(path, json=sent, timeout=30.0, **more)


@asynccontextmanager
async def compat(
    judge: ReadingJudge | None = None,
    callers: Path | None = None,
    ready: bool = True,
    limits: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Compat]:
    """settings: of http.compat. ready: whether it serves already."""
    judge, log, telemetry = judge or ReadingJudge(), io.StringIO(), Telemetry.untraced("1.2.3")
    http = HttpConfig(port=0, compat=CompatConfig(**{"enabled": True} | settings))
    sections = {"http": http, "security": SecurityConfig(callers_file=callers)}
    config, logger = make_config(**limits or {}).model_copy(update=sections), make_logger(LogConfig(), log)
    parts = Fixed.make(judge, config, logger, telemetry)
    server = Server(parts, config, logger, "1.2.3", telemetry)
    observing = observation_routes(
        telemetry.metrics.registry, StatusPage(server, config, telemetry, "1.2.3"), server.lets_in
    )
    port = HttpPort(http, (*observing, *compat_routes(config, server.service, parts.judging, logger, telemetry)))
    address, http_address = await server.start(), await port.start()
    if ready:
        parts.supply.admit()
        await server.serve()
    try:
        async with (
            grpc.aio.insecure_channel(address) as channel,
            httpx.AsyncClient(base_url=f"http://{http_address}") as client,
        ):
            stub = judge_pb2_grpc.JudgeServiceStub(channel)
            yield Compat(judge, server, parts, telemetry, client, stub, http_address, log)
    finally:
        await server.stop()
        await port.stop()


def chatml(*turns: tuple[str, str], opened: str = "") -> str:
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
    return f"{text}<|im_start|>assistant\n{opened}"


PROMPT = chatml(("user", "What is 2+2?"))


def rewards(*replies: str, prompt: str = PROMPT, labels: list[Any] | None = None, end: str = "<|im_end|>") -> Any:
    """A request as OpenRLHF sends it."""
    return {
        "query": [f"{prompt}{reply}{end}" for reply in replies],
        "prompts": [prompt] * len(replies),
        "labels": labels if labels is not None else [""] * len(replies),
    }


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status code, gRPC code and blamed field, which have to agree."""
    told = response.json()["error"]
    assert told["code"] == response.status_code
    assert set(told) == {"message", "type", "param", "code"}
    return response.status_code, told["type"], told["param"]
