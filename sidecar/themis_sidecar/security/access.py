"""Which role each method of the port asks for. What stands nowhere here is denied."""

from __future__ import annotations

import enum

from themis_sidecar.security.callers import Role


class Open(enum.Enum):
    """For methods that ask for no role."""

    OPEN = enum.auto()


Need = Role | Open

METHODS: dict[str, Need] = {
    "/themis.v1.VersionService/List": Role.SCORE,
    "/themis.v1.VersionService/Hold": Role.SCORE,
    "/themis.v1.VersionService/Release": Role.SCORE,
}
"""These go before their service."""

SERVICES: dict[str, Need] = {
    "/themis.v1.JudgeService/": Role.SCORE,
    "/themis.v1.VersionService/": Role.ADMIN,
    "/grpc.health.v1.Health/": Open.OPEN,
}
REFLECTION = ("/grpc.reflection.v1alpha.ServerReflection/", "/grpc.reflection.v1.ServerReflection/")


class Access:
    def __init__(self, open_reflection: bool = False) -> None:
        reflection: Need = Open.OPEN if open_reflection else Role.SCORE
        self._services = {**SERVICES, **dict.fromkeys(REFLECTION, reflection)}

    def need(self, path: str) -> Need | None:
        """path: "/package.Service/Method". None: nobody may."""
        own = METHODS.get(path)
        service, slash, _ = path[1:].partition("/")
        return own if own is not None else self._services.get(f"/{service}{slash}")
