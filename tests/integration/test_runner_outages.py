"""The broker goes away: for a while, and for good."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import JARS, SHORT
from tests.integration.runner_members import Member
from tests.integration.runner_world import DEADLINE_S, LIMITS, Topics, assert_accounted, running, until, values
from themis_pipeline.local.broker import KafkaBroker, kafka_broker
from themis_pipeline.runner.polling import Outage
from themis_pipeline.runner.runner import RunnerLimits
from themis_pipeline.runner.watchdog import EXIT_CODE

# kafka-python 3.0.12 leaves a socket to the garbage collector whose connection is refused.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that nobody else uses."""
    with kafka_broker(tmp_path_factory.mktemp("fragile"), JARS, settings=SHORT) as broker:
        yield broker


@pytest.fixture
def topics(fragile: KafkaBroker) -> Iterator[Topics]:
    made = Topics(fragile.address)
    made.create()
    yield made
    gc.collect()  # here and not amid another test


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_short_outage_is_let_pass(fragile: KafkaBroker, topics: Topics, end: str) -> None:
    written = topics.write([*values("slow:0.05", 300), *values("fail:1", 10)])
    async with running(topics, "a") as first, running(topics, "b") as second:
        await first.committed(20)
        await second.committed(20)
        await asyncio.to_thread(fragile.stop if end == "stop" else fragile.kill)
        await asyncio.to_thread(fragile.start)
        written |= await asyncio.to_thread(topics.write, [value + b"-later" for value in values("ok", 40)])
        await first.until_read(lambda: topics.lag() == 0)
        assert not second.task.done()
    assert_accounted(topics, written)


async def test_an_outage_that_lasts_ends_the_runner(fragile: KafkaBroker, topics: Topics) -> None:
    written = topics.write(values("ok", 20))
    limits = replace(LIMITS, polling=replace(LIMITS.polling, outage_s=3.0, close_s=2.0))
    try:
        with pytest.raises(Outage, match="no broker was heard of for 3 s"):
            await idle_until_the_end(fragile, topics, limits)
    finally:
        await asyncio.to_thread(fragile.start)
    assert_accounted(topics, written)


async def idle_until_the_end(fragile: KafkaBroker, topics: Topics, limits: RunnerLimits) -> None:
    async with running(topics, limits=limits) as one:
        await one.until_read(lambda: topics.lag() == 0)
        await asyncio.to_thread(fragile.kill)
        await asyncio.wait({one.task}, timeout=DEADLINE_S)


ENDS = {
    EXIT_CODE: (b"a transaction took more than 8 s; ends", b"the start of the producer took more than 8 s; ends"),
    1: (b"transactions in a row failed",),
}


async def test_an_outage_amid_a_transaction_ends_the_process(
    fragile: KafkaBroker, topics: Topics, tmp_path: Path
) -> None:
    written = topics.write(values("slow:0.02", 300))
    with Member.start(topics, "a", tmp_path / "calls") as member:
        try:
            await asyncio.to_thread(until, lambda: member.handled() > 60)
            await asyncio.to_thread(fragile.kill)
            code = await asyncio.to_thread(member.ended)
            # By the watchdog where the client waits without a limit, and else by what it said.
            assert any(one in member.said for one in ENDS[code]), (code, member.said.decode()[-6000:])
        finally:
            await asyncio.to_thread(fragile.start)
    async with running(topics, "a") as successor:
        await successor.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written)
