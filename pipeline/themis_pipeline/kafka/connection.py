"""Settings of the brokers as kafka-python takes them: how to reach them is the same for every client of ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic_settings import SettingsError

from themis_pipeline.config import KafkaConfig, KafkaTlsConfig


def connection(config: KafkaConfig) -> dict[str, Any]:
    """Holds passwords where there are any: never to be logged. Raises SettingsError for files of keys and certificates
    that can't be used, which the library would try again and again."""
    return {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": config.client_id,
        "security_protocol": _protocol(config),
        **({"ssl_context": _context(config.tls)} if config.tls.enabled else {}),
        **(_sasl(config) if config.sasl.mechanism else {}),
    }


def timeouts(config: KafkaConfig) -> dict[str, int]:
    """Of clients that commands open for once; a stage's are chosen to fit its transactions."""
    return {
        "request_timeout_ms": round(config.request_timeout_s * 1000),
        "bootstrap_timeout_ms": round(config.bootstrap_timeout_s * 1000),
    }


def _protocol(config: KafkaConfig) -> str:
    if config.sasl.mechanism:
        return "SASL_SSL" if config.tls.enabled else "SASL_PLAINTEXT"
    return "SSL" if config.tls.enabled else "PLAINTEXT"


def _context(tls: KafkaTlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which checks certificates and names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca_file is None:
        context.load_default_certs()
    else:
        with _blamed(f"kafka.tls.ca_file: {tls.ca_file}"):
            context.load_verify_locations(tls.ca_file)
    if tls.cert_file is not None:
        password = "" if tls.key_password is None else tls.key_password.get_secret_value()
        with _blamed(f"kafka.tls.cert_file, key_file and key_password: {tls.cert_file}, {tls.key_file}"):
            # A function, since without a password one would be asked for at the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, lambda: password)
    return context


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(f"{what}: {reason}") from error


def _sasl(config: KafkaConfig) -> dict[str, Any]:
    sasl = config.sasl
    return {
        "sasl_mechanism": sasl.mechanism,
        "sasl_plain_username": sasl.username,
        "sasl_plain_password": None if sasl.password is None else sasl.password.get_secret_value(),
    }
