"""Everything that guards the port, made of the settings and kept up to date with the files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import grpc

from themis_sidecar.calls import CallRecords
from themis_sidecar.config import SecurityConfig
from themis_sidecar.config.security import is_loopback
from themis_sidecar.errors import Forbidden, Unauthenticated
from themis_sidecar.logs import Logger
from themis_sidecar.security.access import Access
from themis_sidecar.security.authentication import Authenticator, check_http
from themis_sidecar.security.callers import Role
from themis_sidecar.security.certificates import Certificates
from themis_sidecar.security.files import FileValue, Watched
from themis_sidecar.security.interceptor import AuthenticationInterceptor
from themis_sidecar.security.limits import CallSlots, LimitBook, LimitsOf
from themis_sidecar.security.tokens import Callers, parse_callers


class Door:
    """Raises SecurityError where a file can't be used at the start.

    host: where gRPC listens; http_host: where the HTTP port does, None where it takes no calls. limits_of: what each
    caller may take.
    """

    def __init__(
        self, config: SecurityConfig, host: str, records: CallRecords, logger: Logger, http_host: str | None = None
    ) -> None:
        self._reload_s = config.reload_s
        self._watched: list[Watched] = []
        self._certificates = None if config.tls.cert_file is None else Certificates(config.tls, logger)
        if self._certificates is not None:
            self._watched.append(self._certificates)
        callers = self._callers(config, logger)
        self._authenticator = Authenticator(config, host, callers)
        self._http_authenticator = Authenticator(config, host if http_host is None else http_host, callers)
        self.limits_of: LimitsOf = LimitBook(config.caller_limits, callers).of
        self._records, self._slots = records, CallSlots(self.limits_of)
        self.interceptor = AuthenticationInterceptor(
            self._authenticator, Access(config.open_reflection), self._slots, records, logger
        )
        if not config.authenticates and not is_loopback(host):
            logger.warning("unauthenticated", host=host, problem="whoever reaches the port may call")
        if not config.authenticates and http_host is not None and not is_loopback(http_host):
            logger.warning("unauthenticated", host=http_host, problem="whoever reaches the HTTP port may have it score")

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Binds the port, with TLS where there are certificates. Raises RuntimeError if it's taken, as gRPC does."""
        if self._certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self._certificates.credentials())

    def lets_in(self, authorization: str | None) -> bool:
        """Whether the value of an HTTP Authorization header, None without one, is that of somebody who may score."""
        try:
            check_http(self._http_authenticator, [] if authorization is None else [authorization], Role.SCORE)
        except (Unauthenticated, Forbidden):
            return False
        return True

    @contextmanager
    def http_call(self, authorization: Sequence[str]) -> Iterator[None]:
        """One call by the HTTP port of somebody who may score, as `CallRecords` then knows. Raises Unauthenticated,
        Forbidden, or Overloaded where the caller has as many calls in flight as it may."""
        caller = check_http(self._http_authenticator, authorization, Role.SCORE)
        with self._slots.call(caller.name):
            self._records.identify(caller)
            yield

    async def keep_up(self) -> NoReturn:
        """Follows the files until it is cancelled."""
        while True:
            await asyncio.sleep(self._reload_s)
            for watched in self._watched:
                await watched.poll()

    def _callers(self, config: SecurityConfig, logger: Logger) -> Callable[[], Callers] | None:
        path = config.callers_file
        if path is None:
            return None
        file = FileValue("callers", [path], lambda contents: parse_callers(str(path), contents), logger)
        self._watched.append(file)
        return lambda: file.value
