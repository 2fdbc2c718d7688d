"""The servers behind a target: which are there, which are well, and which one gets a conversation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio

from themis_client import health, tracing
from themis_client.addresses import Lookup, Target, getaddrinfo
from themis_client.channels import Connector
from themis_client.deadline import Runtime
from themis_client.errors import Unavailable
from themis_client.gate import Gate
from themis_client.hashing import ranked
from themis_client.health import Health
from themis_proto.v1.judge_pb2_grpc import JudgeServiceStub

if TYPE_CHECKING:
    from themis_proto.v1.judge_pb2_grpc import JudgeServiceAsyncStub


@dataclass(frozen=True, slots=True)
class ReplicaPolicy:
    """load_bound: a replica with more than this times the mean of items in flight passes a conversation on.
    idle_items: below so many items in flight a replica is never passed over, since the mean of next to nothing says
    nothing, and a group's members that come one by one belong together.
    calls: at a time, per replica. avoid_s: for how long one that was UNAVAILABLE is avoided.
    check_s: between checks of health and name. check_timeout_s: for each check."""

    load_bound: float = 1.25
    idle_items: int = 16
    calls: int = 8
    avoid_s: float = 5.0
    check_s: float = 5.0
    check_timeout_s: float = 2.0


class Replica:
    """One server."""

    def __init__(self, address: str, channel: grpc.aio.Channel, calls: int) -> None:
        self.address = address
        self.channel = channel
        self.stub: JudgeServiceAsyncStub = JudgeServiceStub(channel)  # type: ignore[assignment]
        self.gate = Gate(calls)
        self.items_in_flight = 0
        self.healthy = True
        self.avoided_until_s = float("-inf")

    def available(self, now_s: float) -> bool:
        return self.healthy and now_s >= self.avoided_until_s


class Claim:
    """Items that are counted as in flight on a replica. Giving them back twice counts once, so that whoever ends the
    work may do it without knowing how far it got."""

    def __init__(self, replica: Replica, items: int) -> None:
        self.replica = replica
        self._items = items

    def release(self) -> None:
        self.replica.items_in_flight -= self._items
        self._items = 0


class Replicas:
    """Keeps a channel per address. Lives on one event loop."""

    def __init__(
        self,
        target: Target,
        connector: Connector,
        policy: ReplicaPolicy,
        runtime: Runtime,
        lookup: Lookup = getaddrinfo,
    ) -> None:
        self._target = target
        self._connector = connector
        self._policy = policy
        self._runtime = runtime
        self._lookup = lookup
        self._replicas: dict[str, Replica] = {}
        self._retired: list[Replica] = []
        self._opening = asyncio.Lock()
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._replicas)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For a call that carries work: who asks, and the trace that it is part of."""
        return (*self._connector.metadata, *tracing.headers())

    async def open(self) -> None:
        """Finds the addresses, once. Raises Unavailable if there are none."""
        async with self._opening:
            if not self._replicas:
                self._update(await self._target.addresses(self._lookup))
            # With one fixed address there is nothing to choose, so there is nothing to find out either.
            if self._upkeep is None and (self._target.changes or len(self._replicas) > 1):
                self._upkeep = asyncio.create_task(self._keep_up())

    def pick(self, conversation: bytes, items: int, excluded: Collection[str] = ()) -> Replica | None:
        """The replica for a conversation, with `items` counted as in flight on it until a Claim gives them back;
        None if all are excluded. Replicas that are unwell are taken only where no other is left: trying beats giving
        up."""
        left = [replica for address, replica in self._replicas.items() if address not in excluded]
        if not left:
            return None
        now_s = self._runtime.clock()
        usable = [replica for replica in left if replica.available(now_s)] or left
        bound = max(self._policy.idle_items, self._policy.load_bound * _mean_items(usable))
        order = [self._replicas[address] for address in ranked(conversation, [one.address for one in usable])]
        chosen = next((replica for replica in order if replica.items_in_flight <= bound), order[0])
        chosen.items_in_flight += items
        return chosen

    def avoid(self, replica: Replica) -> None:
        """It said, or seems, UNAVAILABLE."""
        replica.avoided_until_s = self._runtime.clock() + self._policy.avoid_s

    async def check(self) -> None:
        """Looks the name up again and asks every replica for its health."""
        # The name server may be away for a while; the addresses that are known go on serving.
        with contextlib.suppress(Unavailable):
            self._update(await self._target.addresses(self._lookup))
        await asyncio.gather(*(self._check(replica) for replica in self._replicas.values()))
        await self._close_retired()

    async def close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
            self._upkeep = None
        everyone = [*self._replicas.values(), *self._retired]
        self._replicas, self._retired = {}, []
        for replica in everyone:
            await replica.channel.close()

    async def _keep_up(self) -> None:
        while True:
            await self._runtime.sleep(self._policy.check_s)
            await self.check()

    async def _check(self, replica: Replica) -> None:
        found = await health.check(replica.channel, self._policy.check_timeout_s, self._connector.metadata)
        replica.healthy = found is not Health.NOT_SERVING

    def _update(self, addresses: tuple[str, ...]) -> None:
        for address in set(self._replicas) - set(addresses):
            self._retired.append(self._replicas.pop(address))
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = Replica(address, self._connector.connect(address), self._policy.calls)

    async def _close_retired(self) -> None:
        # Those that left the name may still be answering: a pod that drains leaves it first.
        idle = [replica for replica in self._retired if not replica.items_in_flight]
        self._retired = [replica for replica in self._retired if replica.items_in_flight]
        for replica in idle:
            await replica.channel.close()


def _mean_items(replicas: Collection[Replica]) -> float:
    return sum(replica.items_in_flight for replica in replicas) / len(replicas)
