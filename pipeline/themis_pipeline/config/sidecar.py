"""How the judge is reached, and of what lineage it is."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import PositiveFloat, SecretStr, field_validator, model_validator

from themis_pipeline.config.section import Section


class SidecarTlsConfig(Section):
    """Encryption, and a certificate of our own where the sidecar wants one."""

    enabled: bool = False
    """Whether to speak TLS."""
    ca_file: Path | None = None
    """Who may sign the sidecar's certificate, in PEM; default: whom gRPC trusts."""
    cert_file: Path | None = None
    """Our own certificate, in PEM; default: none."""
    key_file: Path | None = None
    """Its key, in PEM."""
    server_name: str = ""
    """The name that the sidecar's certificate must have; default: that of its address."""

    @model_validator(mode="after")
    def _whole(self) -> SidecarTlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: both or neither")
        if not self.enabled and (self.ca_file or self.cert_file or self.server_name):
            raise ValueError("enabled: is off, so that files and name would not be used")
        return self


class SidecarConfig(Section):
    """The sidecar, which `classify` and `difficulty` ask."""

    target: str | None = None
    """Where it is: host:port, several of them with commas between, or dns:///name:port."""
    token: SecretStr | None = None
    """The bearer token; by environment or file only."""
    token_file: Path | None = None
    """A file with the token, in place of it; read again when it changes."""
    timeout_s: PositiveFloat = 60.0
    """The deadline of calls that have no record's deadline."""
    refresh_s: PositiveFloat = 60.0
    """How often it is asked which version is current, so that `classify` follows it."""
    tls: SidecarTlsConfig = SidecarTlsConfig()

    @field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("has characters that a header can't carry, or is empty")
        return token

    @model_validator(mode="after")
    def _one_token(self) -> SidecarConfig:
        if self.token and self.token_file:
            raise ValueError("token and token_file: one of both")
        return self


class JudgeConfig(Section):
    """The judge that learns from what is made here."""

    lineage: tuple[str, ...] = ()
    """Families and models that it descends from, the family first: no teacher may share any of them."""
