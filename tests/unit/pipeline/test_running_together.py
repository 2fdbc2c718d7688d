"""Stages in one process: they end together, and the first failure is told. And the names that processes have."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from themis_pipeline.config import LogConfig
from themis_pipeline.kafka.seam import Partition, TransportError
from themis_pipeline.runner.metrics import RunnerFamilies, RunnerMetrics
from themis_pipeline.running.health import Health, StageHealth
from themis_pipeline.running.instances import NoInstance, claimed
from themis_pipeline.running.logs import make_logger
from themis_pipeline.running.seam import Fatal, StageEnded, StageFailed
from themis_pipeline.running.together import Together


class Stage:
    """Runs until it is told to stop, or to fail."""

    def __init__(self) -> None:
        self.joined = True
        self.stopped = asyncio.Event()
        self.ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished = False

    def stop(self) -> None:
        self.stopped.set()

    async def _told(self) -> None:
        await self.stopped.wait()

    async def run(self) -> None:
        told = asyncio.create_task(self._told())
        ends: set[asyncio.Future[None]] = {told, self.ends}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        await asyncio.sleep(0)  # what is in hand is finished
        self.finished = True
        if self.ends.done():
            self.ends.result()


def together(log: io.StringIO | None = None) -> tuple[Together, Stage, Stage]:
    first, second = Stage(), Stage()
    logger = make_logger(LogConfig(), log or io.StringIO())
    return Together({"first": first, "second": second}, logger, lambda: None), first, second


async def test_all_stop_when_they_are_told_to() -> None:
    told: list[str] = []
    first, second = Stage(), Stage()
    logger = make_logger(LogConfig(), io.StringIO())
    running = Together({"first": first, "second": second}, logger, lambda: told.append("stopping"))
    task = asyncio.create_task(running.run())
    await asyncio.sleep(0)
    assert not told
    running.stop()
    running.stop()
    await asyncio.wait_for(task, 10)
    assert first.finished
    assert second.finished
    assert told == ["stopping"]


async def test_a_stop_that_comes_before_the_start_counts() -> None:
    running, *_ = together()
    running.stop()
    await asyncio.wait_for(running.run(), 10)


@pytest.mark.parametrize("error", [TransportError("gone"), Fatal("the teacher"), ValueError("a secret")])
async def test_a_stage_that_fails_stops_the_others_and_is_told(error: BaseException) -> None:
    log = io.StringIO()
    running, first, second = together(log)
    second.ends.set_exception(error)
    with pytest.raises(StageFailed) as failed:
        await asyncio.wait_for(running.run(), 10)
    assert (failed.value.stage, failed.value.error) == ("second", error)
    assert first.finished
    assert "secret" not in log.getvalue() + str(failed.value)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line["stage"]) for line in lines] == [
        ("stage_failed", "second"),
        ("stage_stopped", "first"),
    ]


async def test_a_stage_that_fails_as_it_stops_is_told_too() -> None:
    running, first, _ = together()
    task = asyncio.create_task(running.run())
    await asyncio.sleep(0)
    running.stop()
    first.ends.set_exception(TransportError("gone"))
    with pytest.raises(StageFailed):
        await asyncio.wait_for(task, 10)


async def test_an_end_that_nobody_asked_for_is_a_failure() -> None:
    running, first, second = together()
    first.ends.set_result(None)
    with pytest.raises(StageFailed) as failed:
        await asyncio.wait_for(running.run(), 10)
    assert isinstance(failed.value.error, StageEnded)
    assert second.finished


async def test_health_tells_how_far_each_stage_is() -> None:
    families = RunnerFamilies(CollectorRegistry())
    _, first, second = together()
    health = Health({"first": first, "second": second}, families, wall_s=lambda: 1000.0)
    places = [Partition("in", number) for number in range(3)]
    RunnerMetrics(families, "first").shown(
        dict(zip(places, (5, 0, 7), strict=True)), {}, dict(zip(places, (990.0, 100.0, 970.0), strict=True))
    )
    assert (health.stalled(29.0), health.stalled(31.0)) == (["first"], [])
    ready = [health.ready]
    # The partition without lag has had nothing to do for long.
    assert health.stages() == {
        "first": StageHealth(joined=True, partitions=3, lag_records=12, progress_age_s=30.0),
        "second": StageHealth(joined=True, partitions=0, lag_records=0, progress_age_s=None),
    }
    second.joined = False
    ready.append(health.ready)
    second.joined, health.stopping = True, True
    ready.append(health.ready)
    assert ready == [True, False, False]


# ---------------------------------------------------------------------------------------------------- instances

HOLD = """
import sys
from pathlib import Path
from themis_pipeline.running.instances import claimed
with claimed(None, "p-", Path(sys.argv[1])) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def test_each_process_has_a_name_of_its_own_which_is_free_after_its_death(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = other.stdout.readline().strip()
        with claimed(None, "p-", tmp_path) as ours, claimed(None, "q-", tmp_path) as elsewhere:
            assert ours != theirs
            assert elsewhere == theirs  # of another pipeline
        other.kill()
    with claimed(None, "p-", tmp_path) as again:
        assert again == theirs


def test_a_name_that_is_given_is_taken(tmp_path: Path) -> None:
    with claimed("slot-3", "p-", tmp_path / "none") as name:
        assert name == "slot-3"
    assert not (tmp_path / "none").exists()


def test_where_no_lock_can_be_had_a_name_has_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoInstance, match=r"runner\.instance"), claimed(None, "p-", tmp_path / "file"):
        pass
