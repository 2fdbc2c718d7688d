"""Where the replicas are: a fixed list, or a name that is looked up again and again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from themis_client.errors import Unavailable

DNS_SCHEME = "dns:///"
DEFAULT_PORT = 50051
LOOKUP_TIMEOUT_S = 5.0
MAX_ADDRESSES = 256
"""More answers than this are cut, in sorted order, so that all clients keep the same ones."""

Lookup: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Target:
    """fixed: addresses as they were given. name, port: what to look up instead, where name is not empty."""

    fixed: tuple[str, ...] = ()
    name: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads "host:port,host:port" or "dns:///name:port". A missing port is 50051."""
        if text.startswith(DNS_SCHEME):
            name, port = _split(text.removeprefix(DNS_SCHEME))
            return cls(name=name, port=port)
        fixed = dict.fromkeys(_with_port(part.strip()) for part in text.split(",") if part.strip())
        if not fixed:
            raise ValueError(f"no address in {text!r}")
        return cls(fixed=tuple(fixed))

    @property
    def changes(self) -> bool:
        return bool(self.name)

    async def addresses(self, lookup: Lookup) -> tuple[str, ...]:
        """The addresses now. Raises Unavailable if the name has none, or none was found in time."""
        if not self.changes:
            return self.fixed
        try:
            found = await asyncio.wait_for(lookup(self.name, self.port), LOOKUP_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            reason = str(error) or "the look-up timed out"
            raise Unavailable(f"{self.name}:{self.port}: {reason}") from error
        if not found:
            raise Unavailable(f"{self.name}:{self.port}: the name has no address")
        return tuple(sorted(set(found))[:MAX_ADDRESSES])


async def getaddrinfo(name: str, port: int) -> list[str]:
    """Asks the system's resolver, in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    hosts = [(family, str(where[0])) for family, _, _, _, where in found]
    return [f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}" for family, host in hosts]


def _split(text: str) -> tuple[str, int]:
    name, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return text, DEFAULT_PORT
    if not name or not port.isdigit():
        raise ValueError(f"{text!r} is not name:port")
    return name, int(port)


def _with_port(address: str) -> str:
    if "/" in address:  # unix:///path and the like: gRPC reads them itself
        return address
    name, port = _split(address)
    return f"{name}:{port}"
