"""Two members at work on three brokers, of which one after the other is killed and comes back: each record once.

kafka-python's commit may find no end when its coordinator dies: the member's watchdog then ends the process, and it is
started anew here as an orchestrator does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.three_brokers import ThreeBrokers, three_brokers
from tests.conftest import JARS
from tests.integration.runner_members import Member
from tests.integration.runner_world import Topics, assert_accounted, until, values

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]

RECORDS = 1_500
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeBrokers]:
    with three_brokers(tmp_path_factory.mktemp("cluster"), JARS) as made:
        yield made


@pytest.fixture
def topics(cluster: ThreeBrokers) -> Topics:
    made = Topics(cluster.address)
    made.create()
    return made


@dataclass(slots=True)
class Members:
    """Each is started anew when it has ended."""

    members: list[Member]

    def until(self, what: Callable[[], bool]) -> None:
        until(lambda: self._looked_after() and what(), PATIENCE_S)

    def _looked_after(self) -> bool:
        for place, member in enumerate(self.members):
            if member.process.poll() is not None:
                member.ended()
                self.members[place] = member.again()
        return True


@contextmanager
def two_members(topics: Topics, folder: Path) -> Iterator[Members]:
    """Given when both are at work; stopped gracefully at the end."""
    made = Members([Member.start(topics, slot, folder / slot) for slot in ("a", "b")])
    try:
        made.until(lambda: all(member.handled() > 20 for member in made.members))
        yield made
        made.until(lambda: topics.lag() == 0)
        assert [member.stopped() for member in made.members] == [0, 0]
    finally:
        for member in made.members:
            if member.process.poll() is None:
                member.kill()


def test_a_leader_dies_amid_work(cluster: ThreeBrokers, topics: Topics, tmp_path: Path) -> None:
    """Its partitions get another leader, and all is done before it comes back."""
    written = topics.write(values("slow:0.3", RECORDS))
    [leader, *_] = cluster.leaders(topics.source)
    with two_members(topics, tmp_path) as members:
        cluster.brokers[leader].kill()
        written |= topics.write([b"ok#later-%d" % number for number in range(100)])
        members.until(lambda: topics.lag() == 0)
        assert leader not in cluster.leaders(topics.source)
        cluster.brokers[leader].start()
        members.until(lambda: cluster.in_sync(everything(topics)))
    assert_accounted(topics, written)


def test_each_broker_dies_in_its_turn(cluster: ThreeBrokers, topics: Topics, tmp_path: Path) -> None:
    """The coordinators of group and transactions among them, and who leads the brokers."""
    written = topics.write([*values("slow:0.3", RECORDS), *values("fail:1", 20)])
    with two_members(topics, tmp_path) as members:
        for node, broker in cluster.brokers.items():
            broker.kill()
            written |= topics.write([b"slow:0.3#after-%d-%d" % (node, number) for number in range(400)])
            left = topics.lag()
            members.until(lambda left=left: topics.lag() < left)  # type: ignore[misc]
            broker.start()
            members.until(lambda: cluster.in_sync(everything(topics)))
    assert_accounted(topics, written)


def everything(topics: Topics) -> list[str]:
    return [topics.source, topics.retry, topics.out, topics.dead, "__consumer_offsets", "__transaction_state"]
