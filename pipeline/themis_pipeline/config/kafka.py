"""How the brokers are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, SecretStr, model_validator

from themis_pipeline.config.section import Section


class KafkaTlsConfig(Section):
    """Encryption, and a certificate of our own where brokers want one."""

    enabled: bool = False
    """Whether to speak TLS; brokers' names are checked against their certificates always."""
    ca_file: Path | None = None
    """Who may sign brokers' certificates, in PEM; default: whom this machine trusts."""
    cert_file: Path | None = None
    """Our own certificate, in PEM; default: none."""
    key_file: Path | None = None
    """Its key, in PEM."""
    key_password: SecretStr | None = None
    """The key's password; by environment or file only."""

    @model_validator(mode="after")
    def _whole(self) -> KafkaTlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: both or neither")
        if not self.enabled and (self.ca_file or self.cert_file or self.key_password):
            raise ValueError("enabled: is off, so that files and password would not be used")
        return self


class SaslConfig(Section):
    """Who we are, by name and password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How the password is shown; default: not at all."""
    username: str | None = None
    """The name."""
    password: SecretStr | None = None
    """The password; by environment or file only."""

    @model_validator(mode="after")
    def _whole(self) -> SaslConfig:
        given = [self.mechanism is not None, self.username is not None, self.password is not None]
        if any(given) and not all(given):
            raise ValueError("mechanism, username and password: all or none")
        return self


class KafkaConfig(Section):
    """The brokers."""

    bootstrap_servers: tuple[str, ...] = Field(default=("localhost:9092",), min_length=1)
    """Brokers to begin with, as host:port."""
    client_id: str = "themis-pipeline"
    """What brokers call us in their logs and quotas."""
    request_timeout_s: PositiveFloat = 30.0
    """The longest one request may take."""
    bootstrap_timeout_s: PositiveFloat = 30.0
    """How long a first broker may take to answer."""
    tls: KafkaTlsConfig = KafkaTlsConfig()
    sasl: SaslConfig = SaslConfig()

    @model_validator(mode="after")
    def _passwords_are_safe(self) -> KafkaConfig:
        if self.sasl.mechanism == "PLAIN" and not self.tls.enabled:
            raise ValueError("sasl.mechanism: PLAIN sends the password as it is; enable tls, or take SCRAM")
        return self
