"""Two members, killed twenty times by chance while they handle ten thousand records."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.runner_members import Member
from tests.integration.runner_world import Topics, assert_accounted, until, values
from themis_pipeline.local.broker import KafkaBroker

RECORDS, KILLS, SEED = 10_000, 20, 7
PATIENCE_S = 150.0


@pytest.mark.timeout(200)
async def test_twenty_kills_lose_and_double_nothing(kafka: KafkaBroker, tmp_path: Path) -> None:
    topics = Topics(kafka.address)
    topics.create()
    failing, rejected = values("fail:1", RECORDS // 50), values("reject", RECORDS // 100)
    rest = values("slow:0.02", RECORDS - len(failing) - len(rejected))
    mixed = [*failing, *rejected, *rest]
    random.Random(SEED).shuffle(mixed)
    written = topics.write(mixed)
    handled = await asyncio.to_thread(killed_again_and_again, topics, tmp_path)
    assert_accounted(topics, written, rejected)
    # What was in hand of a process that dies is handled again, and no more than that: both windows each time.
    assert RECORDS + len(failing) <= handled < 2 * RECORDS


def killed_again_and_again(topics: Topics, folder: Path) -> int:
    chance = random.Random(SEED)
    # By how much is handled and not by time, so that each comes amid work, on slow machines too.
    when = sorted(chance.sample(range(RECORDS // 20, RECORDS * 9 // 10), KILLS))
    with ExitStack() as opened:
        members = {
            slot: opened.enter_context(Member.start(topics, slot, folder / f"calls-{slot}")) for slot in ("a", "b")
        }

        def handled() -> int:
            return sum(one.handled() for one in members.values())

        for times in when:
            until(lambda times=times: handled() >= times, PATIENCE_S)  # type: ignore[misc]
            slot = chance.choice(sorted(members))
            members[slot].kill()
            members[slot] = opened.enter_context(members[slot].again())
        until(lambda: topics.lag() == 0, PATIENCE_S)
        assert [one.stopped() for one in members.values()] == [0, 0]
        return handled()
