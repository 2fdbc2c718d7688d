"""An HTTP server in the loop of the gRPC one. What it serves is passed in, as Starlette's routes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from themis_sidecar.config import HttpConfig

CLOSING_S = 1  # for answers under way; whole seconds, as uvicorn takes them


class HttpPort:
    """Bound at `start`, closed at `stop`; both once."""

    def __init__(self, config: HttpConfig, routes: Sequence[BaseRoute]) -> None:
        self._host = config.host
        self._port = config.port or 0
        # Calls have a bound of their own, so that many of them leave room for probes.
        calls = config.compat.max_calls if config.compat.enabled else 0
        self._server = _Guest(
            uvicorn.Config(
                Starlette(routes=list(routes)),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=config.max_connections + calls,
                timeout_graceful_shutdown=CLOSING_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Binds and answers; the address is host:port with the real port. Raises OSError if it's taken."""
        listener = _listen(self._host, self._port)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        begun = asyncio.create_task(self._server.begun.wait())
        await asyncio.wait((self._serving, begun), return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if self._serving.done():
            self._serving.result()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{listener.getsockname()[1]}"

    async def stop(self) -> None:
        """Lets answers under way finish, for a moment."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Guest(uvicorn.Server):
    """Signals belong to the process's own lifecycle; and it says when it has begun."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"can't listen on {host}:{port} for HTTP: {error.strerror}") from error
