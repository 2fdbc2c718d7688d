"""Roles at a real port, in front of services that stand for those to come."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.security_parts import bearer, entry, fails_with, write_callers
from themis_sidecar.calls import CallRecords
from themis_sidecar.config import LogConfig, SecurityConfig
from themis_sidecar.interceptor import CallInterceptor
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.security.callers import Role
from themis_sidecar.security.door import Door

VERSIONS, UNKNOWN = "themis.v1.VersionService", "themis.v1.NewService"
FOR_ALL = ["List", "Hold", "Release"]
FOR_ADMINS = ["Load", "Promote", "Retire", "Anything", "list"]
SCORE, ADMIN = "token-of-score", "token-of-admin"
DENIED = grpc.StatusCode.PERMISSION_DENIED


async def echo(request: bytes, context: Any) -> bytes:
    return b"done"


async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


def unobserved(_method: str, _version: str, _outcome: Any) -> None: ...


def handlers(service: str) -> grpc.GenericRpcHandler:
    methods: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(echo) for name in (*FOR_ALL, *FOR_ADMINS)}
    methods["Watch"] = grpc.unary_stream_rpc_method_handler(tell)
    methods["Upload"] = grpc.stream_unary_rpc_method_handler(gather)
    return grpc.method_handlers_generic_handler(service, methods)


@asynccontextmanager
async def guarded_services(config: SecurityConfig, host: str) -> AsyncIterator[tuple[grpc.aio.Channel, io.StringIO]]:
    log, records, telemetry = io.StringIO(), CallRecords(unobserved), Telemetry.untraced("1.2.3")
    logger = make_logger(LogConfig(), log)
    door = Door(config, host, records, logger)
    server = grpc.aio.server(interceptors=[door.interceptor, CallInterceptor(VERSIONS, records, logger, telemetry)])
    server.add_generic_rpc_handlers((_plain(VERSIONS), handlers(UNKNOWN)))
    port = door.add_port(server, "127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, log
    finally:
        await server.stop(0)


def _plain(service: str) -> grpc.GenericRpcHandler:
    """As generated code makes them: with deserialisers."""
    methods: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(echo, bytes, bytes) for name in (*FOR_ALL, *FOR_ADMINS)
    }
    return grpc.method_handlers_generic_handler(service, methods)


@pytest.fixture
def config(tmp_path: Path) -> SecurityConfig:
    file = write_callers(tmp_path / "callers.yaml", entry("trainer", SCORE), entry("platform", ADMIN, role="admin"))
    return SecurityConfig(callers_file=file)


def method(channel: grpc.aio.Channel, path: str) -> Any:
    return channel.unary_unary(path)


async def test_score_tokens_never_reach_admin_methods(config: SecurityConfig) -> None:
    async with guarded_services(config, "127.0.0.1") as (channel, log):
        for name in FOR_ALL:
            for token in (SCORE, ADMIN):
                assert await method(channel, f"/{VERSIONS}/{name}")(b"", metadata=bearer(token)) == b"done"
        for name in FOR_ADMINS:
            call = method(channel, f"/{VERSIONS}/{name}")
            error = await fails_with(call(b"", metadata=bearer(SCORE)), DENIED)
            assert "admin" in (error.details() or "")
            await fails_with(call(b""), grpc.StatusCode.UNAUTHENTICATED)
            assert await call(b"", metadata=bearer(ADMIN)) == b"done"
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {line["caller"] for line in lines if line["event"] == "call"} == {"trainer", "platform"}
    assert {line["code"] for line in lines if line["event"] == "refused"} == {"PERMISSION_DENIED", "UNAUTHENTICATED"}


async def test_a_service_that_nobody_thought_of_is_denied_to_everybody(config: SecurityConfig) -> None:
    async with guarded_services(config, "127.0.0.1") as (channel, log):
        for path in (f"/{UNKNOWN}/List", f"/{UNKNOWN}/Watch", "/nowhere/Nothing", f"/{VERSIONS}x/List"):
            await fails_with(method(channel, path)(b"", metadata=bearer(ADMIN)), DENIED)
    assert UNKNOWN not in log.getvalue()  # a name that a stranger made up is not repeated


@pytest.mark.parametrize(
    ("host", "role", "admin"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("judge.example", None, False),
        ("127.0.0.1", "score", False),
        ("0.0.0.0", "admin", True),
    ],
)
async def test_without_authentication_only_this_machine_administers(host: str, role: Any, admin: bool) -> None:
    async with guarded_services(SecurityConfig(anonymous_role=role), host) as (channel, log):
        assert await method(channel, f"/{VERSIONS}/List")(b"") == b"done"
        promote = method(channel, f"/{VERSIONS}/Promote")
        if admin:
            assert await promote(b"") == b"done"
        else:
            await fails_with(promote(b""), DENIED)
        await fails_with(method(channel, f"/{UNKNOWN}/List")(b""), DENIED)
    warned = "unauthenticated" in log.getvalue()
    assert warned is (host not in ("127.0.0.1", "::1", "localhost"))


@pytest.mark.parametrize(
    ("host", "http_host", "warned"),
    [
        ("127.0.0.1", None, []),
        ("127.0.0.1", "localhost", []),
        ("127.0.0.1", "0.0.0.0", ["0.0.0.0"]),
        ("10.0.0.7", "127.0.0.1", ["10.0.0.7"]),
        ("10.0.0.7", "0.0.0.0", ["10.0.0.7", "0.0.0.0"]),
    ],
)
def test_each_port_that_is_open_to_strangers_is_warned_of(host: str, http_host: str | None, warned: list[str]) -> None:
    log, records = io.StringIO(), CallRecords(unobserved)
    door = Door(SecurityConfig(), host, records, make_logger(LogConfig(), log), http_host)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["host"] for line in lines if line["event"] == "unauthenticated"] == warned
    with door.http_call([]):  # whoever comes by a port has what its address gives
        beyond = (http_host or host) in ("0.0.0.0", "10.0.0.7")
        assert records.begin("rm").caller.role is (Role.SCORE if beyond else Role.ADMIN)


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary"])
async def test_calls_of_every_kind_pass_the_door(config: SecurityConfig, kind: str) -> None:
    """The service's own interceptor knows two kinds only, so these stand behind the door alone."""
    log = io.StringIO()
    door = Door(config, "127.0.0.1", CallRecords(unobserved), make_logger(LogConfig(), log))
    server = grpc.aio.server(interceptors=[door.interceptor])
    server.add_generic_rpc_handlers((handlers(VERSIONS),))
    port = door.add_port(server, "127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for token, let_in in ((ADMIN, True), (SCORE, False)):
                call = _call(channel, kind, token)
                if let_in:
                    assert await call == [b"one", b"two"]
                else:
                    await fails_with(call, DENIED)
    finally:
        await server.stop(0)


async def _call(channel: grpc.aio.Channel, kind: str, token: str) -> Sequence[bytes]:
    raw: Any
    if kind == "unary_stream":
        raw = channel.unary_stream(f"/{VERSIONS}/Watch")
        return [response async for response in raw(b"", metadata=bearer(token))]
    raw = channel.stream_unary(f"/{VERSIONS}/Upload")
    text: bytes = await raw(iter([b"one ", b"two"]), metadata=bearer(token))
    return text.split()
