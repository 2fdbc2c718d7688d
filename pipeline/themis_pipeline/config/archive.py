"""Where records with their difficulty are kept, and how large the lots are in which they are written."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from themis_pipeline.config.section import Section


class ArchiveConfig(Section):
    """The stage `archive`."""

    url: str | None = None
    """A folder or an fsspec URL (s3://bucket/archive) of a store that creates files exclusively."""
    store_timeout_s: PositiveFloat = 60.0
    """The longest one call of an object store may take, beside the bytes that it moves."""
    records: PositiveInt = 2_000
    """Of one partition: so many are archived at once, and no more are read before."""
    bytes: PositiveInt = 32 * 1024**2
    """The same in bytes; one poll may go beyond it."""
    age_s: PositiveFloat = 300.0
    """The longest a record waits for others: each lot is a manifest, and a file for each day and scenario."""
    total_bytes: PositiveInt = 128 * 1024**2
    """Of all partitions together. Writing takes several times a lot's own bytes beside."""
    writers: PositiveInt = 2
    """Lots that are written at a time."""
    work_s: PositiveFloat = 300.0
    """For a lot to be written; beyond it the process is ended."""
    pause_s: NonNegativeFloat = 1.0
    """Between a failure and the next attempt."""
    skip_deleted: bool = False
    """Whether to go on where the topic's retention has deleted records that were not archived."""
