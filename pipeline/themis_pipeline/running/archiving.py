"""The stage `archive`, which owns its offsets and so has no runner around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from themis_judge.store.errors import StoreError
from themis_pipeline.archive import open_files
from themis_pipeline.archive.errors import ArchiveError
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.stage import ArchiveStage
from themis_pipeline.config import PipelineConfig
from themis_pipeline.kafka.following import KafkaFollowing
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.polling import PollingLimits
from themis_pipeline.running.composing import Surroundings, make_retries
from themis_pipeline.running.seam import Broken, Runs
from themis_pipeline.stages.errors import BadSetting
from themis_pipeline.topics import SCORED

STAGE = "archive"


@contextmanager
def archiving(around: Surroundings) -> Iterator[Runs]:
    """Raises BadSetting, StoreError."""
    config = around.config
    if config.archive.url is None:
        raise BadSetting("archive.url: say where the archive lies, as a folder or an fsspec address")
    files = open_files(config.archive.url, timeout_s=config.archive.store_timeout_s)
    try:
        yield _Archiving(
            ArchiveStage(
                config.topics.prefix + STAGE,
                SCORED.placed(config.topics),
                make_retries(STAGE, (), around),
                files,
                KafkaFollowing(around.transport),
                around.watchdog,
                RunnerMetrics(around.families, STAGE),
                _limits(config),
            )
        )
    finally:
        files.close()


class _Archiving:
    """Readiness is no more than being there: the stage ends by itself where nothing succeeds for too long."""

    joined = True

    def __init__(self, stage: ArchiveStage) -> None:
        self._stage = stage

    def stop(self) -> None:
        self._stage.stop()

    async def run(self) -> None:
        try:
            await self._stage.run()
        except (ArchiveError, StoreError) as error:
            raise Broken(str(error)) from error


def _limits(config: PipelineConfig) -> ArchiveLimits:
    own, runner = config.archive, config.runner
    return ArchiveLimits(
        records=own.records,
        bytes=own.bytes,
        age_s=own.age_s,
        total_bytes=own.total_bytes,
        writers=own.writers,
        pause_s=own.pause_s,
        work_s=own.work_s,
        drain_s=runner.drain_s,
        outage_s=runner.outage_s,
        skip_deleted=own.skip_deleted,
        polling=PollingLimits(outage_s=runner.outage_s),
    )
