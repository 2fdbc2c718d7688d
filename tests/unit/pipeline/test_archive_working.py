"""What is done about a partition and when, without a broker: a real directory, real threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.pipeline.archive_samples import TOPIC, scored
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive import CorruptArchive, PartitionWriter, read, snapshot
from themis_pipeline.archive.holding import Holding, Pending
from themis_pipeline.archive.holdings import Holdings
from themis_pipeline.archive.limits import ArchiveLimits
from themis_pipeline.archive.sorting import Sorting
from themis_pipeline.archive.source import Follower, Letters
from themis_pipeline.archive.storing import Storing
from themis_pipeline.archive.working import Working
from themis_pipeline.config import TopicsConfig
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.events.codec import encode
from themis_pipeline.kafka.seam import Listener, Partition, Record
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.watchdog import Watchdog
from themis_pipeline.topics import dead_letter_topic

PLACE = Partition(TOPIC, 0)
MAX_BYTES = 1_000_000


class NoBroker:
    """Nothing here asks for one."""

    def follower(self, group: str, topics: object, listener: Listener) -> Follower:
        raise AssertionError(group)

    def letters(self) -> Letters:
        raise AssertionError


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "archive")


@pytest.fixture
def holdings() -> Holdings:
    return Holdings(RunnerMetrics(RunnerFamilies(CollectorRegistry()), "archive"), revocation_s=30.0)


@pytest.fixture
def working(files: LocalFiles, holdings: Holdings) -> Working:
    retries = Retries("archive", "retry", Burial(dead_letter_topic("archive").placed(TopicsConfig())))
    storing = Storing(files, Sorting(retries, MAX_BYTES), NoBroker(), Watchdog(), letter_s=30.0, work_s=60.0)
    return Working(storing, holdings, ArchiveLimits(records=2, markers_s=0.0))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def one(files: LocalFiles, holdings: Holdings) -> Holding:
    """A partition that is open, with two records in hand."""
    holdings.assigned([PLACE])
    [found] = holdings.all()
    found.writer, found.pending = PartitionWriter(files, *PLACE), Pending(0)
    records = []
    for offset in range(2):
        value, headers = encode(scored(f"r{offset}"), MAX_BYTES)
        records.append(Record(PLACE, offset, b"k", value, headers))
    found.pending.take(records, now_s=0.0)
    return found


def ids(files: LocalFiles) -> list[str]:
    return [record.id for record in read(files, snapshot(files))]


def test_a_lot_that_was_just_written_is_settled_before_another_begins(
    working: Working, holdings: Holdings, threads: ThreadPoolExecutor, one: Holding, files: LocalFiles
) -> None:
    working.begin([one], threads, stopping=False)
    written = one.task
    assert written is not None
    wait([written], 30)
    working.begin([one], threads, stopping=False)  # it ended between settling and beginning
    assert one.task is written
    assert holdings.has(one)
    assert ids(files) == ["r0", "r1"]


def test_of_a_partition_that_goes_what_is_in_hand_is_written_once(
    working: Working, holdings: Holdings, threads: ThreadPoolExecutor, one: Holding, files: LocalFiles
) -> None:
    holdings.begin(lambda held: working.store(threads, held))
    holdings.revoked([PLACE]).result(30)
    assert ids(files) == ["r0", "r1"]
    working.begin([one], threads, stopping=True)  # the reading thread still has it on its list
    assert len(snapshot(files).manifests) == 1
    assert holdings.all() == []
    holdings.raise_broken()


def test_a_partition_that_comes_back_waits_for_what_is_still_written(
    working: Working, holdings: Holdings, threads: ThreadPoolExecutor, one: Holding
) -> None:
    working.begin([one], threads, stopping=False)
    holdings.lost([PLACE])
    holdings.assigned([PLACE])
    [again] = holdings.all()
    assert again is not one
    assert again.before in (None, one.task)
    assert again.pending is None


def test_an_error_of_a_partition_that_has_gone_ends_the_stage(
    working: Working, holdings: Holdings, threads: ThreadPoolExecutor, one: Holding, files: LocalFiles
) -> None:
    PartitionWriter(files, *PLACE).write([], 1)
    path = f"manifests/topic={TOPIC}/partition=00000/{0:020d}.json"
    files.replace(path, b"not a manifest")
    one.pending = None
    working.begin([one], threads, stopping=False)  # opens
    assert one.task is not None
    wait([one.task], 30)
    holdings.lost([PLACE])
    with pytest.raises(CorruptArchive):
        holdings.raise_broken()


def begun(working: Working, threads: ThreadPoolExecutor, one: Holding) -> list[Future[object]]:
    working.begin([one], threads, stopping=False)
    return [] if one.task is None else [one.task]


def test_markers_alone_are_archived_as_passed(
    working: Working, threads: ThreadPoolExecutor, one: Holding, files: LocalFiles
) -> None:
    """Once retention has taken them they would look like records that were deleted first."""
    one.pending = Pending(0)
    assert not begun(working, threads, one)
    one.pending.reached = 3
    [task] = begun(working, threads, one)
    wait([task], 30)
    assert PartitionWriter(files, *PLACE).position == 3
    assert ids(files) == []


def test_what_failed_before_is_tried_again_with_the_first_record(
    working: Working, threads: ThreadPoolExecutor, one: Holding
) -> None:
    """Else a second lone fault after `age_s` would count as an outage all the time between."""
    assert one.pending is not None
    del one.pending.records[1:]
    one.pending.since_s = time.monotonic()
    assert not begun(working, threads, one)
    one.failing_s["store"] = time.monotonic()
    [task] = begun(working, threads, one)
    wait([task], 30)


def test_a_partition_that_is_not_assigned_any_more_is_let_go(holdings: Holdings, one: Holding) -> None:
    """Though nobody said that it was revoked."""
    other = Partition(TOPIC, 1)
    holdings.assigned([other])
    assert [held.partition for held in holdings.all()] == [other]
    assert not holdings.has(one)
