"""The clients that a reward's parts ask, each with its judge version pinned."""

from __future__ import annotations

import threading
from typing import Any

from themis_client.adapters.run_version import version_of_run
from themis_client.adapters.settings import JudgePart, RewardSettings
from themis_client.client import Client
from themis_client.versions import LeasePolicy


class Judges:
    """One client per server and version. `pin` before `of`."""

    def __init__(self, settings: RewardSettings, pinned: dict[str, str] | None = None) -> None:
        self._settings = settings
        self._pinned = {} if pinned is None else pinned
        self._clients: dict[tuple[str, str | None], Client] = {}
        self._lock = threading.Lock()

    @property
    def versions(self) -> dict[str, str]:
        """The pinned version of each server whose version the settings leave open."""
        return dict(self._pinned)

    @property
    def pinned(self) -> bool:
        """Whether nothing is left to decide."""
        return all(version or target in self._pinned for target, version in map(self._where, self._settings.parts))

    def pin(self, agreed: dict[str, str] | None = None) -> None:
        """Decides on the versions once, or takes those that another process decided on. Raises ThemisError."""
        with self._lock:
            self._pinned |= agreed or {}
            for part in self._settings.parts:
                where = self._where(part)
                if where[1] is None and where[0] not in self._pinned:
                    self._pinned[where[0]] = self._decide(where[0])

    def of(self, part: JudgePart) -> Client:
        target, version = self._where(part)
        version = version or self._pinned[target]
        with self._lock:
            if (target, version) not in self._clients:
                self._clients[target, version] = self._client(target, version)
            return self._clients[target, version]

    def _where(self, part: JudgePart) -> tuple[str, str | None]:
        target = part.target or self._settings.target
        # A version belongs to the servers that it was named for.
        own = self._settings.version if target == self._settings.target else None
        return target, part.version or own

    def _decide(self, target: str) -> str:
        with self._client(target, None) as client:
            if self._settings.run:
                return version_of_run(client, self._settings.run, self._settings.timeout_s)
            return client.refresh_version()

    def _client(self, target: str, version: str | None) -> Client:
        settings = self._settings
        held = LeasePolicy(settings.run) if settings.run and version is not None else None
        return Client(
            target,
            version=version,
            timeout_s=settings.timeout_s,
            retry=settings.retry,
            tls=settings.tls,
            token_file=settings.token_file,
            lease=held,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self._settings, "pinned": self.versions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Judges.__init__(self, **state)
