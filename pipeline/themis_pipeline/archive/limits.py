"""What bounds the archive's stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from themis_pipeline.runner.polling import PollingLimits


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    records: int = 2_000
    """Of one partition: so many are archived at once, and no more are read before."""
    bytes: int = 32 * 1024**2
    """The same in bytes; one poll may go beyond it."""
    age_s: float = 300.0
    """The longest a record waits for others, each lot being a manifest and a file per day and scenario."""
    markers_s: float = 3_600.0
    """After which the markers of transactions behind the last record are archived as passed, by a manifest alone."""
    total_bytes: int = 128 * 1024**2
    """Of all partitions together; one poll may go beyond it. Writing takes several times a lot's own bytes beside."""
    writers: int = 2
    """Lots that are written at a time."""
    pause_s: float = 1.0
    """Between a failure and the next attempt."""
    letter_s: float = 30.0
    """For the dead letters of a lot to be acknowledged."""
    work_s: float = 300.0
    """For a lot to be written; beyond it the process is ended."""
    revocation_s: float = 10.0
    """For what was read of partitions that go to be archived; well within the time in which a group rebalances."""
    drain_s: float = 30.0
    """At the end, for what was read to be archived."""
    outage_s: float = 180.0
    """How long nothing of a partition may succeed, on the store or on the brokers, before the stage ends."""
    skip_deleted: bool = False
    """Whether to go on where the topic's retention has deleted records that were not archived."""
    polling: PollingLimits = field(default_factory=PollingLimits)
