"""What a caller shows and checks: certificates and a bearer token, as files that may change."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from themis_client.errors import Unavailable

PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS by files in PEM. ca_file: the authorities that servers' certificates are checked against; None is those
    that gRPC comes with. cert_file, key_file: what this caller shows where servers ask for it (mTLS).
    server_name: the name that servers' certificates must have; empty is the address.

    The files must be there when a client is made, and are read whenever it opens a channel: after disconnect(), for
    instance, or in another process.
    """

    ca_file: PathLike | None = None
    cert_file: PathLike | None = None
    key_file: PathLike | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("set cert_file and key_file, or neither")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, key and certificate. Raises OSError for a file that can't be read."""
        return _read(self.ca_file), _read(self.key_file), _read(self.cert_file)

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises Unavailable for a file that can't be read any more: it may be about to be replaced."""
        try:
            authorities, key, certificate = self.read()
        except OSError as error:
            raise Unavailable(f"TLS: {error}") from error
        return grpc.ssl_channel_credentials(authorities, key, certificate)


class TokenFile:
    """A token in a file, read again when that changes. White space around it does not count."""

    def __init__(self, path: PathLike) -> None:
        """Raises OSError where the file can't be read, ValueError where it holds no token."""
        self._path = Path(path)
        self._stamp, self._token = self._read()

    @property
    def token(self) -> str:
        """The newest one. While the file is away or half-written it is the last good one, which the server judges."""
        try:
            if self._now() != self._stamp:
                self._stamp, self._token = self._read()
        except (OSError, ValueError):
            return self._token
        return self._token

    def _read(self) -> tuple[tuple[int, int, int], str]:
        stamp = self._now()  # before the text: a change in between is then found the next time
        text = self._path.read_text(encoding="ascii").strip()
        if not text or not text.isprintable() or " " in text:
            raise ValueError(f"{self._path}: holds no token")
        return stamp, text

    def _now(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: PathLike | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
