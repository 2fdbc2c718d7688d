"""Reading: manifests say what there is; a data file that none names does not count."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from themis_judge.store.codec import canonical
from themis_judge.store.files import Files, NotThere
from themis_pipeline.archive import manifests
from themis_pipeline.archive.errors import CorruptArchive
from themis_pipeline.archive.manifests import DataFile, Manifest
from themis_pipeline.archive.parquet import from_parquet
from themis_pipeline.archive.record import Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one time, by topic, partition and offset; it stays readable whatever is added."""

    manifests: tuple[Manifest, ...]

    @property
    def rows(self) -> int:
        return sum(manifest.rows for manifest in self.manifests)

    @property
    def digest(self) -> str:
        """Names the snapshot: equal for equal contents only."""
        parts = [[manifest.path, manifest.end, manifest.nonce] for manifest in self.manifests]
        return hashlib.sha256(canonical(parts)).hexdigest()


def snapshot(files: Files) -> Snapshot:
    """Raises CorruptArchive."""
    found = [manifest for source in manifests.sources(files) for manifest in manifests.chain(files, *source)]
    return Snapshot(tuple(found))


def read(
    files: Files,
    snapshot: Snapshot,
    scenarios: Collection[str] | None = None,
    days: Collection[str] | None = None,
) -> Iterator[Record]:
    """Every record of a snapshot, or those of some scenarios and days ("2026-01-31", UTC), in an order that depends on
    the snapshot alone. One data file at a time is in memory. Raises CorruptArchive."""
    for manifest in snapshot.manifests:
        for file in manifest.files:
            if (scenarios is None or file.scenario in scenarios) and (days is None or file.day in days):
                yield from _records(files, file)


def _records(files: Files, file: DataFile) -> Iterator[Record]:
    try:
        data = files.read(file.path)
    except NotThere as error:
        raise CorruptArchive(f"{file.path}: a manifest names it, and it is not there") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise CorruptArchive(f"{file.path}: is not what was written")
    rows = 0
    for record in from_parquet(data, file.path):
        rows += 1
        yield record
    if rows != file.rows:
        raise CorruptArchive(f"{file.path}: has {rows} records, and its manifest says {file.rows}")
