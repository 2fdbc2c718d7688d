"""Two replicas under load, of which one freezes or is killed: every item is answered, or has a clear status."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.sidecar_running import Running, running
from themis_client import AsyncClient, DeadlineExceeded, Item, ReplicaPolicy, RetryPolicy
from themis_client.attempts import Attempt
from themis_client.failure import Status
from themis_client.results import Scored

SLOW = "tests.integration.sidecar_slow_process"
WATCHFUL = ReplicaPolicy(check_s=0.2, check_timeout_s=0.3, avoid_s=1.0)
PATIENT = RetryPolicy(attempts=20, base_s=0.05, cap_s=0.5)
CALLERS, ITEMS = 6, 8
WAIT_S = 60.0


@dataclass
class Traffic:
    """Callers that send one call after the other until they are told to stop. late: items of calls that
    ended without any answer; in_a_row: items scored since something failed."""

    client: AsyncClient
    timeout_s: float
    stream: bool = False
    results: list[Scored] = field(default_factory=list)
    late: int = 0
    sent: int = 0
    in_a_row: int = 0
    over: bool = False

    async def caller(self, number: int) -> None:
        call = 0
        while not self.over:
            items = [Item(f"question {number} {call} {one}", "an answer") for one in range(ITEMS)]
            self.sent += ITEMS
            call += 1
            try:
                found = await (self._streamed(items) if self.stream else self._scored(items))
            except DeadlineExceeded:
                self.late += ITEMS
                self.in_a_row = 0
                continue
            assert len(found) == ITEMS
            self.results += found
            self.in_a_row = self.in_a_row + ITEMS if all(result.ok for result in found) else 0

    async def _scored(self, items: list[Item]) -> list[Scored]:
        return list(await self.client.score(items, timeout_s=self.timeout_s))

    async def _streamed(self, items: list[Item]) -> list[Scored]:
        found = {index: result async for index, result in self.client.stream(items, timeout_s=self.timeout_s)}
        return [found[index] for index in range(len(items))]

    @property
    def statuses(self) -> Counter[str]:
        return Counter("OK" if result.ok else result.status.name for result in self.results)  # type: ignore[union-attr]

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.caller(number)) for number in range(CALLERS)]
        try:
            yield
            self.over = True
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


class Witness:
    """How often each replica scored an item."""

    def __init__(self) -> None:
        self.scored: Counter[str] = Counter()

    def __call__(self, attempt: Attempt) -> None:
        self.scored[attempt.replica] += attempt.statuses.count(Status.OK)

    async def sees(self, replica: Running, items: int) -> None:
        """Returns when the replica has scored so many items more."""
        until = self.scored[replica.address] + items
        await holds(lambda: self.scored[replica.address] >= until)


async def holds(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - it changes in other processes
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), WAIT_S)


@asynccontextmanager
async def two(
    folder: Path, timeout_s: float, stream: bool = False
) -> AsyncIterator[tuple[Running, Running, Traffic, Witness]]:
    """Two replicas, and traffic over both that has been going for a while."""
    witness = Witness()
    with running(folder / "one", module=SLOW) as one, running(folder / "other", module=SLOW) as other:
        targets = f"{one.address},{other.address}"
        async with AsyncClient(targets, replicas=WATCHFUL, retry=PATIENT, observe=witness) as client:
            traffic = Traffic(client, timeout_s, stream)
            async with traffic.going():
                await both(witness.sees(one, 50), witness.sees(other, 50))
                yield one, other, traffic, witness


async def both(*waits: Awaitable[None]) -> None:
    await asyncio.gather(*waits)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_other_replica_answers_for_one_that_is_killed(tmp_path: Path, stream: bool) -> None:
    async with two(tmp_path, WAIT_S, stream) as (one, other, traffic, witness):
        one.process.kill()
        await witness.sees(other, 300)
    assert traffic.late == 0
    assert len(traffic.results) == traffic.sent
    assert set(traffic.statuses) == {"OK"}


async def test_a_frozen_replica_costs_deadlines_and_then_the_other_one_answers(tmp_path: Path) -> None:
    async with two(tmp_path, timeout_s=2.0) as (one, _, traffic, witness):
        one.send(signal.SIGSTOP)
        try:
            # Calls that it held run into their deadlines; once its health is known to be gone, none is sent to it.
            await holds(lambda: traffic.in_a_row >= 50 * ITEMS)
        finally:
            one.send(signal.SIGCONT)
        await witness.sees(one, 50)  # and it is found again
    assert len(traffic.results) + traffic.late == traffic.sent
    assert set(traffic.statuses) <= {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert traffic.statuses["OK"] >= 50 * ITEMS
