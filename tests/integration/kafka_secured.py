"""A broker that wants to know who calls: TLS with a name and a password on one port, with a certificate on another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion  # type: ignore[import-untyped]

from tests.integration.security_parts import Authority, Pair
from themis_pipeline.local.broker import free_port, kafka_broker

NAME, PASSWORD, KEY_PASSWORD = "pipeline", "a password of its own", "a key's"
LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Secured:
    plain: str
    """Addresses: without anything,"""
    by_password: str
    """by name and password in TLS,"""
    by_certificate: str
    """and by a certificate."""
    ca_file: Path
    other_ca_file: Path
    """Of an authority that the broker's certificate is not of."""
    cert_file: Path
    key_file: Path
    locked_key_file: Path
    """The same key under KEY_PASSWORD."""
    stranger_cert_file: Path
    """Of an authority that the broker doesn't know."""
    stranger_key_file: Path


@contextmanager
def secured_broker(folder: Path, cache: Path) -> Iterator[Secured]:
    """NAME may come with PASSWORD, by PLAIN and by both kinds of SCRAM."""
    ours, others = Authority("ours"), Authority("others")
    server = _keystore(folder / "server.pem", ours.issue("broker", [x509.DNSName("localhost")]))
    ca_file, other_ca_file = _written(folder / "ca.crt", ours), _written(folder / "other.crt", others)
    own = ours.issue("pipeline")
    cert_file, key_file = own.write(folder, "pipeline")
    stranger = others.issue("stranger").write(folder, "stranger")
    by_password, by_certificate = f"localhost:{free_port()}", f"localhost:{free_port()}"
    data = folder / "broker"
    data.mkdir()
    with kafka_broker(
        data,
        cache,
        listeners=(f"SASL_SSL://{by_password}", f"SSL://{by_certificate}"),
        settings=_settings(server, ca_file),
    ) as broker:
        _add_user(broker.address)
        locked = _locked(folder / "locked.key", own)
        yield Secured(
            broker.address, by_password, by_certificate, ca_file, other_ca_file, cert_file, key_file, locked, *stranger
        )


def _settings(keystore: Path, ca_file: Path) -> dict[str, str]:
    password = f'{LOGIN}.plain.PlainLoginModule required user_{NAME}="{PASSWORD}";'
    settings = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": password,
        "listener.name.ssl.ssl.client.auth": "required",
    }
    for mechanism in ("scram-sha-256", "scram-sha-512"):
        login = f"{LOGIN}.scram.ScramLoginModule required;"
        settings[f"listener.name.sasl_ssl.{mechanism}.sasl.jaas.config"] = login
    for listener in ("sasl_ssl", "ssl"):
        for kind, path in (("keystore", keystore), ("truststore", ca_file)):
            settings[f"listener.name.{listener}.ssl.{kind}.type"] = "PEM"
            settings[f"listener.name.{listener}.ssl.{kind}.location"] = str(path)
    return settings


def _add_user(address: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion(NAME, mechanism, PASSWORD)])
    finally:
        admin.close()


def _keystore(path: Path, pair: Pair) -> Path:
    path.write_bytes(pair.key + pair.certificate)
    return path


def _written(path: Path, authority: Authority) -> Path:
    path.write_bytes(authority.certificate)
    return path


def _locked(path: Path, pair: Pair) -> Path:
    key = serialization.load_pem_private_key(pair.key, None)
    secret = serialization.BestAvailableEncryption(KEY_PASSWORD.encode())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    return path
