"""Removing what nobody needs any more. It happens when asked for, never by itself, and only to what is old enough."""

from __future__ import annotations

from themis_judge.store import layout
from themis_judge.store.clock import Clock, store_now_s, written
from themis_judge.store.codec import encode
from themis_judge.store.files import AlreadyThere, Files, Found, NotThere, walk
from themis_judge.store.leases import Leases
from themis_judge.store.local import ASIDE
from themis_judge.store.types import Collected, Tombstone


class Garbage:
    def __init__(self, files: Files, clock: Clock, leases: Leases) -> None:
        self._files = files
        self._clock = clock
        self._leases = leases

    def collect(self, older_than_s: float, in_use: frozenset[str]) -> Collected:
        """Removes, if the store's own clock says that they are older than that: files of versions that were retired
        (unless `in_use`), files whose publishing never ended, leases that ran out, reports of replicas that are gone,
        and what a crash left half written. Everything else stays."""
        now_s = store_now_s(self._files)
        before_s = now_s - older_than_s
        gone: list[Found] = []
        retired = {entry.name.removesuffix(".json"): entry for entry in self._files.children(layout.TOMBSTONES)}
        for entry in self._files.children(layout.VERSIONS):
            version, tombstone = entry.name, retired.get(entry.name)
            if not entry.is_folder or version in in_use:
                continue
            if tombstone is not None and tombstone.modified_at_s <= before_s:
                gone += self._remove_version(version)
            elif tombstone is None:
                gone += self._remove_leftover(version, before_s)
        over = {layout.lease_path(lease.id) for lease in self._leases.over(now_s)}
        for folder in layout.FOLDERS:
            for file in walk(self._files, folder):
                aside = file.path.rpartition("/")[2].startswith(ASIDE)
                unneeded = aside or file.path in over or folder == layout.REPLICAS
                if unneeded and file.modified_at_s <= before_s:
                    gone += self._remove([file])
        return Collected(tuple(file.path for file in gone), sum(file.bytes for file in gone))

    def _remove_version(self, version: str) -> list[Found]:
        """The manifest goes first: what is cut short then is a leftover, not a version that lacks files."""
        found = walk(self._files, f"{layout.VERSIONS}/{version}")
        return self._remove(sorted(found, key=lambda file: file.path != layout.manifest_path(version)))

    def _remove_leftover(self, version: str, before_s: float) -> list[Found]:
        """Files without a manifest. The publisher may still be at it: a tombstone first, then a look for its manifest,
        while it writes the manifest and then looks for a tombstone. At least one of the two gives way."""
        found = walk(self._files, f"{layout.VERSIONS}/{version}")
        published = any(file.path == layout.manifest_path(version) for file in found)
        if published or not found or max(file.modified_at_s for file in found) > before_s:
            return []
        tombstone = Tombstone(version, written(self._clock.now()), "its publishing never ended")
        try:
            self._files.create(layout.tombstone_path(version), encode(tombstone))
        except AlreadyThere:
            return []
        if self._is_published(version):
            self._files.delete(layout.tombstone_path(version))
            return []
        return self._remove(found)

    def _is_published(self, version: str) -> bool:
        try:
            self._files.read(layout.manifest_path(version))
        except NotThere:
            return False
        return True

    def _remove(self, found: list[Found]) -> list[Found]:
        for file in found:
            self._files.delete(file.path)
        return found
