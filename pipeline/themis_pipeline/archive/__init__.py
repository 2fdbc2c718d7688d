"""The archive: what the pipeline made, as Parquet that owns the offsets of what it was read from."""

from themis_pipeline.archive.errors import ArchiveError, CorruptArchive, Overtaken, Refused
from themis_pipeline.archive.manifests import DataFile, Manifest
from themis_pipeline.archive.place import open_files
from themis_pipeline.archive.reader import Snapshot, read, snapshot
from themis_pipeline.archive.record import Point, Record, Turn
from themis_pipeline.archive.rows import Place, from_scored
from themis_pipeline.archive.writer import PartitionWriter

__all__ = [
    "ArchiveError",
    "CorruptArchive",
    "DataFile",
    "Manifest",
    "Overtaken",
    "PartitionWriter",
    "Place",
    "Point",
    "Record",
    "Refused",
    "Snapshot",
    "Turn",
    "from_scored",
    "open_files",
    "read",
    "snapshot",
]
