"""Makes channels, all with the same options."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
import grpc.aio

from themis_client.credentials import Tls, TokenFile

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connector:
    """credentials or tls: without either it is plaintext. token, or what is in token_file: sent as
    "authorization: Bearer ..." with every call. authority: the name that certificates are checked against where
    addresses were looked up; empty is the address."""

    credentials: grpc.ChannelCredentials | None = None
    token: str | None = field(default=None, repr=False)
    authority: str = ""
    tls: Tls | None = None
    token_file: TokenFile | None = None

    def __post_init__(self) -> None:
        if self.credentials is not None and self.tls is not None:
            raise ValueError("set credentials or tls, not both")
        if self.token is not None and self.token_file is not None:
            raise ValueError("set token or token_file, not both")
        if self.tls is not None:
            self.tls.read()  # a wrong path is known at once, not after the first call's retries

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        token = self.token if self.token_file is None else self.token_file.token
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def connect(self, address: str) -> grpc.aio.Channel:
        """Opens nothing yet: the first call does. Raises Unavailable for a file of `tls` that is gone."""
        credentials = self.credentials if self.tls is None else self.tls.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options())
        return grpc.aio.secure_channel(address, credentials, options=self._options())

    def _options(self) -> list[tuple[str, int | str]]:
        options: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Pings only while a call is in flight, so that a machine that vanished is noticed before the deadline.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # A replica that came back is found again within seconds; gRPC's own ceiling is two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            # This package retries; twice the attempts would be twice the load.
            ("grpc.enable_retries", 0),
        ]
        if self.authority:
            options += [("grpc.default_authority", self.authority)]
        server_name = self.tls.server_name if self.tls is not None else ""
        if server_name or (self.authority and (self.credentials or self.tls)):
            options += [("grpc.ssl_target_name_override", server_name or self.authority.rpartition(":")[0])]
        return options
