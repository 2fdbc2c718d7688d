"""The runner broken at every step of a transaction, or killed: each record still comes out once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.runner_members import Member
from tests.integration.runner_world import DEADLINE_S, Topics, assert_accounted, running, values
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.runner.committer import CommitsFail
from themis_pipeline.runner.failpoints import Step


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    made = Topics(kafka.address)
    made.create()
    return made


class Breaks:
    """Fails at a step, a number of times, from its second time on."""

    def __init__(self, step: Step, times: int = 1) -> None:
        self._step = step
        self._times = times
        self.reached = 0

    def reach(self, step: Step) -> None:
        if step is self._step:
            self.reached += 1
            if 2 <= self.reached < 2 + self._times:
                raise TransportError("told to break")


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.REVOKE])
async def test_a_transaction_that_breaks_anywhere_loses_and_doubles_nothing(topics: Topics, step: Step) -> None:
    lost = values("reject", 5)
    written = topics.write([*values("ok", 120), *values("fail:1", 10), *lost])
    breaks = Breaks(step)
    async with running(topics, failpoints=breaks) as one:
        await one.until_read(lambda: topics.lag() == 0)
        assert one.count("themis_pipeline_transactions_total", result="failed") == 1
    assert breaks.reached > 2
    assert_accounted(topics, written, lost)
    assert sum(one.stage.calls.values()) == 120 + 20 + 5  # finished work is kept, and not done again


async def test_transactions_that_go_on_failing_end_the_runner(topics: Topics) -> None:
    topics.write(values("ok", 60))
    with pytest.raises(CommitsFail):
        async with running(topics, failpoints=Breaks(Step.SEND, times=1000)) as one:
            await asyncio.wait({one.task}, timeout=DEADLINE_S)


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.REVOKE])
async def test_a_killed_process_leaves_its_work_to_the_next(topics: Topics, tmp_path: Path, step: Step) -> None:
    written = topics.write(values("ok", 150))
    with Member.start(topics, "0", tmp_path / "calls", step) as killed:
        assert await asyncio.to_thread(killed.ended) == -signal.SIGKILL
    async with running(topics) as one:
        await one.until_read(lambda: topics.lag() == 0)
    assert_accounted(topics, written)
