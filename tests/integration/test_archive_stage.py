"""The archive on a real broker: what readers find is each record once, whoever is killed, frozen or moved when."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.integration.archive_process import STEPS
from tests.integration.archive_world import DEADLINE_S, LIMITS, Scene, all_once, archived, archiving, poison, until
from tests.unit.pipeline.archive_samples import scored
from themis_judge.store.errors import StoreUnavailable
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive import ArchiveError, Overtaken, PartitionWriter, Place, from_scored, snapshot
from themis_pipeline.archive.garbage import sweep
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.polling import Outage
from themis_pipeline.runner.retries import for_retry
from themis_pipeline.runner.stage import Delivery, Origin
from themis_proto.v1 import events_pb2 as ev

ROOT = Path(__file__).parents[2]
GOOD, POISON = range(120), range(12)


@pytest.fixture
def scene(kafka: KafkaBroker) -> Scene:
    made = Scene(kafka.address)
    made.lay()
    return made


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "archive")


# ---------------------------------------------------------------------------------------------------- alone


class Blocked(LocalFiles):
    """From `close_off` on data files are created when `open` is called, and not before."""

    def __init__(self, files: LocalFiles) -> None:
        super().__init__(files._root)
        self._opened = threading.Event()
        self._opened.set()
        self.waiting = 0

    def close_off(self) -> None:
        self.waiting = 0
        self._opened.clear()

    def open(self) -> None:
        self._opened.set()

    def create(self, path: str, data: bytes) -> None:
        self.waiting += 1
        assert self._opened.wait(DEADLINE_S)
        super().create(path, data)


async def test_what_is_scored_is_archived_once_and_the_group_is_told(scene: Scene, files: LocalFiles) -> None:
    scene.write(GOOD, transactions=7)
    async with archiving(scene, files) as one:
        await one.until(lambda: archived(files) == all_once(GOOD))
        await one.until(lambda: scene.lag() == 0)
        scene.write(range(120, 130))
        await one.until(lambda: archived(files) == all_once(range(130)))
        await one.until(lambda: one.count("themis_pipeline_outcomes_total", outcome="done") == 130)
        assert one.refused() == 0
    assert not scene.letters()


async def test_stopping_archives_what_was_read(scene: Scene, files: LocalFiles) -> None:
    patient = replace(LIMITS, records=1000, age_s=3600.0)
    scene.write(range(40))
    async with archiving(scene, files, patient) as one:
        await one.until(lambda: one.in_hand() + archived(files).total() == 40)  # a change of the group archives as well
    assert archived(files) == all_once(range(40))
    assert len(snapshot(files).manifests) <= 3


async def test_more_is_not_read_than_there_is_room_for(scene: Scene, files: LocalFiles) -> None:
    """One poll may go beyond the bound; nothing is archived meanwhile, since no store answers."""
    blocked = Blocked(files)
    small = replace(LIMITS, records=5, total_bytes=10_000_000)
    async with archiving(scene, blocked, small) as one:
        scene.write(range(120, 123))
        await one.until(lambda: archived(files).total() == 3)  # the group has settled
        blocked.close_off()
        scene.write(GOOD)
        await one.until(lambda: one.in_hand() == 15)
        await one.until(lambda: blocked.waiting >= 2)
        assert one.in_hand() == 15
        blocked.open()
        await one.until(lambda: archived(files) == all_once(range(123)))
    assert max(manifest.rows for manifest in snapshot(files).manifests) == 5


async def test_all_partitions_together_have_a_bound_of_bytes(scene: Scene, files: LocalFiles) -> None:
    tight = replace(LIMITS, records=1000, age_s=3600.0, total_bytes=1)
    scene.write(GOOD)
    async with archiving(scene, files, tight) as one:
        await one.until(lambda: archived(files) == all_once(GOOD))


# ---------------------------------------------------------------------------------------------------- dead letters


async def test_what_can_not_be_archived_is_buried_whole_and_holds_up_nothing(scene: Scene, files: LocalFiles) -> None:
    scene.write(GOOD)
    scene.write_poison(POISON)
    scene.write(range(120, 150))
    async with archiving(scene, files) as one:
        await one.until(lambda: archived(files) == all_once(range(150)))
        await one.until(lambda: scene.lag() == 0)
        assert one.count("themis_pipeline_outcomes_total", outcome="dead") == len(POISON)
    letters = scene.letters()
    reasons = sorted((letter.reason, letter.error) for letter in letters)
    assert reasons == sorted(
        [
            (ev.DEAD_LETTER_REASON_MALFORMED, "tombstone"),
            (ev.DEAD_LETTER_REASON_OVERSIZE, "oversize"),
            (ev.DEAD_LETTER_REASON_REJECTED, "refused"),
            (ev.DEAD_LETTER_REASON_MALFORMED, "bytes"),
        ]
        * 3
    )
    assert {letter.value for letter in letters if letter.error == "bytes"} == {poison(number) for number in (3, 7, 11)}
    # A restart finds them passed, and buries none again.
    async with archiving(scene, files) as one:
        scene.write(range(150, 160))
        await one.until(lambda: archived(files) == all_once(range(160)))
    assert len(scene.letters()) == len(POISON)


async def test_a_letter_that_is_replayed_is_archived(scene: Scene, files: LocalFiles) -> None:
    scene.write(range(3))
    [record] = scene.records()[:1]
    delivery = Delivery(record, Origin(record.partition, record.offset, record.written_at_ms))
    async with archiving(scene, files) as one:
        await one.until(lambda: archived(files) == all_once(range(3)))
        scene.produce([for_retry(scene.retry.name, delivery, not_before_ms=0)])
        await one.until(lambda: archived(files).total() == 4)
        scene.produce([replace(for_retry(scene.retry.name, delivery, not_before_ms=0), headers=())])
        await one.until(lambda: [letter.error for letter in scene.letters()] == ["ForeignRetry"])
    assert sorted(archived(files).values()) == [1, 1, 2]


# ---------------------------------------------------------------------------------------------------- dying


@contextmanager
def process(scene: Scene, root: Path, step: str, times: int, how: str = "kill") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.archive_process", scene.address, scene.prefix, str(root)]
    with subprocess.Popen([*command, step, str(times), how], cwd=ROOT, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        try:
            assert started.stdout.readline() == b"up\n"
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_it_leaves_its_work_to_the_next(scene: Scene, files: LocalFiles, step: str) -> None:
    scene.write(GOOD)
    scene.write_poison(POISON)
    with process(scene, files.local("") or Path(), step, 3) as killed:
        assert await asyncio.to_thread(killed.wait, DEADLINE_S) == -signal.SIGKILL
    async with archiving(scene, files) as one:
        await one.until(lambda: archived(files) == all_once(GOOD))
        await one.until(lambda: scene.lag() == 0)
    places = [(letter.partition, letter.offset, letter.id) for letter in scene.letters()]
    assert len(set(places)) == len(POISON)
    if step not in {"sent", "letters", "data", "written", "manifest"}:  # between a letter and its manifest
        assert len(places) == len(POISON)
    sweep(files, -60)
    assert archived(files) == all_once(GOOD)


# ---------------------------------------------------------------------------------------------------- many members


async def test_what_was_read_is_archived_before_its_partition_goes(scene: Scene, files: LocalFiles) -> None:
    """A group that changes more often than lots are due would else never archive anything."""
    patient = replace(LIMITS, records=1000, age_s=3600.0)
    scene.write(range(40))
    async with archiving(scene, files, patient) as first:
        await first.until(lambda: first.in_hand() + archived(files).total() == 40)
        async with archiving(scene, files, patient) as second:
            await second.until(lambda: second.moved("assigned") > 0)
            await first.until(lambda: archived(files) == all_once(range(40)))
            assert first.count("themis_pipeline_outcomes_total", outcome="done") == 40
            assert second.refused() == 0


def more_than(files: LocalFiles, count: int) -> bool:
    return len(archived(files)) > count


async def test_members_that_come_and_go_lose_and_double_nothing(scene: Scene, files: LocalFiles) -> None:
    writing = asyncio.create_task(asyncio.to_thread(scene.write_slowly, range(600), 0.005))
    async with archiving(scene, files) as first:
        await first.until(lambda: len(archived(files)) > 20)
        for _ in range(2):
            before = len(archived(files))
            async with archiving(scene, files) as second:
                await second.until(lambda: second.count("themis_pipeline_outcomes_total", outcome="done") > 0)
                with process(scene, files.local("") or Path(), "none", 1) as third:
                    await first.until(partial(more_than, files, before + 50))
                    third.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(third.wait, DEADLINE_S) == 0
        await writing
        await first.until(lambda: archived(files) == all_once(range(600)))
        await first.until(lambda: scene.lag() == 0)


@pytest.mark.parametrize("step", ["data", "manifest"])
async def test_a_frozen_owner_can_not_archive_what_its_successor_has(
    scene: Scene, files: LocalFiles, step: str
) -> None:
    scene.write(GOOD)
    root = files.local("") or Path()
    with process(scene, root, step, 2, "stop") as frozen:
        await until(lambda: os.waitpid(frozen.pid, os.WUNTRACED | os.WNOHANG)[0] == frozen.pid)
        async with archiving(scene, files) as successor:
            await successor.until(lambda: archived(files) == all_once(GOOD))
            frozen.send_signal(signal.SIGCONT)
            # It finds that it was overtaken, and that the group knows it no more; then it is a member like others.
            scene.write(range(120, 240))
            await successor.until(lambda: archived(files) == all_once(range(240)))
            frozen.send_signal(signal.SIGTERM)
            output, _ = await asyncio.to_thread(frozen.communicate, timeout=DEADLINE_S)
        assert frozen.returncode == 0
    assert float(output) >= 1
    named = {file.path for manifest in snapshot(files).manifests for file in manifest.files}
    assert {f"{path.relative_to(root)}" for path in root.rglob("*.parquet")} == named  # it removed what was in vain
    assert archived(files) == all_once(range(240))


def usurp(files: LocalFiles, topic: str, number: int) -> None:
    """Archives one record of its own as the next of a partition."""
    while True:
        writer = PartitionWriter(files, topic, number)
        other = from_scored(scored(f"other{number}"), Place(topic, number, writer.position))
        try:
            writer.write([other], writer.position + 1)
            return
        except Overtaken:
            continue


async def test_a_writer_that_is_overtaken_reads_on_where_the_other_ended(scene: Scene, files: LocalFiles) -> None:
    """Somebody else archives the next record of what it has in hand, while it has read and fetched beyond."""
    scene.write(GOOD)
    async with archiving(scene, files, replace(LIMITS, records=80, age_s=2.0)) as one:
        await one.until(lambda: one.in_hand() + archived(files).total() > 0)
        for number in range(3):
            usurp(files, scene.topic.name, number)
        scene.write(range(120, 480))
        await one.until(lambda: archived(files).total() == 480)
        assert one.refused() >= 1
    assert max(archived(files).values()) == 1


# ---------------------------------------------------------------------------------------------------- failing stores


class Flaky(LocalFiles):
    """Every third creation fails: half of them before the file is there, half after, as a lost answer would."""

    def __init__(self, files: LocalFiles) -> None:
        super().__init__(files._root)
        self._calls = 0

    def create(self, path: str, data: bytes) -> None:
        self._calls += 1
        if self._calls % 6 == 0:
            raise StoreUnavailable("told to fail")
        super().create(path, data)
        if self._calls % 6 == 3:
            raise StoreUnavailable("told to lose the answer")


async def test_a_store_that_fails_now_and_then_loses_and_doubles_nothing(scene: Scene, files: LocalFiles) -> None:
    scene.write(range(300))
    async with archiving(scene, Flaky(files)) as one:
        await one.until(lambda: archived(files) == all_once(range(300)))
        assert one.count("themis_pipeline_transactions_total", result="failed") > 3


class Gone(LocalFiles):
    def create(self, path: str, data: bytes) -> None:
        raise StoreUnavailable("told to be away")


async def test_a_store_that_stays_away_ends_the_stage(scene: Scene, tmp_path: Path) -> None:
    scene.write(GOOD)
    with pytest.raises(Outage, match="told to be away"):
        async with archiving(scene, Gone(tmp_path), replace(LIMITS, outage_s=0.5)) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)


# ---------------------------------------------------------------------------------------------------- topics


async def test_an_archive_of_another_topic_of_that_name_ends_the_stage(scene: Scene, files: LocalFiles) -> None:
    PartitionWriter(files, scene.topic.name, 0).write([], 1000)
    with pytest.raises(ArchiveError, match="another topic of the same name"):
        async with archiving(scene, files) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)
    assert archived(files).total() == 0


async def test_records_that_retention_took_first_are_missed_and_told(scene: Scene, files: LocalFiles) -> None:
    scene.write(GOOD)
    for number in range(3):
        PartitionWriter(files, scene.topic.name, number).write([], 2)
    scene.delete_before(5)
    with pytest.raises(ArchiveError, match="offsets 2 to 5 were deleted"):
        async with archiving(scene, files) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)
    async with archiving(scene, files, replace(LIMITS, skip_deleted=True)) as one:
        await one.until(lambda: archived(files).total() == len(GOOD) - 15)


async def test_an_archive_that_begins_late_takes_what_is_left(scene: Scene, files: LocalFiles) -> None:
    """What the group has committed is out of the topic's range by then, and nobody's business."""
    scene.write(GOOD)
    scene.delete_before(5)
    async with archiving(scene, files) as one:
        await one.until(lambda: archived(files).total() == len(GOOD) - 15)
