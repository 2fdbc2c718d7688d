"""Changes what the fleet should hold, and says how far it is: compare-and-set on the store's desired state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from themis_judge import store as stores
from themis_judge.engines.base import Deadline
from themis_judge.store import BrokenVersion, DesiredState, JudgeStore, Lease, Manifest, ReplicaReport
from themis_sidecar import errors
from themis_sidecar.versions import desired as states
from themis_sidecar.versions.board import now
from themis_sidecar.versions.desired import Author, Room
from themis_sidecar.versions.rooms import read_room
from themis_sidecar.versions.store_calls import StoreCalls

ATTEMPTS = 10
POLL_S = 0.1
Change = Callable[[DesiredState | None, Room], DesiredState | None]


@dataclass(frozen=True, slots=True)
class Overview:
    """What the store says about the fleet."""

    desired: DesiredState | None
    reports: tuple[ReplicaReport, ...]


class Fleet:
    """wake: called after each change, so that this replica follows at once. Raises CallError."""

    def __init__(
        self, store: StoreCalls, max_resident: int, replica: str, stale_after_s: float, wake: Callable[[], None]
    ) -> None:
        self._store = store
        self._stale_after_s = stale_after_s
        self._max_resident = max_resident
        self._replica = replica
        self._wake = wake

    async def overview(self) -> Overview:
        with _store_errors():
            desired = await self._store.run(JudgeStore.desired)
            return Overview(desired, await self._store.run(JudgeStore.reports, self._stale_after_s))

    async def stored(self) -> list[tuple[Manifest | BrokenVersion, tuple[Lease, ...]]]:
        """All versions with their live leases, by id."""
        with _store_errors():
            entries = sorted(await self._store.run(JudgeStore.list), key=lambda entry: entry.id)
            leases = await self._store.run(JudgeStore.leases)
            return [(entry, tuple(lease for lease in leases if lease.version == entry.id)) for entry in entries]

    async def promote(self, version: str, by: str, why: str, expected_current: str = "", force: bool = False) -> int:
        """The number of the desired state in which `version` is current."""

        def change(state: DesiredState | None, room: Room) -> DesiredState | None:
            current = "" if state is None else state.current
            if current == version:  # first: a call that is sent again finds its own work
                return None
            if expected_current and current != expected_current:
                raise errors.FailedPrecondition(f"{current or 'nothing'} is current, and not {expected_current}")
            return states.promoted(state, version, room, self._author(by, why), force)

        return await self._change(version, change)

    async def load(self, version: str, by: str, why: str, shadow_share: float | None = None) -> int:
        """The number of the desired state in which `version` is resident."""

        def change(state: DesiredState | None, room: Room) -> DesiredState | None:
            if state is not None and shadow_share is None and version in state.resident:
                return None
            return states.loaded(state, version, room, self._author(by, why), shadow_share)

        return await self._change(version, change)

    async def stop_shadow(self, by: str, why: str) -> int:
        return await self._change(None, lambda state, _: states.without_shadow(state, self._author(by, why)))

    async def retire(self, version: str, by: str, why: str, unload_only: bool) -> int:
        """The number of a desired state without `version`. Retired for good it is gone from the store as well."""

        def change(state: DesiredState | None, room: Room) -> DesiredState | None:
            if version in room.leased:
                raise errors.FailedPrecondition(f"{version} is held by leases; wait for them, or release them")
            if state is None or version not in (*state.resident, state.previous):
                return None
            _check_no_adapter(version, (room.manifests[id] for id in state.resident if id in room.manifests))
            return states.without(state, version, self._author(by, why))

        with _store_errors():
            if not unload_only:
                entries = await self._store.run(JudgeStore.list)
                _check_no_adapter(version, (entry for entry in entries if isinstance(entry, Manifest)))
            number = await self._change(version, change)
            if unload_only:
                return number
            await self._store.run(JudgeStore.retire, version, why, by or self._replica)
            state = await self._store.run(JudgeStore.desired)  # retiring writes one more
            self._wake()
            return 0 if state is None else state.number

    async def hold(self, version: str, holder: str, ttl_s: float, lease_id: str | None) -> Lease:
        with _store_errors():
            return await self._store.run(JudgeStore.hold, version, holder, ttl_s, lease_id)

    async def release(self, lease_id: str) -> None:
        with _store_errors():
            await self._store.run(JudgeStore.release, lease_id)

    async def reached(self, number: int, deadline: Deadline) -> tuple[bool, Overview]:
        """Whether state `number` is in force and all replicas that aren't stale have reached it, and what is the case
        at last. Waits for it until the deadline, or until another state is in force."""
        while True:
            found = await self.overview()
            in_force = number == (0 if found.desired is None else found.desired.number)
            live = [report for report in found.reports if not report.stale]
            followed = bool(live) and all(report.applied == number for report in live)
            if not in_force or followed or deadline.remaining_s() <= POLL_S:
                return in_force and followed, found
            await asyncio.sleep(POLL_S)

    async def _change(self, version: str | None, change: Change) -> int:
        """The number of the state that is in force then; `change` gives None where nothing has to change."""
        with _store_errors():
            for _ in range(ATTEMPTS):
                state = await self._store.run(JudgeStore.desired)
                following = change(state, await self._room(version, state))
                if following is None:
                    return 0 if state is None else state.number
                try:
                    await self._store.run(JudgeStore.propose, following)
                except stores.Conflict:
                    continue
                self._wake()
                return following.number
        raise errors.Conflict(f"the desired state changed {ATTEMPTS} times meanwhile; look at it, and ask again")

    async def _room(self, version: str | None, state: DesiredState | None) -> Room:
        """What is known of the version and of those in the state. Raises for a version that can't be had."""
        if version is not None:
            await self._store.run(JudgeStore.manifest, version)
        resident = () if state is None else state.resident
        return await read_room(self._store, self._max_resident, (*resident, *([version] if version else [])))

    def _author(self, by: str, why: str) -> Author:
        return Author(by or f"a caller of {self._replica}", now(), why)


def _check_no_adapter(version: str, manifests: Iterable[Manifest]) -> None:
    for manifest in manifests:
        if manifest.kind == "lora" and manifest.base_model == version:
            raise errors.FailedPrecondition(f"{manifest.id} adapts {version}; take it out first")


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except stores.UnknownVersion as error:
        raise errors.UnknownVersion(str(error)) from error
    except (stores.CorruptVersion, stores.InUse) as error:
        raise errors.FailedPrecondition(str(error)) from error
    except stores.Refused as error:
        raise errors.InvalidCall("", str(error)) from error
    except stores.Conflict as error:
        raise errors.Conflict(str(error)) from error
    except stores.StoreError as error:
        raise errors.Unavailable(f"the store can't be used: {error}") from error
