"""The stage `archive`: one thread that reads and decides, a few that write."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from themis_judge.store.files import Files
from themis_pipeline.archive.holdings import Holdings
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.reading import Reading
from themis_pipeline.archive.sorting import Sorting
from themis_pipeline.archive.source import Source
from themis_pipeline.archive.storing import Storing
from themis_pipeline.archive.working import Working
from themis_pipeline.runner.metrics import RunnerMetrics
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.topics.topic import Topic


class ArchiveStage:
    """Archives `topic` and what is replayed to the stage's own retry topic, each partition under manifests of its own.

    group: the consumer group, with the pipeline's prefix; it shares out partitions, and its offsets tell the lag alone.
    topic: topics.SCORED, placed. retries: the stage's, as a runner takes them: it names the retry topic and buries.
    files: `archive.open_files(url)`; the caller closes it. source: `kafka.following.KafkaFollowing(transport)`.
    watchdog: started; metrics: of the stage "archive".
    """

    def __init__(
        self,
        group: str,
        topic: Topic,
        retries: Retries,
        files: Files,
        source: Source,
        watchdog: Watchdog,
        metrics: RunnerMetrics,
        limits: ArchiveLimits | None = None,
    ) -> None:
        limits = limits or ArchiveLimits()
        sorting = Sorting(retries, topic.max_event_bytes)
        self._storing = Storing(files, sorting, source, watchdog, limits.letter_s, limits.work_s)
        holdings = Holdings(metrics, limits.revocation_s)
        working = Working(self._storing, holdings, limits)
        topics = [topic.name, retries.topic]
        self._reading = Reading(group, topics, source, holdings, working, watchdog, limits)

    def stop(self) -> None:
        """Reads no more, archives what was read, and leaves; within `drain_s` and what is being written then. What
        isn't archived by then is read again by whoever comes next. For any thread."""
        self._reading.stop()

    async def run(self) -> None:
        """Until `stop`. Raises what ended it otherwise: Outage, TransportError, StoreError, ArchiveError."""
        with ThreadPoolExecutor(1, thread_name_prefix="themis-archive") as thread:
            reading = asyncio.get_running_loop().run_in_executor(thread, self._reading.run)
            try:
                await asyncio.shield(reading)
            finally:
                self._reading.stop()
                await asyncio.wait({reading})
                self._storing.close()
