"""The lease on a client's pinned version, given back when its last user is done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from themis_client.versions import AsyncVersions, HeldLease, LeasePolicy


class PinnedLease:
    """Without a policy it holds nothing. A version that is no longer pinned is held until no call uses it: its lease
    is then given back in the background, so that no call waits for that."""

    def __init__(self, versions: AsyncVersions, policy: LeasePolicy | None) -> None:
        self._versions = versions
        self._policy = policy
        self._held: HeldLease | None = None
        self._former: dict[str, HeldLease] = {}
        self._uses: Counter[str] = Counter()
        self._releasing: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> HeldLease | None:
        """The lease on what is pinned now."""
        return self._held

    async def pin(self, version: str, timeout_s: float) -> None:
        """Holds this version in place of the one before it. Raises ThemisError, and then changes nothing."""
        before = self._held
        if self._policy is None or (before is not None and before.lease.version == version):
            return
        self._held = self._former.pop(version, None) or await self._versions.hold(
            version, self._policy, timeout_s=timeout_s
        )
        if before is not None:
            self._former[before.lease.version] = before
            self._settle(before.lease.version)

    @contextmanager
    def using(self, version: str) -> Iterator[None]:
        """For as long as a call uses a version."""
        self._uses[version] += 1
        try:
            yield
        finally:
            self._uses[version] -= 1
            self._settle(version)

    async def close(self) -> None:
        """Gives everything back, in use or not."""
        held = [*self._former.values(), *([self._held] if self._held is not None else [])]
        self._held, self._former = None, {}
        for lease in held:
            self._release(lease)
        if self._releasing:
            await asyncio.wait(self._releasing)

    def _settle(self, version: str) -> None:
        if self._uses[version]:
            return
        del self._uses[version]
        former = self._former.pop(version, None)
        if former is not None:
            self._release(former)

    def _release(self, lease: HeldLease) -> None:
        task = asyncio.create_task(lease.release())
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)
