"""Writing: data files under unique names first, then the manifest that makes them count."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timezone
from urllib.parse import quote

from themis_judge.store.files import AlreadyThere, Files
from themis_pipeline.archive import manifests
from themis_pipeline.archive.errors import Overtaken, Refused
from themis_pipeline.archive.manifests import DataFile, Manifest
from themis_pipeline.archive.parquet import to_parquet
from themis_pipeline.archive.record import Record
from themis_pipeline.archive.schema import VERSION

DATA = "data"


class PartitionWriter:
    """Archives one source partition. Made on assignment: `position` is where to seek to, and the archive alone knows
    it; offsets that a consumer group has committed don't count. Every method blocks: call it from a thread."""

    def __init__(self, files: Files, topic: str, partition: int) -> None:
        self._files = files
        self._topic = topic
        self._partition = partition
        self._position = manifests.end(files, topic, partition)

    @property
    def position(self) -> int:
        return self._position

    def write(self, records: Sequence[Record], end: int) -> Manifest:
        """Archives the offsets [position, end), of which `records` is everything that is to be kept. Until it
        returns, nothing of it counts, whatever happened. Raises Overtaken when another writer was first, Refused, and
        StoreUnavailable, after which whether it took place is not known. After each of them: `reopen`, and seek."""
        self._check(records, end)
        written = tuple(self._data_file(*group) for group in _groups(records))
        manifest = Manifest(
            manifests.FORMAT, VERSION, self._topic, self._partition, self._position, end, written, secrets.token_hex(16)
        )
        data = manifests.to_bytes(manifest)
        try:
            self._files.create(manifest.path, data)
        except AlreadyThere as error:
            # A file system behind a network may say so of one's own, when it asks twice: its files must stay then.
            if self._files.read(manifest.path) != data:
                for file in written:
                    self._files.delete(file.path)
                raise Overtaken(f"{manifest.path}: another writer was first") from error
        self._position = end
        return manifest

    def reopen(self) -> int:
        """Reads the position again."""
        self._position = manifests.end(self._files, self._topic, self._partition)
        return self._position

    def _check(self, records: Sequence[Record], end: int) -> None:
        if end <= self._position:
            raise Refused(f"{self._topic}/{self._partition}: {end} lies not after {self._position}")
        seen = set()
        for record in records:
            here = (record.topic, record.partition) == (self._topic, self._partition)
            if not here or not self._position <= record.offset < end or record.offset in seen:
                raise Refused(
                    f"{record.topic}/{record.partition}, offset {record.offset}: is no new record of "
                    f"{self._topic}/{self._partition}, [{self._position}, {end})"
                )
            if not record.id:
                raise Refused(f"{record.topic}/{record.partition}, offset {record.offset}: a record without an id")
            seen.add(record.offset)

    def _data_file(self, day: str, scenario: str, records: Sequence[Record]) -> DataFile:
        data = to_parquet(records)
        name = f"{self._partition:05d}-{self._position:020d}-{secrets.token_hex(8)}.parquet"
        path = f"{DATA}/day={day}/scenario={quote(scenario, safe='')}/{name}"
        self._files.create(path, data)
        return DataFile(path, len(records), len(data), hashlib.sha256(data).hexdigest(), day, scenario)


def _groups(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """By day and scenario, each in the order of offsets."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.offset):
        day = record.at.astimezone(timezone.utc).date().isoformat()
        found.setdefault((day, record.scenario), []).append(record)
    return [(day, scenario, group) for (day, scenario), group in sorted(found.items())]
