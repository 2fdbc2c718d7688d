"""The port's certificates: new connections get the newest good pair, old ones live on."""

from __future__ import annotations

import ssl
from typing import cast

import grpc

from themis_sidecar.config import TlsConfig
from themis_sidecar.logs import Logger
from themis_sidecar.security.errors import SecurityError
from themis_sidecar.security.files import Contents, FileValue


class Certificates:
    """Raises SecurityError where the files can't be used at the start."""

    def __init__(self, config: TlsConfig, logger: Logger) -> None:
        assert config.cert_file is not None
        assert config.key_file is not None
        self._cert_file, self._key_file, self._client_ca_file = config.cert_file, config.key_file, config.client_ca_file
        paths = [path for path in (config.cert_file, config.key_file, config.client_ca_file) if path is not None]
        self._files = FileValue("certificates", paths, self._parse, logger)
        self._given = self._files.value

    async def poll(self) -> None:
        await self._files.poll()

    def credentials(self) -> grpc.ServerCredentials:
        # gRPC has no mode that asks for a client's certificate and lets callers in without.
        return grpc.dynamic_ssl_server_credentials(
            self._given, self._fetch, require_client_authentication=self._client_ca_file is not None
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC at each handshake, on a thread of its own: gives what is new, None where nothing is."""
        newest = self._files.value
        if newest is self._given:
            return cast(grpc.ServerCertificateConfiguration, None)  # its types leave the documented None out
        self._given = newest
        return newest

    def _parse(self, contents: Contents) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authorities = contents
        self._check_pair(certificate, key)
        for authority in authorities:
            self._check_authority(authority)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities[0] if authorities else None)

    def _check_pair(self, certificate: bytes, key: bytes) -> None:
        """gRPC would take a half-written pair and fail each handshake. OpenSSL checks pairs by their paths only, so
        the files are compared with what was read before."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
            unchanged = (self._cert_file.read_bytes(), self._key_file.read_bytes()) == (certificate, key)
        except OSError as error:
            problem = error.strerror if not isinstance(error, ssl.SSLError) else error.reason
            raise SecurityError(
                f"{self._cert_file}, {self._key_file}: are no certificate with its key: {problem or 'not readable'}"
            ) from error
        if not unchanged:
            raise SecurityError(f"{self._cert_file}, {self._key_file}: are being written")

    def _check_authority(self, authority: bytes) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise SecurityError(f"{self._client_ca_file}: holds no certificates in PEM") from error


def _no_password() -> str:
    """Left out, OpenSSL would ask for it on the terminal."""
    raise SecurityError("security.tls.key_file: is encrypted; gRPC takes plain keys only")
