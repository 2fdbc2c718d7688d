"""Members that join, leave, are thrown out or freeze: whoever has a partition, each record comes out once."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, MemberToRemove  # type: ignore[import-untyped]

from tests.integration.runner_members import Member
from tests.integration.runner_world import (
    DEADLINE_S,
    PARTITIONS,
    QUICK,
    Topics,
    assert_accounted,
    fed,
    running,
    until,
    values,
)
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.failpoints import Step


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    made = Topics(kafka.address)
    made.create()
    return made


@pytest.mark.unsettled
async def test_members_join_and_leave(topics: Topics) -> None:
    written = topics.write([*values("fail:1", 20), *values("two", 20), *values("none", 20)])
    async with running(topics, "a") as first:
        async with fed(topics, "slow:0.1") as more:
            await first.committed(100)
            async with running(topics, "b") as second:
                await second.committed(100)
            assert second.count("themis_pipeline_partitions_moved_total", how="assigned") == PARTITIONS
            await first.until(
                lambda: first.count("themis_pipeline_partitions_moved_total", how="revoked") == PARTITIONS
            )
        await first.until_read(lambda: topics.lag() == 0)
        assert first.count("themis_pipeline_partitions_moved_total", how="assigned") == 3 * PARTITIONS
    assert_accounted(topics, {**written, **more})
    assert first.count("themis_pipeline_partitions_moved_total", how="lost") == 0


async def test_four_members_come_and_go(topics: Topics) -> None:
    written = topics.write(values("fail:1", 20))
    async with running(topics, "a") as first:
        async with fed(topics, "slow:0.1") as more, AsyncExitStack() as others:
            members = [first]
            for slot in "bcd":
                members.append(await others.enter_async_context(running(topics, slot)))
                await members[-1].committed(20)
            for one in members:
                before = one.count("themis_pipeline_committed_records_total")
                await one.committed(int(before) + 20)
        await first.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, {**written, **more})


async def test_what_is_in_hand_outlives_a_change_of_the_group(topics: Topics) -> None:
    """Where the partition stays: only records of those that went are handled again."""
    written = topics.write(values("ok", 32))
    async with running(topics, "a") as first:
        first.stage.gate = asyncio.Event()
        await first.until(lambda: sum(first.stage.calls.values()) == 32)
        async with running(topics, "b") as second:
            await second.until(lambda: sum(second.stage.calls.values()) > 0)
            first.stage.gate.set()
            await first.until_read(lambda: topics.lag() == 0)
            again = sum(second.stage.calls.values())
        assert sum(first.stage.calls.values()) == 32
        assert 0 < again < 32
    assert_accounted(topics, written)


class Blocks:
    """Holds a step up until it is let go."""

    def __init__(self, step: Step, time: int) -> None:
        self._step = step
        self._left = time
        self.there = threading.Event()
        self.go = threading.Event()

    def reach(self, step: Step) -> None:
        if step is self._step:
            self._left -= 1
            if self._left == 0:
                self.there.set()
                assert self.go.wait(DEADLINE_S)


@pytest.mark.parametrize("step", [Step.BEGIN, Step.OFFSETS])
async def test_a_stale_owner_is_refused(topics: Topics, step: Step) -> None:
    """The first member doesn't get through its commit, is thrown out for not joining again, and commits then."""
    blocks = Blocks(step, 3)
    impatient = replace(QUICK, max_poll_interval_s=2.0)
    async with running(topics, "a", failpoints=blocks, transport=impatient) as first:
        async with fed(topics, "slow:0.02") as written:
            await first.until(blocks.there.is_set)
            async with running(topics, "b", transport=impatient) as second:
                await second.committed(60)
                blocks.go.set()
                await first.until(lambda: first.count("themis_pipeline_transactions_total", result="refused") > 0)
                await first.committed(int(first.count("themis_pipeline_committed_records_total")) + 20)
        await first.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written)


async def test_what_is_lost_is_given_up(topics: Topics) -> None:
    async with running(topics, "a") as one:
        async with fed(topics, "slow:0.05") as written:
            await one.committed(40)
            # Who is thrown out amid a change of the group loses nothing: it has let go already.
            while one.count("themis_pipeline_partitions_moved_total", how="lost") == 0:
                await asyncio.to_thread(throw_out, topics)
                await one.committed(int(one.count("themis_pipeline_committed_records_total")) + 40)
            await one.committed(int(one.count("themis_pipeline_committed_records_total")) + 40)
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written)


def throw_out(topics: Topics) -> None:
    admin = KafkaAdminClient(bootstrap_servers=topics.address)
    try:
        group = admin.describe_groups([topics.group])[topics.group]
        admin.remove_group_members(
            topics.group, [MemberToRemove(member_id=one["member_id"]) for one in group["members"]]
        )
    finally:
        admin.close()


@pytest.mark.parametrize("step", [Step.FLUSH, Step.ACKNOWLEDGED, Step.OFFSETS, Step.COMMIT])
async def test_a_process_that_was_frozen_neither_loses_nor_doubles(topics: Topics, tmp_path: Path, step: Step) -> None:
    """Beyond the session's and the transaction's time-outs: another does its work meanwhile. It joins again."""
    written = topics.write([*values("ok", 150), *values("fail:1", 5)])
    with Member.start(topics, "a", tmp_path / "calls", step, 2, signal.SIGSTOP) as frozen:
        await asyncio.to_thread(frozen.frozen)
        async with running(topics, "b") as other:
            await other.until_read(lambda: topics.lag() == 0)
            assert_accounted(topics, written)
            frozen.thaw()
            written |= topics.write([value + b"-later" for value in values("ok", 150)])
            await other.until_read(lambda: topics.lag() == 0)
        # Alone again, it goes on: it has rejoined.
        written |= topics.write([value + b"-last" for value in values("ok", 40)])
        await asyncio.to_thread(until, lambda: topics.lag() == 0)
        assert await asyncio.to_thread(frozen.stopped) == 0
    assert_accounted(topics, written)


class BreaksRevoking:
    def __init__(self) -> None:
        self.times = 0

    def reach(self, step: Step) -> None:
        if step is Step.REVOKE:
            self.times += 1
            raise TransportError("told to break")


async def test_a_revocation_that_breaks_loses_and_doubles_nothing(topics: Topics) -> None:
    breaks = BreaksRevoking()
    async with running(topics, "a", failpoints=breaks) as first:
        async with fed(topics, "slow:0.1") as written:
            await first.committed(40)
            async with running(topics, "b") as second:
                await second.committed(40)
        await first.until_read(lambda: topics.lag() == 0)
    assert breaks.times >= 2
    assert_accounted(topics, written)


async def test_a_process_killed_as_it_lets_go_leaves_its_work_to_the_others(topics: Topics, tmp_path: Path) -> None:
    with Member.start(topics, "a", tmp_path / "calls", Step.REVOKE, 1) as killed:
        async with fed(topics, "slow:0.02") as written:
            await asyncio.to_thread(until, lambda: killed.handled() > 50)
            async with running(topics, "b") as other:
                assert await asyncio.to_thread(killed.ended) == -signal.SIGKILL
                await other.committed(50)
        async with running(topics, "c") as successor:
            await successor.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written)
