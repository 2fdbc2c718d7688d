"""Settings of who may call: certificates, tokens, and what each caller may take."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from themis_sidecar.config.section import Section


class TlsConfig(Section):
    """Certificates of the gRPC port, all PEM; read again when the files change."""

    cert_file: Path | None = None
    """The server's certificate with its chain; with it the port speaks TLS only."""
    key_file: Path | None = None
    """The certificate's private key, unencrypted."""
    client_ca_file: Path | None = None
    """Authorities of clients' certificates; with it no client connects without one (mTLS)."""

    @model_validator(mode="after")
    def _whole(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("set cert_file and key_file, or neither")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ValueError("client_ca_file needs cert_file and key_file")
        return self


class CallerLimitsConfig(Section):
    """What one caller may take, unless the file of callers says otherwise for it."""

    max_calls: PositiveInt | None = None
    """Calls in flight, streams included; default: as many as the server takes."""
    max_items: PositiveInt | None = None
    """Items in flight; default: as many as there is room for."""
    tokens_per_s: PositiveFloat | None = None
    """Tokens admitted a second, in the long run; default: no limit."""
    burst_s: PositiveFloat = 10.0
    """How many seconds' worth of tokens_per_s a caller that was quiet may take at once."""
    queue_share: float = Field(default=1.0, gt=0, le=1)
    """Share of limits.max_queue_tokens that one caller may hold, even alone. While others ask as well, none holds more
    than an equal share."""


class SecurityConfig(Section):
    """Who may call, and what each caller may take."""

    tls: TlsConfig = TlsConfig()
    callers_file: Path | None = None
    """Callers in YAML: names, roles, and the SHA-256 of their bearer tokens; with it every call but health needs one
    of them."""
    caller_limits: CallerLimitsConfig = CallerLimitsConfig()
    anonymous_role: Literal["score", "admin"] | None = None
    """What callers may do where nothing authenticates them; default: everything on a loopback address, else score."""
    open_reflection: bool = False
    """Whether gRPC reflection answers callers who are not authenticated."""
    plaintext_tokens: bool = False
    """Whether tokens may travel without TLS beyond the loopback address, because something else encrypts."""
    reload_s: PositiveFloat = 5.0
    """How often the files are looked at."""

    @property
    def authenticates(self) -> bool:
        return self.callers_file is not None or self.tls.client_ca_file is not None

    def check_host(self, host: str) -> None:
        """Raises ValueError where tokens could be read on their way."""
        plaintext = self.tls.cert_file is None and not self.plaintext_tokens
        if self.callers_file is not None and plaintext and not is_loopback(host):
            raise ValueError(
                f"security.callers_file: tokens would travel in plaintext to {host}; set security.tls, listen on a "
                "loopback address, or set security.plaintext_tokens if something else encrypts"
            )

    def check_http_host(self, host: str) -> None:
        """Raises ValueError where the HTTP port, which has no TLS of its own, could not tell callers or would let
        others read their tokens."""
        if self.tls.client_ca_file is not None and self.callers_file is None:
            raise ValueError(
                "http.compat.enabled: only certificates authenticate, and the HTTP port sees none; set "
                "security.callers_file"
            )
        if self.callers_file is not None and not self.plaintext_tokens and not is_loopback(host):
            raise ValueError(
                f"http.host: tokens would travel in plaintext to {host}; bind to a loopback address, or set "
                "security.plaintext_tokens if something else encrypts"
            )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any address
        return False
