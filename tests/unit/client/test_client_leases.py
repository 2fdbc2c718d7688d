"""Leases over real gRPC: renewed whatever happens to a channel, given back when nobody uses their version any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tests.unit.client.clocks import until
from tests.unit.client.judge_double import JudgeDouble
from themis_client import AsyncClient, Item, LeasePolicy
from themis_client.deadline import Runtime
from themis_client.errors import Unavailable
from themis_proto.v1 import judge_pb2_grpc, versions_pb2, versions_pb2_grpc

POLICY = LeasePolicy("a test", ttl_s=600.0)


@dataclass
class LeasesDouble(versions_pb2_grpc.VersionServiceServicer):
    """renewing: whether renewals are answered. released: in order."""

    renewing: asyncio.Event = field(default_factory=asyncio.Event)
    renewals: int = 0
    released: list[str] = field(default_factory=list)

    async def Hold(self, request: versions_pb2.HoldRequest, context: Any) -> versions_pb2.HoldResponse:
        if request.lease_id:
            self.renewals += 1
            await self.renewing.wait()
        lease = versions_pb2.Lease(
            id=request.lease_id or f"lease on {request.version}",
            version=request.version,
            holder=request.holder,
            expires_at=Timestamp(seconds=600),
        )
        return versions_pb2.HoldResponse(lease=lease)

    async def Release(self, request: versions_pb2.ReleaseRequest, context: Any) -> versions_pb2.ReleaseResponse:
        self.released.append(request.lease_id)
        return versions_pb2.ReleaseResponse()

    async def _unused(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    List = Load = Promote = Retire = _unused


@asynccontextmanager
async def serving(judge: JudgeDouble, leases: LeasesDouble) -> AsyncIterator[str]:
    server = grpc.aio.server()
    judge_pb2_grpc.add_JudgeServiceServicer_to_server(judge, server)
    versions_pb2_grpc.add_VersionServiceServicer_to_server(leases, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Sleeps:
    """Sleeps end when a test says so."""

    def __init__(self) -> None:
        self.asleep = 0
        self._awake = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.asleep += 1
        try:
            await self._awake.acquire()
        finally:
            self.asleep -= 1

    def wake(self) -> None:
        self._awake.release()

    @property
    def runtime(self) -> Runtime:
        return Runtime(sleep=self.sleep)


async def test_a_renewal_that_loses_its_channel_is_tried_again() -> None:
    leases, sleeps = LeasesDouble(), Sleeps()
    async with (
        serving(JudgeDouble(), leases) as address,
        AsyncClient(address, lease=POLICY, runtime=sleeps.runtime) as client,
    ):
        await client.score([Item("q", "0.5")])
        held = client.lease
        assert held is not None
        await until(lambda: sleeps.asleep == 1)
        sleeps.wake()
        await until(lambda: leases.renewals == 1)
        await client.disconnect()  # as before a fork
        await until(lambda: sleeps.asleep == 1)
        assert isinstance(held.lost, Unavailable)
        leases.renewing.set()
        sleeps.wake()
        await until(lambda: held.lost is None)
        assert leases.renewals == 2
    assert leases.released == ["lease on v1"]
    assert held.lost is None


async def test_a_renewal_that_ends_by_itself_is_told() -> None:
    async def broken(seconds: float) -> None:
        raise OSError("no clock")

    async with (
        serving(JudgeDouble(), LeasesDouble()) as address,
        AsyncClient(address, lease=POLICY, runtime=Runtime(sleep=broken)) as client,
    ):
        await client.score([Item("q", "0.5")])
        held = client.lease
        assert held is not None
        await until(lambda: held.lost is not None)
        assert "OSError: no clock" in str(held.lost)


async def test_the_old_version_is_held_until_its_last_call_has_ended() -> None:
    judge, leases = JudgeDouble(versions=("v1", "v2")), LeasesDouble()
    async with serving(judge, leases) as address, AsyncClient(address, lease=POLICY) as client:
        await client.score([Item("q", "0.5")])
        judge.answering.clear()
        stream = client.stream([Item("q", "0.5")])
        calls = [asyncio.ensure_future(work) for work in (client.score([Item("q", "0.5")]), anext(stream))]
        await until(lambda: len(judge.calls("Score")) == 2 and len(judge.calls("StreamScores")) == 1)
        judge.current = "v2"
        assert await client.refresh_version() == "v2"
        assert client.lease is not None
        assert client.lease.lease.version == "v2"
        judge.current = "v1"
        assert await client.refresh_version() == "v1"  # still held: nothing is asked for
        judge.current = "v2"
        assert await client.refresh_version() == "v2"
        judge.answering.set()
        await asyncio.gather(*calls)
        await until(lambda: "lease on v2" in leases.released)
        assert leases.released == ["lease on v2"]  # of the first refresh; the stream goes on
        await stream.aclose()
        await until(lambda: "lease on v1" in leases.released)
    assert leases.released == ["lease on v2", "lease on v1", "lease on v2"]


async def test_a_version_that_nobody_uses_is_given_back_at_once() -> None:
    judge, leases = JudgeDouble(versions=("v1", "v2")), LeasesDouble()
    async with serving(judge, leases) as address, AsyncClient(address, lease=POLICY) as client:
        await client.score([Item("q", "0.5")])
        judge.current = "v2"
        await client.refresh_version()
        await until(lambda: leases.released == ["lease on v1"])
    assert leases.released == ["lease on v1", "lease on v2"]
