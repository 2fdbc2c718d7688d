"""The store of judge versions: a directory or an object store that replicas, trainers and people share."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from themis_judge.scenarios import Scenario, load_scenarios
from themis_judge.store import layout
from themis_judge.store.cache import Cache
from themis_judge.store.checking import check_files
from themis_judge.store.clock import Clock, SystemClock, read_time
from themis_judge.store.codec import BadJson, decode, encode, parse
from themis_judge.store.desired import DesiredLog
from themis_judge.store.errors import CorruptEntry, CorruptVersion, UnknownVersion
from themis_judge.store.files import Files, NotThere
from themis_judge.store.garbage import Garbage
from themis_judge.store.leases import Leases
from themis_judge.store.local import LocalFiles
from themis_judge.store.manifests import list_versions, read_manifest, read_tombstone
from themis_judge.store.publishing import publish
from themis_judge.store.remote import RemoteFiles
from themis_judge.store.retiring import Retiring
from themis_judge.store.types import (
    BrokenVersion,
    Collected,
    DesiredState,
    Draft,
    Lease,
    Manifest,
    ReplicaReport,
    Tombstone,
)

DEFAULT_CACHE_BYTES = 256 << 30
_NOT_HELD = ("failed", "no_room")  # how a report's words for such versions begin


class JudgeStore:
    """Every method blocks, on a disk or a network, and returns within a bounded time: call it from a thread. Safe to
    use from several threads and processes. Every method may raise StoreUnavailable."""

    def __init__(self, files: Files, cache: Cache, clock: Clock) -> None:
        self._files = files
        self._cache = cache
        self._clock = clock
        self._log = DesiredLog(files)
        self._leases = Leases(files, clock)
        self._checked: set[str] = set()
        self._checked_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        url: str,
        cache_dir: Path,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        timeout_s: float = 30.0,
        storage_options: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> JudgeStore:
        """url: a directory, or what fsspec takes ("s3://bucket/path"); cache_dir: where versions of a remote store are
        kept, up to cache_bytes; timeout_s: the longest a remote call may take, beside the bytes it moves;
        storage_options: handed to fsspec (endpoint_url, key, secret), whose own ways of finding credentials hold."""
        files: Files
        if "://" in url and not url.startswith("file://"):
            files = RemoteFiles(url, storage_options or {}, timeout_s)
        else:
            files = LocalFiles(Path(url.removeprefix("file://")).expanduser().absolute())
        return cls(files, Cache(cache_dir.expanduser().absolute(), cache_bytes), clock or SystemClock())

    def close(self) -> None:
        """Lets go of connections and of everything fetched."""
        self._cache.close()
        self._files.close()

    # ------------------------------------------------------------------------------------------- versions

    def publish(self, draft: Draft) -> Manifest:
        """Makes a version of a model's or adapter's folder. Raises Refused, naming the file or field, and Conflict
        if the very same version is there, was retired, or was cleaned away meanwhile."""
        return publish(self._files, draft, self._clock)

    def manifest(self, version: str) -> Manifest:
        """Also of a version that is retired and not yet removed. Raises UnknownVersion, CorruptVersion."""
        return read_manifest(self._files, version)

    def list(self) -> tuple[Manifest | BrokenVersion, ...]:
        """Versions that are published and not retired, by id."""
        return list_versions(self._files)

    def fetch(self, version: str) -> Path:
        """A local folder with the version's files, `judge/` and perhaps `scenarios/`, every one checked against the
        manifest once in this store's life. It stays until a `keep` without it. Raises UnknownVersion, CorruptVersion,
        CacheFull."""
        manifest = self.manifest(version)
        folder = self._files.local(layout.files_path(version))
        if folder is None:
            return self._cache.fetch(manifest, self._download)
        with self._checked_lock:
            known = version in self._checked
        if not known:
            check_files(folder, manifest)
            with self._checked_lock:
                self._checked.add(version)
        return folder

    def keep(self, versions: Collection[str]) -> None:
        """Of what `fetch` gave only these are used from now on; all else may leave the cache. Does not block."""
        self._cache.keep(versions)

    def retire(self, version: str, why: str, by: str = "store") -> Tombstone:
        """Takes a version out of use for good; its files go when `collect` is called. Writes a desired state, equal
        but for its number and for `previous` if that was the version. Raises UnknownVersion, InUse while it is
        current, resident, in shadow, leased, or the base of an adapter, and Conflict when the desired state changes
        faster than this can read it. After an error it may be asked for again."""
        return Retiring(self._files, self._clock, self._log, self._leases).retire(version, why, by)

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Of all versions that were ever retired, by id."""
        names = (entry.name for entry in self._files.children(layout.TOMBSTONES) if entry.name.endswith(".json"))
        found = (read_tombstone(self._files, name.removesuffix(".json")) for name in names)
        return tuple(tombstone for tombstone in found if tombstone is not None)

    def collect(self, older_than_s: float) -> Collected:
        """Removes what nobody needs and is older than that (see garbage.py). Choose a bound above the longest
        upload of one file; a publisher that is overtaken gets Conflict, and nothing half."""
        return Garbage(self._files, self._clock, self._leases).collect(older_than_s, self._needed(older_than_s))

    # ------------------------------------------------------------------------------------------- fleet

    def desired(self) -> DesiredState | None:
        """The state in force; None before the first. Raises CorruptEntry."""
        return self._log.read()

    def desired_before(self, state: DesiredState) -> DesiredState | None:
        """The last state before `state` in which another version was current; None where there is none to be read."""
        return self._log.before(state)

    def propose(self, state: DesiredState) -> None:
        """Puts a state in force if its number is the one after that in force; of several proposals of a number exactly
        one succeeds. Raises Conflict: read desired() and decide anew; Refused for one that contradicts itself;
        UnknownVersion, CorruptVersion for a version that it brings in."""
        self._log.propose(state)

    def report(self, report: ReplicaReport) -> None:
        """Replaces what this replica said before."""
        name = layout.checked_name(report.replica, "replica")
        self._files.replace(layout.replica_path(name), encode(replace(report, stale=False)))

    def reports(self, stale_after_s: float) -> tuple[ReplicaReport, ...]:
        """By replica; those whose time is further from ours than that are marked. Raises CorruptEntry."""
        entries = (entry.name for entry in self._files.children(layout.REPLICAS) if entry.name.endswith(".json"))
        found = (self._report(name.removesuffix(".json")) for name in entries)
        limit = timedelta(seconds=stale_after_s)
        return tuple(
            replace(report, stale=abs(self._clock.now() - read_time(report.at, report.replica)) > limit)
            for report in found
            if report is not None
        )

    def hold(self, version: str, holder: str, ttl_s: float, lease_id: str | None = None) -> Lease:
        """Takes a lease, or renews the one of that id, for ttl_s from now on. Raises UnknownVersion for a version that
        is not there or retired (a lease that is alive can be renewed all the same), CorruptVersion, Refused."""
        return self._leases.hold(version, holder, ttl_s, lease_id)

    def release(self, lease_id: str) -> None:
        """None there is as good."""
        self._leases.release(lease_id)

    def leases(self, version: str | None = None) -> tuple[Lease, ...]:
        """Those alive, of one version or of all. Raises CorruptEntry."""
        return self._leases.alive(version)

    # ------------------------------------------------------------------------------------------- parts

    def _report(self, replica: str) -> ReplicaReport | None:
        path = layout.replica_path(replica)
        try:
            return decode(ReplicaReport, parse(self._files.read(path)), lenient=True)
        except NotThere:
            return None
        except BadJson as error:
            raise CorruptEntry(f"{path}: {error}") from error

    def _download(self, manifest: Manifest, folder: Path) -> None:
        for entry in manifest.files:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._files.get(f"{layout.files_path(manifest.id)}/{entry.path}", target)
            except NotThere as error:
                raise CorruptVersion(f"{manifest.id}: {entry.path} is missing") from error

    def _needed(self, stale_after_s: float) -> frozenset[str]:
        """Retired or not, these keep their files: somebody names, pins or holds them."""
        state = self.desired()
        found = set(state.versions if state else ())
        found.update(lease.version for lease in self.leases())
        for report in self.reports(stale_after_s):
            found.update(() if report.stale else _held(report))
        for version in tuple(found):
            with suppress(UnknownVersion, CorruptVersion):
                found.add(self.manifest(version).base_model)
        return frozenset(found)


def _held(report: ReplicaReport) -> list[str]:
    """What failed on a replica, or had no room there, isn't held by it."""
    return [id for id, standing in report.residents.items() if not standing.startswith(_NOT_HELD)]


def version_scenarios(folder: Path) -> Mapping[str, Scenario]:
    """The scenarios of what `fetch` gave: exactly its own where it has some, else the built-in ones."""
    own = folder / layout.SCENARIOS
    return load_scenarios([own], built_in=False) if own.is_dir() else load_scenarios()
