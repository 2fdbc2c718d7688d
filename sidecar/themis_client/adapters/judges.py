"""The clients that a reward's parts ask, each with its judge version pinned."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from themis_client.adapters.run_version import Pinned, version_of_run
from themis_client.adapters.settings import JudgePart, RewardSettings
from themis_client.client import Client
from themis_client.errors import DeadlineExceeded
from themis_client.replicas import ReplicaPolicy
from themis_client.versions import LeasePolicy

CALLS = 64
"""At a time, per replica. Trainers that send samples one by one make a call of each, and the server batches what it
has: the client's own few, meant for calls of many items, would keep those batches small."""


class Judges:
    """One client per server and version. `pin` before `of`. Safe to share between threads."""

    def __init__(self, settings: RewardSettings, pinned: Mapping[str, Pinned] | None = None) -> None:
        self._settings = settings
        self._pinned = dict(pinned or {})
        self._clients: dict[tuple[str, Pinned], Client] = {}
        self._deciding = threading.Lock()

    @property
    def pins(self) -> dict[str, Pinned]:
        """What is pinned at each server whose version the settings leave open."""
        return dict(self._pinned)

    @property
    def fixed(self) -> bool:
        """Whether the settings leave nothing open."""
        return all(self._where(part)[1] for part in self._settings.parts)

    def take(self, pins: Mapping[str, Pinned]) -> None:
        """Uses what another process decided on."""
        self._pinned.update(pins)

    def pin(self) -> None:
        """Decides on the versions once: of many first calls one does, and the others wait for it. Raises ThemisError.

        A fork while this goes on leaves the child's lock locked, in which no client could work either: it is told.
        """
        if all(version or target in self._pinned for target, version in map(self._where, self._settings.parts)):
            return
        wait_s = self._settings.timeout_s
        if not self._deciding.acquire(timeout=wait_s):
            raise DeadlineExceeded(f"another call did not decide on the judge's version within {wait_s:g} s")
        try:
            for part in self._settings.parts:
                target, version = self._where(part)
                if version is None and target not in self._pinned:
                    self._pinned[target] = self._decide(target)
        finally:
            self._deciding.release()

    def of(self, part: JudgePart) -> Client:
        target, version = self._where(part)
        pinned = self._pinned[target] if version is None else Pinned(version, leased=False)
        if (target, pinned) not in self._clients:
            self._clients.setdefault((target, pinned), self._client(target, pinned))
        return self._clients[target, pinned]

    def _where(self, part: JudgePart) -> tuple[str, str | None]:
        target = part.target or self._settings.target
        # A version belongs to the servers that it was named for.
        own = self._settings.version if target == self._settings.target else None
        return target, part.version or own

    def _decide(self, target: str) -> Pinned:
        with self._client(target, Pinned("", leased=False)) as client:
            if self._settings.run:
                return version_of_run(client, self._settings.run, self._settings.timeout_s)
            return Pinned(client.refresh_version(), leased=False)

    def _client(self, target: str, pinned: Pinned) -> Client:
        settings = self._settings
        return Client(
            target,
            version=pinned.version or None,
            timeout_s=settings.timeout_s,
            retry=settings.retry,
            tls=settings.tls,
            replicas=ReplicaPolicy(calls=CALLS),
            token_file=settings.token_file,
            lease=LeasePolicy(settings.run) if pinned.leased else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self._settings, "pinned": self.pins}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Judges.__init__(self, **state)
