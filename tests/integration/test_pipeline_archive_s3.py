"""The archive on S3's protocol: a real server process, spoken to by s3fs over HTTP."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.archive_world import Scene, all_once, archived, archiving
from tests.integration.test_store_s3 import KEYS, s3_server
from tests.unit.pipeline.archive_samples import TOPIC, record
from themis_judge.store.files import Files
from themis_pipeline.archive import Overtaken, PartitionWriter, open_files, read, snapshot
from themis_pipeline.archive.garbage import sweep
from themis_pipeline.local.broker import KafkaBroker

__all__ = ["s3_server"]  # a fixture: started once for all who ask for it


@pytest.fixture
def remote(s3_server: str, request: pytest.FixtureRequest) -> Iterator[Files]:
    bucket = f"archive-{abs(hash(request.node.name)):x}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{bucket}", method="PUT"), timeout=30):
        files = open_files(f"s3://{bucket}/archive", {"endpoint_url": s3_server, **KEYS})
    yield files
    files.close()


def test_what_is_archived_in_a_bucket_is_read(remote: Files) -> None:
    writer = PartitionWriter(remote, TOPIC, 0)
    writer.write([record(0), record(1, "open_qa")], 2)
    writer.write([], 5)
    assert PartitionWriter(remote, TOPIC, 0).position == 5
    assert list(read(remote, snapshot(remote))) == [record(0), record(1, "open_qa")]
    remote.create("data/day=2026-03-01/scenario=math/left.parquet", b"half")
    assert sweep(remote, -60) == ("data/day=2026-03-01/scenario=math/left.parquet",)
    assert len(list(read(remote, snapshot(remote)))) == 2


def test_of_racing_writers_in_a_bucket_one_wins(remote: Files) -> None:
    writers = [PartitionWriter(remote, TOPIC, 0) for _ in range(4)]

    def write(writer: PartitionWriter) -> bool:
        try:
            writer.write([record(0), record(1)], 2)
        except Overtaken:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, writers))
    assert won.count(True) == 1
    assert [entry.offset for entry in read(remote, snapshot(remote))] == [0, 1]
    assert [writer.reopen() for writer in writers] == [2, 2, 2, 2]


async def test_two_members_archive_a_topic_into_a_bucket_once(kafka: KafkaBroker, remote: Files) -> None:
    scene = Scene(kafka.address)
    scene.lay()
    scene.write(range(60), transactions=3)
    async with archiving(scene, remote) as first:
        await first.until(lambda: len(archived(remote)) > 0)
        async with archiving(scene, remote) as second:
            await second.until(lambda: second.moved("assigned") > 0)
            scene.write(range(60, 120))
            scene.write_poison(range(4))
            await second.until(lambda: archived(remote) == all_once(range(120)))
            await second.until(lambda: len({letter.id for letter in scene.letters()}) == 4)
        scene.write(range(120, 150))
        await first.until(lambda: archived(remote) == all_once(range(150)))
        await first.until(lambda: scene.lag() == 0)
