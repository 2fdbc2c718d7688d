"""Certificates, files of callers, and servers that are guarded by them."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.sidecar_fakes import FakeJudge
from themis_sidecar.config import EngineConfig, LimitsConfig, ListenConfig, LogConfig, SecurityConfig, ServerConfig
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.server import Server
from themis_sidecar.versions.assembly import Fixed

SERVER_NAME = "judge.example"
VALID_FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
VALID_TO = datetime.datetime(2120, 1, 1, tzinfo=datetime.timezone.utc)
RELOAD_S = 0.02
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Pair:
    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The paths of certificate and key."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            replace(path, content)
        return paths


def replace(path: Path, content: bytes) -> None:
    """In one step, so that nobody reads a half."""
    aside = path.with_suffix(".new")
    aside.write_bytes(content)
    aside.replace(path)


class Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))

    def issue(self, name: str = "", also: Sequence[x509.GeneralName] = ()) -> Pair:
        """A pair for a common name, which may be empty, and alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._name, key)
        if also:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(also)), critical=not name)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), secret)

    def issue_server(self, name: str) -> Pair:
        return self.issue(name, [x509.DNSName(SERVER_NAME)])


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return (
        builder.serial_number(x509.random_serial_number()).not_valid_before(VALID_FROM).not_valid_after(VALID_TO)
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def served_name(address: str, authority: bytes) -> str:
    """The common name of the certificate that a new connection is shown. Blocks."""
    context = ssl.create_default_context(cadata=authority.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as encrypted,
    ):
        shown = encrypted.getpeercert(binary_form=True)
    assert shown is not None
    [name] = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


# ---------------------------------------------------------------------------------------------------- callers


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def entry(name: str, *tokens: str, role: str = "score", **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "sha256": [digest(token) for token in tokens], **more}


def write_callers(path: Path, *entries: dict[str, Any]) -> Path:
    replace(path, yaml.safe_dump({"callers": list(entries)}).encode())
    return path


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


# ---------------------------------------------------------------------------------------------------- servers


@dataclass
class Guarded:
    judge: FakeJudge
    server: Server
    address: str
    log: io.StringIO

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`th line of an event, as soon as it is there."""
        await until(lambda: len(self.lines(event)) >= count)
        return self.lines(event)[count - 1]


@asynccontextmanager
async def guarded(judge: FakeJudge | None = None, host: str = "127.0.0.1", **parts: Any) -> AsyncIterator[Guarded]:
    """security=, limits=: those sections."""
    judge, log = judge or FakeJudge(), io.StringIO()
    config = ServerConfig(
        listen=ListenConfig(host=host, port=0),
        engine=EngineConfig(model="fake"),
        limits=LimitsConfig(**{"drain_notice_s": 0, "answer_margin_s": 0} | parts.get("limits", {})),
        security=SecurityConfig(**{"reload_s": RELOAD_S} | parts.get("security", {})),
    )
    logger, telemetry = make_logger(LogConfig(), log), Telemetry.untraced("1.2.3")
    made = Fixed.make(judge, config, logger, telemetry)
    made.supply.admit()
    server = Server(made, config, logger, "1.2.3", telemetry)
    address = await server.start()
    await server.serve()
    try:
        yield Guarded(judge, server, address, log)
    finally:
        await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another task or thread does, in steps."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - files and other processes set no event
            await asyncio.sleep(RELOAD_S)


async def fails_with(call: Any, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code
    return caught.value
