"""Makes channels, all with the same options."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connector:
    """credentials: None is plaintext. token: sent as "authorization: Bearer ..." with every call.
    authority: the name that certificates are checked against where addresses were looked up; empty is the address."""

    credentials: grpc.ChannelCredentials | None = None
    token: str | None = None
    authority: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def connect(self, address: str) -> grpc.aio.Channel:
        """Opens nothing yet: the first call does."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options())
        return grpc.aio.secure_channel(address, self.credentials, options=self._options())

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
        if self.authority and self.credentials is not None:
            options += [("grpc.ssl_target_name_override", self.authority.rpartition(":")[0])]
        return options
