"""Leases: what keeps a version from being retired under a run that pins it.

Times of expiry are wall times, and a wall clock can jump. A jump backwards lets leases live longer. Against a jump
forwards: a reader that has seen a lease alive counts it as alive until the time that it had left then has passed on a
clock that nobody can set (a jump can't end it early); and to retire a version, the store's own stamps must agree that
the last renewal is that long ago, which makes the clocks of all machines irrelevant where the store has one of its own.
What remains: one machine, a store on its own disk, and a process that starts after that machine's clock has jumped
ahead.
"""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta

from themis_judge.store import layout
from themis_judge.store.clock import Clock, read_time, written
from themis_judge.store.codec import BadJson, decode, encode, parse
from themis_judge.store.errors import CorruptEntry, Refused, UnknownVersion
from themis_judge.store.files import Files, NotThere
from themis_judge.store.manifests import read_manifest, read_tombstone
from themis_judge.store.types import Lease

MAX_TTL_S = 7 * 86_400.0


class Leases:
    """Safe to use from several threads; a lease itself has one holder, who alone renews it."""

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_alive: dict[str, tuple[str, float]] = {}  # lease id: its expires_at, and when that is by then

    def hold(self, version: str, holder: str, ttl_s: float, lease_id: str | None) -> Lease:
        if not 0 < ttl_s <= MAX_TTL_S:
            raise Refused(f"ttl_s: is {ttl_s}; it lies above 0 and is at most {MAX_TTL_S:.0f}")
        lease_id = layout.checked_name(lease_id or secrets.token_hex(16), "lease id")
        held = self._read(lease_id)
        if held is not None and held.version != version:
            raise Refused(f"lease {lease_id} is one of {held.version}, not of {version}")
        renewed = held is not None and not self._expired(held)
        read_manifest(self._files, version)
        if not renewed and read_tombstone(self._files, version) is not None:
            raise UnknownVersion(f"{version} is retired")
        until = self._clock.now() + timedelta(seconds=ttl_s)
        lease = Lease(lease_id, version, holder, written(until), float(ttl_s))
        self._files.replace(layout.lease_path(lease_id), encode(lease))
        # Retiring writes its tombstone and then looks for leases, this writes a lease and then looks for a tombstone:
        # at least one of the two sees the other.
        if not renewed and read_tombstone(self._files, version) is not None:
            self.release(lease_id)
            raise UnknownVersion(f"{version} is being retired")
        return lease

    def release(self, lease_id: str) -> None:
        self._files.delete(layout.lease_path(layout.checked_name(lease_id, "lease id")))

    def alive(self, version: str | None = None, store_now_s: float | None = None) -> tuple[Lease, ...]:
        """Of one version, or of all. With `store_now_s`, the store's own time, a lease is over only if the store's
        stamps say so as well."""
        found = []
        for lease, modified_at_s in self._all():
            stamped = store_now_s is not None and store_now_s - modified_at_s <= lease.ttl_s
            if version in (None, lease.version) and (stamped or not self._expired(lease)):
                found.append(lease)
        return tuple(found)

    def over(self, store_now_s: float) -> tuple[Lease, ...]:
        """Those that nobody renewed in time."""
        alive = {lease.id for lease in self.alive(store_now_s=store_now_s)}
        return tuple(lease for lease, _ in self._all() if lease.id not in alive)

    def _all(self) -> list[tuple[Lease, float]]:
        entries = [entry for entry in self._files.children(layout.LEASES) if entry.name.endswith(".json")]
        read = [(self._read(entry.name.removesuffix(".json")), entry.modified_at_s) for entry in entries]
        found = [(lease, modified_at_s) for lease, modified_at_s in read if lease is not None]
        with self._lock:
            there = {lease.id for lease, _ in found}
            self._seen_alive = {id: seen for id, seen in self._seen_alive.items() if id in there}
        return found

    def _read(self, lease_id: str) -> Lease | None:
        path = layout.lease_path(lease_id)
        try:
            return decode(Lease, parse(self._files.read(path)), lenient=True)
        except NotThere:
            return None
        except BadJson as error:
            raise CorruptEntry(f"{path}: {error}") from error

    def _expired(self, lease: Lease) -> bool:
        left = read_time(lease.expires_at, layout.lease_path(lease.id)) - self._clock.now()
        left_s, now_s = min(left.total_seconds(), lease.ttl_s), self._clock.monotonic_s()
        with self._lock:
            known, ends_at_s = self._seen_alive.get(lease.id, ("", 0.0))
            if known == lease.expires_at:
                return left_s < 0 and now_s > ends_at_s
            if left_s >= 0:
                self._seen_alive[lease.id] = (lease.expires_at, now_s + left_s)
            return left_s < 0
